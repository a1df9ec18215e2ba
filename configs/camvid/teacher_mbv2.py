# Plain teacher that starts from ImageNet weights.
_base_ = [
    '../_base_/datasets/camvid.py',
    '../_base_/models/camvid.py',
    '../_base_/schedules/sgd_1500.py',
    '../_base_/runtime/default.py',
]
model = {{_base_.teacher_mbv2}}
val_cfg = dict(_delete_=True, type='ValLoop')
custom_hooks = [dict(type='mmadm.ChannelsLastHook')]
