# FFSD: two students and a leader, all of them the plain student's network. The classifier's input has the stride of the
# first stage that is read, so there are no shallower features for a chain.
_base_ = [
    '../_base_/datasets/camvid.py',
    '../_base_/models/camvid_paired.py',
    '../_base_/schedules/sgd_3000.py',
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
)
custom_hooks = [dict(type='mmadm.ChannelsLastHook')]
