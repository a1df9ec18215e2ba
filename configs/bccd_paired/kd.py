# Offline KD from the teacher that configs/bccd_paired/teacher.py has trained; another path goes into
# model.roles.teacher.checkpoint.
_base_ = [
    '../_base_/datasets/bccd.py',
    '../_base_/models/bccd_paired.py',
    '../_base_/schedules/sgd_1000.py',
    '../_base_/runtime/detection.py',
]
kd = dict(
    type='mmadm.Transfer',
    source='teacher',
    learner='student',
    at='logits',
    loss=dict(type='KLDivergence', tau=1.0),
    weight=1.0,
)
model = dict(
    type='mmadm.Distillation',
    roles=dict(
        student={{_base_.student}},
        teacher=dict(cfg={{_base_.teacher}}, checkpoint='work_dirs/teacher/iter_1000.pth'),
    ),
    frozen=['teacher'],
    deploy='student',
    distillers=[kd],
)
custom_hooks = [dict(type='mmadm.ChannelsLastHook')]
