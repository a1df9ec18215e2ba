# ADM on top of SwitOKD, RetinaNet R101 and R50 on COCO: 8 GPUs, 2 images each, 12 epochs.
_base_ = './switokd_retinanet_r101_r50_fpn_1x_coco.py'
model = dict(
    distillers=[
        dict(type='mmadm.SwitOKD', student='student', teacher='teacher', at='logits'),
        dict(type='mmadm.ADM', student='student', teacher='teacher', at='feats'),
    ]
)
