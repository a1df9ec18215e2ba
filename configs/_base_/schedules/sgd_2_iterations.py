# Two iterations: to see that a config runs
max_iters = 2
optim_wrapper = dict(
    constructor='mmadm.RoleOptimWrapperConstructor',  # an optimiser by these settings for each role
    optimizer=dict(type='SGD', lr=0.001, momentum=0.9, weight_decay=0.0001),
    clip_grad=dict(max_norm=10),
)
param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=False, begin=0, end=max_iters)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type='mmadm.RoleValLoop', role_val=True)
test_cfg = dict(type='TestLoop')
