# Faster R-CNN R101 and R50: mutual learning on the class scores of shared regions and ADM on every level of the neck.
model = dict(
    type='mmadm.Distillation',
    roles=dict(
        student=dict(cfg='mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'),
        teacher=dict(cfg='mmdet::faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py', checkpoint=None),
    ),
    frozen=[],  # ['teacher'] with a checkpoint makes the same run offline
    deploy='student',
    distillers=[
        dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits'),
        dict(type='mmadm.ADM', student='student', teacher='teacher', at='feats'),
    ],
)
