# DINOv3, ViT-S/16, by timm: a backbone alone, which teaches features.
model = dict(
    type='mmadm.FeatureTeacher',
    backbone=dict(module='timm:create_model', model_name='vit_small_patch16_dinov3', dynamic_img_size=True),
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
)
