# Receptive tokens on the neck of the teacher that configs/bccd/teacher.py has trained, for masked distillation; another
# path goes into model.roles.teacher.checkpoint. Validation scores what the teacher still detects with masked features.
_base_ = [
    '../_base_/datasets/bccd.py',
    '../_base_/models/bccd.py',
    '../_base_/schedules/adam_tokens.py',
    '../_base_/runtime/detection.py',
]
max_iters = 400
model = dict(
    type='mmadm.TokenTraining',
    roles=dict(teacher=dict(cfg={{_base_.teacher}}, checkpoint='work_dirs/teacher/iter_800.pth')),
    at='feats',
    tokens=6,
)
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=max_iters, T_max=max_iters)]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
