# AKD on masked generative distillation of the neck and DIST on the class scores of shared regions; Cascade Mask R-CNN
# X101 (64x4d, 45.6 AP) teaches Faster R-CNN R50. Boxes do not correspond and are left out: a cascade predicts 4 numbers
# for all classes, each stage on boxes that the former one refined, the student 4 for each class on the regions.
_base_ = './akd_mgd_faster-rcnn_r101_r50_fpn_2x_coco.py'
model = dict(
    roles=dict(
        teacher=dict(
            cfg='mmdet::cascade_rcnn/cascade-mask-rcnn_x101-64x4d_fpn_20e_coco.py',
            checkpoint='https://download.openmmlab.com/mmdetection/v2.0/cascade_rcnn/cascade_mask_rcnn_x101_64x4d_fpn_20e_coco/cascade_mask_rcnn_x101_64x4d_fpn_20e_coco_20200512_161033-bdb5126a.pth',
        )
    ),
    distillers=[{{_base_.mgd_two_stage}}, {{_base_.scores}}],
)
