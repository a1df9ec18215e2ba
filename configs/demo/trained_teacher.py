# The teacher of `make demo`: the student's network, twice as wide, trained on many other streets by `make demo-teacher`.
_base_ = './small_student.py'

max_iters = 700
model = dict(
    backbone=dict(base_channels=12, stem_channels=12),
    neck=dict(in_channels=[12, 24, 48, 96], out_channels=24),
    decode_head=dict(in_channels=[24, 24, 24, 24], channels=24),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', eta_min=1e-4, power=0.9, by_epoch=False, begin=30, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=350)
