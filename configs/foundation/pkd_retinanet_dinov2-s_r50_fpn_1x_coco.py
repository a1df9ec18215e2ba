# Pearson distance (PKD) to what DINOv2 puts out, RetinaNet R50 learns at the level of its neck with stride 16: 8 GPUs,
# 2 images each, 12 epochs. Nothing was tuned.
# Meta's own file.
_base_ = '../baselines/retinanet_r50_fpn_1x_coco.py'
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
            at=dict(student='feats[1]', teacher='feats'),
            loss=dict(type='PearsonDistance'),
            weight=10.0,
        )
    ],
)
