# Plain teacher: the student's network with three times the channels.
_base_ = [
    '../_base_/datasets/bccd.py',
    '../_base_/models/bccd.py',
    '../_base_/schedules/sgd_800_detection.py',
    '../_base_/runtime/detection.py',
]
model = {{_base_.teacher}}
val_cfg = dict(_delete_=True, type='ValLoop')
custom_hooks = [dict(type='mmadm.ChannelsLastHook')]
