# AKD on channel-wise distillation of the neck and smooth L1 on the points of both stages; RepPoints X101 with deformable
# convolutions teaches R50: 8 GPUs, 2 images each, 24 epochs.
# Another teacher file goes into model.roles.teacher.checkpoint.
_base_ = [
    '../_base_/datasets/coco.py',
    '../_base_/distillers/akd_detection.py',
    '../_base_/schedules/sgd_2x.py',
    '../_base_/runtime/detection_epochs.py',
]
# each weight is for one level, see akd_detection.py
edge = dict(type='mmadm.Transfer', source='teacher', learner='student')
cwd = dict(
    at='feats', loss=dict(type='ChannelWiseDivergence', tau=1.0), avatars={{_base_.avatars}}, weight=5 * 7.5, **edge
)
points = dict(loss=dict(type='mmdet.SmoothL1Loss'), **edge)
init = dict(at='bbox_head.reppoints_pts_init_out', weight=5 * 0.2, **points)
refine = dict(at='bbox_head.reppoints_pts_refine_out', weight=5 * 0.1, **points)
model = dict(
    type='mmadm.Distillation',
    roles=dict(
        student=dict(cfg='mmdet::reppoints/reppoints-moment_r50_fpn-gn_head-gn_2x_coco.py'),
        teacher=dict(
            cfg='mmdet::reppoints/reppoints-moment_x101-dconv-c3-c5_fpn-gn_head-gn_2x_coco.py',
            checkpoint='https://download.openmmlab.com/mmdetection/v2.0/reppoints/reppoints_moment_x101_fpn_dconv_c3-c5_gn-neck%2Bhead_2x_coco/reppoints_moment_x101_fpn_dconv_c3-c5_gn-neck%2Bhead_2x_coco_20200329-f87da1ea.pth',
        ),
    ),
    frozen=['teacher'],
    deploy='student',
    distillers=[cwd, init, refine],
)
