# AKD on top of channel-wise distillation: the teacher's logits are replaced by four perturbed copies.
_base_ = './kd.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='logits',
            loss=dict(type='ChannelWiseDivergence', tau=1.0),
            avatars=dict(num=4, perturbation=dict(type='Dropout', p=0.1)),
            weight=5.0,
        )
    ]
)
