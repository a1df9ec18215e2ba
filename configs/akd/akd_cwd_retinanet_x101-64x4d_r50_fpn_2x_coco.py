# AKD on channel-wise distillation of the neck, RetinaNet X101 (64x4d) teaches R50. The teacher is the file of the 1x
# schedule, which scores 41.0 AP; that of the 2x schedule scores 40.8.
_base_ = './akd_cwd_retinanet_r101_r50_fpn_2x_coco.py'
model = dict(
    roles=dict(
        teacher=dict(
            cfg='mmdet::retinanet/retinanet_x101-64x4d_fpn_1x_coco.py',
            checkpoint='https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_x101_64x4d_fpn_1x_coco/retinanet_x101_64x4d_fpn_1x_coco_20200130-366f5af1.pth',
        )
    )
)
