# ADM on top of KDCL, RetinaNet R101 and R50 on COCO: 8 GPUs, 2 images each, 12 epochs.
_base_ = './kdcl_retinanet_r101_r50_fpn_1x_coco.py'
model = dict(
    distillers=[
        dict(type='mmadm.KDCL', roles=['student', 'teacher'], ensemble='naive', at='logits'),
        dict(type='mmadm.ADM', student='student', teacher='teacher', at='feats'),
    ]
)
