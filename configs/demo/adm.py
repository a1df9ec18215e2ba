# ADM on top of mutual learning.
_base_ = './dml.py'
model = dict(
    distillers=[
        dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits'),
        dict(type='mmadm.ADM', student='student', teacher='teacher', at='backbone.layer4'),
    ]
)
