# The 300 epochs of RTMDet: flat, then half a cosine; the rate is for 256 images per step
max_epochs = 300
optimizer = dict(type='AdamW', lr=0.004, weight_decay=0.05)
optim_wrapper = dict(type='OptimWrapper', optimizer=optimizer)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, by_epoch=False, begin=0, end=1000),
    dict(
        type='CosineAnnealingLR',
        eta_min=0.0002,
        by_epoch=True,
        begin=150,
        end=max_epochs,
        T_max=150,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=10, dynamic_intervals=[(280, 1)])
val_cfg = dict(type='mmadm.RoleValLoop', role_val=True)
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=256)
