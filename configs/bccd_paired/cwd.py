# Channel-wise distillation on every level of the neck, with the published temperature and weight.
_base_ = './kd.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='feats',
            loss=dict(type='ChannelWiseDivergence', tau=1.0),
            weight=3 * 10.0,  # published for each level; Transfer takes the mean over the three
        )
    ]
)
