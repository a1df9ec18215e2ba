# ADM on top of mutual learning.
_base_ = './dml.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.MutualLearning',
            roles=['student', 'teacher'],
            at='logits',
            # early on both networks are poor teachers, and this schedule is short
            schedule=dict(warmup='linear', length=600),
        ),
        dict(type='mmadm.ADM', student='student', teacher='teacher', at='backbone.layer4'),
    ]
)
