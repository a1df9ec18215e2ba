# SOKD, PSPNet R101 and R18 on Cityscapes: 4 GPUs, 2 images each, 80k iterations. The bridge is the teacher's last stage
# and head; tools/export.py --role bridge makes a stock file of it.
_base_ = '../akd/akd_cwd_pspnet_r101-d8_r18-d8_4xb2-80k_cityscapes-512x1024.py'
model = dict(
    roles=dict(bridge=dict(like='teacher', train=['backbone.layer4', 'decode_head', 'auxiliary_head'])),
    distillers=[dict(type='mmadm.SOKD', student='student', teacher='teacher', bridge='bridge', at='logits')],
)
optim_wrapper = dict(
    _delete_=True,
    constructor='mmadm.RoleOptimWrapperConstructor',
    student=dict(optimizer={{_base_.optimizer}}),
    # the bridge starts where the teacher ended
    bridge=dict(optimizer=dict(type='SGD', lr=0.001, momentum=0.9, weight_decay=0.0005)),
)
