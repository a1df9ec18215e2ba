# Plain teacher, from ImageNet weights, too.
_base_ = [
    '../_base_/datasets/camvid.py',
    '../_base_/models/camvid_paired.py',
    '../_base_/schedules/sgd_3000.py',
    '../_base_/runtime/default.py',
]
model = {{_base_.teacher}}
val_cfg = dict(_delete_=True, type='ValLoop')
custom_hooks = [dict(type='mmadm.ChannelsLastHook')]
