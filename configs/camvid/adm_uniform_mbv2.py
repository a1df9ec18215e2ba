# ADM without its choice of positions: every position counts alike. A control for configs/camvid/adm_mbv2.py.
_base_ = './dml_mbv2.py'
model = dict(
    distillers=[
        dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits'),
        dict(
            type='mmadm.ADM',
            at=dict(student='backbone.layer4', teacher='backbone.layer5'),
            consensus=30.0,
            divergence=0.1,
            region='uniform',
        ),
    ]
)
