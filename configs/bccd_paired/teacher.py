# Plain teacher, from ImageNet weights, too.
_base_ = [
    '../_base_/datasets/bccd.py',
    '../_base_/models/bccd_paired.py',
    '../_base_/schedules/sgd_1000.py',
    '../_base_/runtime/detection.py',
]
model = {{_base_.teacher}}
val_cfg = dict(_delete_=True, type='ValLoop')
custom_hooks = [dict(type='mmadm.ChannelsLastHook')]
