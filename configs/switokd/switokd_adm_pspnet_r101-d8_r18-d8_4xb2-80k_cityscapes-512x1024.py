# ADM on top of SwitOKD, PSPNet R101 and R18 on Cityscapes: 4 GPUs, 2 images each, 80k iterations.
_base_ = './switokd_pspnet_r101-d8_r18-d8_4xb2-80k_cityscapes-512x1024.py'
model = dict(
    distillers=[
        dict(type='mmadm.SwitOKD', student='student', teacher='teacher', at='logits'),
        # weights and tau that were chosen on CamVid, at a small size
        dict(type='mmadm.ADM', student='student', teacher='teacher', at='backbone.layer4', consensus=30.0, tau=0.5),
    ]
)
