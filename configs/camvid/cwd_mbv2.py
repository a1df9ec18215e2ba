# Channel-wise distillation of the logits from a frozen teacher, with the published temperature and weight.
_base_ = './kd_mbv2.py'
cwd = dict(
    type='mmadm.Transfer',
    source='teacher',
    learner='student',
    at='logits',
    loss=dict(type='ChannelWiseDivergence', tau=1.0),
    weight=5.0,
)
model = dict(distillers=[cwd])
