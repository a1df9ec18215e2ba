# ADM whose consensus looks at four perturbed copies of the features of a teacher that learns, too.
_base_ = './dml_mbv2.py'
model = dict(
    distillers=[
        dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits'),
        dict(
            type='mmadm.ADM',
            at=dict(student='backbone.layer4', teacher='backbone.layer5'),
            consensus=30.0,
            divergence=0.1,
            tau=0.5,
            avatars=dict(num=4, perturbation=dict(type='Dropout', p=0.1)),
        ),
    ]
)
