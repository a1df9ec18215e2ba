# SOKD, RetinaNet R101 and R50 on COCO: 8 GPUs, 2 images each, 24 epochs. The bridge is the teacher's neck and head;
# tools/export.py --role bridge makes a stock file of it.
_base_ = '../akd/akd_cwd_retinanet_r101_r50_fpn_2x_coco.py'
model = dict(
    roles=dict(bridge=dict(like='teacher', train=['neck', 'bbox_head'])),
    distillers=[dict(type='mmadm.SOKD', student='student', teacher='teacher', bridge='bridge', at='logits')],
)
optim_wrapper = dict(
    _delete_=True,
    constructor='mmadm.RoleOptimWrapperConstructor',
    student=dict(optimizer={{_base_.optimizer}}),
    # the bridge starts where the teacher ended
    bridge=dict(optimizer=dict(type='SGD', lr=0.001, momentum=0.9, weight_decay=0.0001)),
)
