# Pearson distance (PKD) to what DINOv3 puts out, PSPNet R18 learns: 4 GPUs, 2 images each, 80k iterations. Nothing was tuned.
# The file is written by: python -c "import timm, torch; torch.save(timm.create_model('vit_small_patch16_dinov3',
# pretrained=True).state_dict(), 'weights/vit_small_patch16_dinov3.pth')"
_base_ = '../baselines/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'
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
            at=dict(student='backbone.layer4', teacher='feats'),
            loss=dict(type='PearsonDistance'),
            weight=10.0,
        )
    ],
)
