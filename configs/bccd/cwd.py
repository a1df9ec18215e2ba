# Channel-wise distillation on every level of the neck from the teacher that configs/bccd/teacher.py has trained, with
# the published temperature and weight; another path goes into model.roles.teacher.checkpoint.
_base_ = [
    '../_base_/datasets/bccd.py',
    '../_base_/models/bccd.py',
    '../_base_/schedules/sgd_800_detection.py',
    '../_base_/runtime/detection.py',
]
model = dict(
    type='mmadm.Distillation',
    roles=dict(
        student={{_base_.student}},
        teacher=dict(cfg={{_base_.teacher}}, checkpoint='work_dirs/teacher/iter_800.pth'),
    ),
    frozen=['teacher'],
    deploy='student',
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='feats',
            loss=dict(type='ChannelWiseDivergence', tau=1.0),
            weight=3 * 10.0,  # published for each level; Transfer takes the mean over the three
        )
    ],
)
custom_hooks = [dict(type='mmadm.ChannelsLastHook', roles=['teacher'])]
