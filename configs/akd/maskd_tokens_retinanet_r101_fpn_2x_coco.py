# Receptive tokens on the neck of RetinaNet R101, for masked distillation: 8 GPUs, 2 images each, 2,000 iterations.
# Validation scores what the teacher still detects with masked features.
_base_ = [
    '../_base_/datasets/coco.py',
    '../_base_/schedules/adam_tokens.py',
    '../_base_/runtime/detection.py',
]
model = dict(
    type='mmadm.TokenTraining',
    roles=dict(
        teacher=dict(
            cfg='mmdet::retinanet/retinanet_r101_fpn_2x_coco.py',
            checkpoint='https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_r101_fpn_2x_coco/retinanet_r101_fpn_2x_coco_20200131-5560aee8.pth',
        )
    ),
    at='feats',
    tokens=6,
)
train_dataloader = dict(sampler=dict(type='InfiniteSampler'))
