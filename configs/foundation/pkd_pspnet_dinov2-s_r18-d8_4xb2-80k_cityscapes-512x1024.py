# Pearson distance (PKD) to what DINOv2 puts out, PSPNet R18 learns: 4 GPUs, 2 images each, 80k iterations. Nothing was tuned.
# Meta's own file.
_base_ = '../baselines/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'
model = dict(
    roles=dict(
        teacher=dict(
            cfg='mmadm::_base_/models/dinov2_small.py',
            checkpoint='https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth',
        )
    ),
    frozen=['teacher'],
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at=dict(student='backbone.layer4', teacher='feats'),
            loss=dict(type='PearsonDistance'),
            weight=10.0,
        )
    ],
)
