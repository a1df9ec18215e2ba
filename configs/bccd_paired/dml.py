# Deep Mutual Learning: student and teacher learn together from each other's predictions.
_base_ = [
    '../_base_/datasets/bccd.py',
    '../_base_/models/bccd_paired.py',
    '../_base_/schedules/sgd_1000.py',
    '../_base_/runtime/detection.py',
]
dml = dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits')
model = dict(
    type='mmadm.Distillation',
    roles=dict(student={{_base_.student}}, teacher={{_base_.teacher}}),
    deploy='student',
    distillers=[dml],
)
optim_wrapper = dict(
    _delete_=True,
    constructor='mmadm.RoleOptimWrapperConstructor',
    student=dict(optimizer={{_base_.optimizer}}),
    teacher=dict(optimizer={{_base_.optimizer}}),
)
custom_hooks = [dict(type='mmadm.ChannelsLastHook')]
