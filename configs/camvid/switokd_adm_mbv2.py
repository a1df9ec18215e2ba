# ADM on top of SwitOKD.
_base_ = './switokd_mbv2.py'
model = dict(
    distillers=[
        {{_base_.switokd}},
        dict(
            type='mmadm.ADM',
            at=dict(student='backbone.layer4', teacher='backbone.layer5'),
            consensus=10.0,
            divergence=0.1,
            tau=0.1,
        ),
    ]
)
