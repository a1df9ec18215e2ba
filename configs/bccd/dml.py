# Deep Mutual Learning: student and teacher learn together from each other's predictions.
_base_ = [
    '../_base_/datasets/bccd.py',
    '../_base_/models/bccd.py',
    '../_base_/schedules/sgd_800_detection.py',
    '../_base_/runtime/detection.py',
]
model = dict(
    type='mmadm.Distillation',
    roles=dict(student={{_base_.student}}, teacher={{_base_.teacher}}),
    deploy='student',
    distillers=[dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits')],
)
optim_wrapper = dict(
    _delete_=True,
    constructor='mmadm.RoleOptimWrapperConstructor',
    student=dict(optimizer={{_base_.optimizer}}),
    teacher=dict(optimizer={{_base_.optimizer}}),
)
custom_hooks = [dict(type='mmadm.ChannelsLastHook', roles=['teacher'])]
