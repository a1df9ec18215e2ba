# The 1x schedule of MMDetection: 12 epochs of COCO with 8 GPUs and 2 images each
max_epochs = 12
optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001)  # of one-stage detectors; two-stage: 0.02
optim_wrapper = dict(type='OptimWrapper', optimizer=optimizer)
decay = dict(type='MultiStepLR', by_epoch=True, begin=0, end=max_epochs, milestones=[8, 11], gamma=0.1)
param_scheduler = [dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500), decay]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='mmadm.RoleValLoop', role_val=True)
test_cfg = dict(type='TestLoop')
# `auto_scale_lr.enable=True` scales the rates linearly with the batch size
auto_scale_lr = dict(enable=False, base_batch_size=16)
