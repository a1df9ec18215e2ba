_base_ = './detection.py'
default_hooks = dict(
    logger=dict(log_metric_by_epoch=True),
    checkpoint=dict(by_epoch=True, interval=1, save_best='student/coco/bbox_mAP'),
)
log_processor = dict(by_epoch=True)
