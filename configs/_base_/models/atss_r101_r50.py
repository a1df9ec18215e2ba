# ATSS R101 and R50: mutual learning on the class maps and ADM on every level of the neck.
model = dict(
    type='mmadm.Distillation',
    roles=dict(
        student=dict(cfg='mmdet::atss/atss_r50_fpn_1x_coco.py'),
        teacher=dict(cfg='mmdet::atss/atss_r101_fpn_1x_coco.py', checkpoint=None),
    ),
    frozen=[],  # ['teacher'] with a checkpoint makes the same run offline
    deploy='student',
    distillers=[
        dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits'),
        dict(type='mmadm.ADM', student='student', teacher='teacher', at='feats'),
    ],
)
