# One teacher and two students, mutual learning and ADM.
_base_ = './dml.py'
model = dict(
    roles=dict(second={{_base_.student}}),
    distillers=[
        dict(type='mmadm.MutualLearning', roles=['student', 'second', 'teacher'], at='logits'),
        dict(
            type='mmadm.ADM',
            student=['student', 'second'],
            teacher='teacher',
            at='feats',
            consensus=0.1,
            divergence=0.01,
            foreground=True,
        ),
    ],
)
optim_wrapper = dict(second=dict(optimizer={{_base_.optimizer}}))
