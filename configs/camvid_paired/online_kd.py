# KD from a teacher that still learns, from its own task loss alone: mutual learning that reaches only the student.
_base_ = './dml.py'
kd = dict(
    type='mmadm.Transfer',
    source='teacher',
    learner='student',
    at='logits',
    loss=dict(type='KLDivergence', tau=1.0),
)
model = dict(distillers=[kd])
