# ADM on top of mutual learning, for detectors: similarity maps on every level of the neck.
_base_ = [
    '../_base_/datasets/streets_boxes.py',
    '../_base_/models/demo_detection.py',
    '../_base_/schedules/adamw_800.py',
    '../_base_/runtime/detection.py',
]
model = dict(
    type='mmadm.Distillation',
    roles=dict(student={{_base_.student}}, teacher={{_base_.teacher}}),
    deploy='student',
    distillers=[
        dict(
            type='mmadm.MutualLearning',
            roles=['student', 'teacher'],
            at='logits',
            # early on both networks are poor teachers, and this schedule is short
            schedule=dict(warmup='linear', length=600),
        ),
        dict(type='mmadm.ADM', student='student', teacher='teacher', at='feats', foreground=True),
    ],
)
optim_wrapper = dict(
    _delete_=True,
    constructor='mmadm.RoleOptimWrapperConstructor',
    student=dict(optimizer={{_base_.optimizer}}),
    teacher=dict(optimizer={{_base_.optimizer}}),
)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=200))
