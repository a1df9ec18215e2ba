# AKD on top of channel-wise distillation: four perturbed copies of the teacher's neck.
_base_ = './kd.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='feats',
            loss=dict(type='ChannelWiseDivergence', tau=1.0),
            avatars=dict(num=4, perturbation=dict(type='Dropout', p=0.1)),
            weight=3 * 10.0,  # published for each level; Transfer takes the mean over the three
        )
    ]
)
