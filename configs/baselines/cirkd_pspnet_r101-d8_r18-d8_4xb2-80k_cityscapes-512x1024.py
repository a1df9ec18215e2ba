# Cross-image relations (CIRKD) beside KD of the logits, PSPNet R101 teaches R18. Temperatures, weights, queues and the
# number of entries are published; its schedule was another (40k iterations, batch 16). The queues of 19 classes and 512
# channels are 817 MiB in each checkpoint and on each GPU, twice there with the copy of the last good state.
_base_ = './kd_pspnet_r101-d8_r18-d8_4xb2-80k_cityscapes-512x1024.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='logits',
            loss=dict(type='KLDivergence', tau=1.0),
        ),
        dict(type='mmadm.CIRKD', source='teacher', learner='student', at='pre_logits'),
    ]
)
