# Offline KD from the teacher that configs/camvid/teacher_mbv2.py has trained; another path goes into
# model.roles.teacher.checkpoint.
_base_ = [
    '../_base_/datasets/camvid.py',
    '../_base_/models/camvid.py',
    '../_base_/schedules/sgd_1500.py',
    '../_base_/runtime/default.py',
]
kd = dict(
    type='mmadm.Transfer',
    source='teacher',
    learner='student',
    at='logits',
    loss=dict(type='KLDivergence', tau=1.0),
    weight=3.0,
)
model = dict(
    type='mmadm.Distillation',
    roles=dict(
        student={{_base_.student}},
        teacher=dict(cfg={{_base_.teacher_mbv2}}, checkpoint='work_dirs/teacher_mbv2/iter_1500.pth'),
    ),
    frozen=['teacher'],
    deploy='student',
    distillers=[kd],
)
custom_hooks = [dict(type='mmadm.ChannelsLastHook')]
