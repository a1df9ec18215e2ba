# Plain student: a stock MMSegmentation model, trained alone.
_base_ = [
    '../_base_/datasets/streets.py',
    '../_base_/models/demo.py',
    '../_base_/schedules/sgd_800.py',
    '../_base_/runtime/default.py',
]
model = {{_base_.student}}
val_cfg = dict(_delete_=True, type='ValLoop')
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=200))
