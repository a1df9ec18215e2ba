# ADM on top of KDCL.
_base_ = './kdcl_mbv2.py'
model = dict(
    distillers=[
        {{_base_.kdcl}},
        dict(
            type='mmadm.ADM',
            at=dict(student='backbone.layer4', teacher='backbone.layer5'),
            consensus=10.0,
            divergence=0.1,
            tau=0.1,
        ),
    ]
)
