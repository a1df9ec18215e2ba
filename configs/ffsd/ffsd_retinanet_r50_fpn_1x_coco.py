# FFSD, two students and a leader, RetinaNet R50 on COCO: 8 GPUs, 2 images each, 12 epochs. The neck is fused level by
# level; its coarsest map is smaller than any stage of the backbone, so there is no self-distillation.
_base_ = [
    '../_base_/datasets/coco.py',
    '../_base_/schedules/sgd_1x.py',
    '../_base_/runtime/detection_epochs.py',
]
network = dict(cfg='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
model = dict(
    type='mmadm.Distillation',
    roles=dict(first=network, second=network, leader=network),
    deploy='leader',
    distillers=[
        dict(type='mmadm.FFSD', students=['first', 'second'], leader='leader', at='feats', warmup=2000),
    ],
)
optim_wrapper = dict(
    _delete_=True,
    constructor='mmadm.RoleOptimWrapperConstructor',
    first=dict(optimizer={{_base_.optimizer}}),
    second=dict(optimizer={{_base_.optimizer}}),
    leader=dict(optimizer={{_base_.optimizer}}),
    fusion=dict(optimizer={{_base_.optimizer}}),
)
default_hooks = dict(checkpoint=dict(save_best='leader/coco/bbox_mAP'))
