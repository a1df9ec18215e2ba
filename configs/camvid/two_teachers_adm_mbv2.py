# Two teachers and one student, mutual learning and ADM.
_base_ = './dml_mbv2.py'
model = dict(
    roles=dict(second={{_base_.teacher}}),
    distillers=[
        dict(type='mmadm.MutualLearning', roles=['student', 'teacher', 'second'], at='logits'),
        dict(
            type='mmadm.ADM',
            teacher=['teacher', 'second'],
            at=dict(student='backbone.layer4', teacher='backbone.layer5', second='backbone.layer4'),
            consensus=30.0,
            divergence=0.1,
            tau=0.5,
            foreground=[2, 6, 8, 9, 10],
        ),
    ],
)
optim_wrapper = dict(second=dict(optimizer={{_base_.optimizer}}))
