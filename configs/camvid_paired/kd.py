# Offline KD from the teacher that configs/camvid_paired/teacher.py has trained; another path goes into
# model.roles.teacher.checkpoint.
_base_ = [
    '../_base_/datasets/camvid.py',
    '../_base_/models/camvid_paired.py',
    '../_base_/schedules/sgd_3000.py',
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
        teacher=dict(cfg={{_base_.teacher}}, checkpoint='work_dirs/teacher/iter_3000.pth'),
    ),
    frozen=['teacher'],
    deploy='student',
    distillers=[kd],
)
custom_hooks = [dict(type='mmadm.ChannelsLastHook')]
