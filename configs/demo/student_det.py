# Plain detection student: a stock MMDetection model, trained alone.
_base_ = [
    '../_base_/datasets/streets_boxes.py',
    '../_base_/models/demo_detection.py',
    '../_base_/schedules/adamw_800.py',
    '../_base_/runtime/detection.py',
]
model = {{_base_.student}}
val_cfg = dict(_delete_=True, type='ValLoop')
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=200))
