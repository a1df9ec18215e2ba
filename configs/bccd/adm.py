# ADM on top of mutual learning, on every level of the neck.
_base_ = './dml.py'
model = dict(
    distillers=[
        dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits'),
        dict(type='mmadm.ADM', student='student', teacher='teacher', at='feats'),
    ]
)
