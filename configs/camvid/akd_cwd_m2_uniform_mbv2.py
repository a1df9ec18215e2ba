# Ablation of akd_cwd_mbv2.py: two avatars of equal weight.
_base_ = './cwd_mbv2.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='logits',
            loss=dict(type='ChannelWiseDivergence', tau=1.0),
            avatars=dict(num=2, perturbation=dict(type='Dropout', p=0.1), weighting='uniform'),
            weight=5.0,
        )
    ]
)
