# ADM on top of mutual learning, on every level of the neck. The weights were chosen on val, from two pairs.
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
        ),
    ]
)
