# Offline KD of the class scores from the teacher that configs/bccd/teacher.py has trained, with the divergence that
# published dense detectors are distilled by; another path goes into model.roles.teacher.checkpoint.
_base_ = './cwd.py'
kd = dict(
    type='mmadm.Transfer',
    source='teacher',
    learner='student',
    at='logits',
    loss=dict(type='KLDivergence'),
    weight=1.0,
)
model = dict(distillers=[kd])
