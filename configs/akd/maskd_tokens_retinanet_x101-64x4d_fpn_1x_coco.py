# Receptive tokens on the neck of RetinaNet X101 (64x4d), for masked distillation.
_base_ = './maskd_tokens_retinanet_r101_fpn_2x_coco.py'
model = dict(
    roles=dict(
        teacher=dict(
            cfg='mmdet::retinanet/retinanet_x101-64x4d_fpn_1x_coco.py',
            checkpoint='https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_x101_64x4d_fpn_1x_coco/retinanet_x101_64x4d_fpn_1x_coco_20200130-366f5af1.pth',
        )
    )
)
