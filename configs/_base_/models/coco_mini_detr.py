# Two DETRs without their heads: ResNet-18 and -50 with a quarter of the channels, random weights, 3 levels (strides 16
# to 64), encoder and decoder of one and two layers. Their queries do not correspond, so they have no logits to compare.
data_preprocessor = dict(
    type='DetDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_size_divisor=1,
)
backbone = dict(type='ResNet', base_channels=16, out_indices=(2, 3), norm_cfg=dict(type='BN'), norm_eval=False)
neck = dict(
    type='ChannelMapper',
    kernel_size=1,
    out_channels=256,  # DINO takes nothing else
    act_cfg=None,
    norm_cfg=dict(type='GN', num_groups=32),
    num_outs=3,
)
attention = dict(embed_dims=256, batch_first=True)
ffn = dict(embed_dims=256, feedforward_channels=256)
encoder_layer = dict(self_attn_cfg=dict(num_levels=3, **attention), ffn_cfg=ffn)
decoder_layer = dict(
    self_attn_cfg=dict(num_heads=8, **attention), cross_attn_cfg=dict(num_levels=3, **attention), ffn_cfg=ffn
)
common = dict(
    data_preprocessor=data_preprocessor,
    num_queries=20,
    num_feature_levels=3,
    encoder=dict(num_layers=1, layer_cfg=encoder_layer),
    decoder=dict(num_layers=2, return_intermediate=True, layer_cfg=decoder_layer, post_norm_cfg=None),
    positional_encoding=dict(num_feats=128, normalize=True, offset=-0.5),
    bbox_head=dict(
        num_classes=80,
        sync_cls_avg_factor=True,
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0),
    ),
    train_cfg=dict(
        assigner=dict(
            type='HungarianAssigner',
            match_costs=[
                dict(type='FocalLossCost', weight=2.0),
                dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                dict(type='IoUCost', iou_mode='giou', weight=2.0),
            ],
        )
    ),
    test_cfg=dict(max_per_img=20),
)

model = dict(
    type='mmadm.Distillation',
    roles=dict(
        student=dict(backbone=dict(depth=18, **backbone), neck=dict(in_channels=[64, 128], **neck), **common),
        teacher=dict(backbone=dict(depth=50, **backbone), neck=dict(in_channels=[256, 512], **neck), **common),
    ),
    deploy='student',
    distillers=[dict(type='mmadm.ADM', at=['feats', 'encoder'])],
)
