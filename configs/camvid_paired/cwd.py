# Channel-wise distillation of the logits from a frozen teacher, with the published temperature and weight.
_base_ = './kd.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='logits',
            loss=dict(type='ChannelWiseDivergence', tau=1.0),
            weight=5.0,
        )
    ]
)
