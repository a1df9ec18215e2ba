# Cascade R-CNN as the teacher of a Faster R-CNN student: two iterations and a validation.
_base_ = './faster_rcnn.py'
roi_head = dict(
    type='CascadeRoIHead',
    num_stages=3,
    stage_loss_weights=[1, 0.5, 0.25],
    bbox_roi_extractor=dict(
        type='SingleRoIExtractor',
        roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
        out_channels=32,
        featmap_strides=[4, 8, 16, 32],
    ),
    bbox_head=[
        dict(
            type='Shared2FCBBoxHead',
            in_channels=32,
            fc_out_channels=64,
            roi_feat_size=7,
            num_classes=80,
            reg_class_agnostic=True,
            bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=stds),
        )
        for stds in ([0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067])
    ],
)
rcnn_train = [
    dict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=iou, neg_iou_thr=iou, min_pos_iou=iou),
        sampler=dict(type='RandomSampler', num=64, pos_fraction=0.25, add_gt_as_proposals=True),
        pos_weight=-1,
        debug=False,
    )
    for iou in (0.5, 0.6, 0.7)
]
model = dict(
    roles=dict(
        teacher=dict(
            type='CascadeRCNN',
            roi_head=dict(_delete_=True, **roi_head),
            train_cfg=dict(rcnn=rcnn_train),
        )
    )
)
