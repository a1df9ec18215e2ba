# FFSD: two students and a leader, all of them the plain student's network. The neck is fused level by level.
_base_ = [
    '../_base_/datasets/bccd.py',
    '../_base_/models/bccd_paired.py',
    '../_base_/schedules/sgd_1000.py',
    '../_base_/runtime/detection.py',
]
model = dict(
    type='mmadm.Distillation',
    roles=dict(first={{_base_.student}}, second={{_base_.student}}, leader={{_base_.student}}),
    deploy='leader',
    distillers=[
        dict(type='mmadm.FFSD', students=['first', 'second'], leader='leader', at='feats', warmup=100),
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
custom_hooks = [dict(type='mmadm.ChannelsLastHook')]
