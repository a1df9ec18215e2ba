# KD of the logits, PSPNet R101 teaches R18: 4 GPUs, 2 images each, 80k iterations. Temperature and weight are those of
# CIRKD's program for Cityscapes. Another teacher file goes into model.roles.teacher.checkpoint.
_base_ = '../akd/akd_cwd_pspnet_r101-d8_r18-d8_4xb2-80k_cityscapes-512x1024.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='logits',
            loss=dict(type='KLDivergence', tau=1.0),
        )
    ]
)
