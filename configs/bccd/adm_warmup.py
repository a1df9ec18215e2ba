# ADM on top of mutual learning, brought in slowly. The divergence's gradient grows as features get shorter, and those of
# a network that starts from random weights are short: at full weight it throws the teacher back.
_base_ = './dml.py'
model = dict(
    distillers=[
        dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits'),
        dict(
            type='mmadm.ADM',
            student='student',
            teacher='teacher',
            at='feats',
            consensus=0.1,
            divergence=0.01,
            foreground=True,
            schedule=dict(warmup='linear', length=150),
        ),
    ]
)
