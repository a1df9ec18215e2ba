# SOKD: a frozen teacher, a bridge that is its trainable tail, a student. Score of the bridge: --role bridge.
_base_ = './kd.py'
model = dict(
    roles=dict(bridge=dict(like='teacher', train=['backbone.layer6', 'backbone.layer7', 'neck', 'decode_head'])),
    distillers=[dict(type='mmadm.SOKD', student='student', teacher='teacher', bridge='bridge', at='logits')],
)
optim_wrapper = dict(
    _delete_=True,
    constructor='mmadm.RoleOptimWrapperConstructor',
    student=dict(optimizer={{_base_.optimizer}}),
    # the bridge starts where the teacher ended
    bridge=dict(optimizer=dict(type='SGD', lr=0.002, momentum=0.9, weight_decay=0.0005)),
)
