# ADM on top of mutual learning, on every level of the neck.
_base_ = ['./dml.py', '../_base_/distillers/adm_bccd.py']
model = dict(
    distillers=[
        dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits'),
        {{_base_.adm}},
    ]
)
