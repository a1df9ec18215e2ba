# GFL R101 and R50: mutual learning on the class maps and ADM on every level of the neck.
# Only the network is taken from the teacher's file; MMDetection has no 1x file for R101.
model = dict(
    type='mmadm.Distillation',
    roles=dict(
        student=dict(cfg='mmdet::gfl/gfl_r50_fpn_1x_coco.py'),
        teacher=dict(cfg='mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py', checkpoint=None),
    ),
    frozen=[],  # ['teacher'] with a checkpoint makes the same run offline
    deploy='student',
    distillers=[
        dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits'),
        dict(type='mmadm.ADM', student='student', teacher='teacher', at='feats'),
    ],
)
