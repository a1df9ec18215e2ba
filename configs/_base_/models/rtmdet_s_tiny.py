# RTMDet-s and RTMDet-tiny: mutual learning on the class maps and ADM on every level of the neck.
model = dict(
    type='mmadm.Distillation',
    roles=dict(
        student=dict(cfg='mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'),
        teacher=dict(cfg='mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py', checkpoint=None),
    ),
    frozen=[],  # ['teacher'] with a checkpoint makes the same run offline
    deploy='student',
    distillers=[
        dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits'),
        dict(type='mmadm.ADM', student='student', teacher='teacher', at='feats'),
    ],
)
