# Deep Mutual Learning: student and teacher learn together from each other's predictions.
_base_ = [
    '../_base_/datasets/streets.py',
    '../_base_/models/demo.py',
    '../_base_/schedules/sgd_800.py',
    '../_base_/runtime/default.py',
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
        )
    ],
)
optim_wrapper = dict(
    _delete_=True,
    constructor='mmadm.RoleOptimWrapperConstructor',
    student=dict(optimizer={{_base_.optimizer}}),
    teacher=dict(optimizer={{_base_.optimizer}}),
)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=200))
