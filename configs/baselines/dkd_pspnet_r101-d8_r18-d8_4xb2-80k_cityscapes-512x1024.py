# Decoupled KD of the logits, PSPNet R101 teaches R18. Temperature, alpha and beta are those that the paper gives for
# image classification; it has no figure for segmentation.
_base_ = './kd_pspnet_r101-d8_r18-d8_4xb2-80k_cityscapes-512x1024.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='logits',
            loss=dict(type='DecoupledKL', tau=4.0, alpha=1.0, beta=8.0),
        )
    ]
)
