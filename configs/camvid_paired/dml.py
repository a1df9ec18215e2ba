# Deep Mutual Learning: student and teacher learn together from each other's predictions.
_base_ = [
    '../_base_/datasets/camvid.py',
    '../_base_/models/camvid_paired.py',
    '../_base_/schedules/sgd_3000.py',
    '../_base_/runtime/default.py',
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
