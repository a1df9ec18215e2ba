# Pearson distance (PKD) to what DINOv3 puts out, RetinaNet R50 learns at the level of its neck with stride 16: 8 GPUs,
# 2 images each, 12 epochs. Nothing was tuned.
# The file is written by: python -c "import timm, torch; torch.save(timm.create_model('vit_small_patch16_dinov3',
# pretrained=True).state_dict(), 'weights/vit_small_patch16_dinov3.pth')"
_base_ = '../baselines/retinanet_r50_fpn_1x_coco.py'
model = dict(
    roles=dict(
        teacher=dict(
            cfg='mmadm::_base_/models/dinov3_small.py',
            checkpoint='{{$MMADM_WEIGHTS:weights}}/vit_small_patch16_dinov3.pth',
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
