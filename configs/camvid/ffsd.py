# FFSD: two students and a leader, all of them the plain student's network.
_base_ = [
    '../_base_/datasets/camvid.py',
    '../_base_/models/camvid.py',
    '../_base_/schedules/sgd_1500.py',
    '../_base_/runtime/default.py',
]
model = dict(
    type='mmadm.Distillation',
    roles=dict(first={{_base_.student}}, second={{_base_.student}}, leader={{_base_.student}}),
    deploy='leader',
    distillers=[
        dict(
            type='mmadm.FFSD',
            students=['first', 'second'],
            leader='leader',
            at='pre_logits',
            shallow=['backbone.layer3', 'backbone.layer2', 'backbone.layer1'],
            warmup=100,
        )
    ],
)
optim_wrapper = dict(
    _delete_=True,
    constructor='mmadm.RoleOptimWrapperConstructor',
    first=dict(optimizer={{_base_.optimizer}}),
    second=dict(optimizer={{_base_.optimizer}}),
    leader=dict(optimizer={{_base_.optimizer}}),
    fusion=dict(optimizer={{_base_.optimizer}}),
    self_distillation=dict(optimizer=dict(type='Adam', lr=0.001)),
)
custom_hooks = [dict(type='mmadm.ChannelsLastHook')]
