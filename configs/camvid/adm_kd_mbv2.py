# Offline ADM on top of KD: with a frozen teacher only the consensus loss is computed.
_base_ = './kd_mbv2.py'
model = dict(
    distillers=[
        {{_base_.kd}},
        dict(
            type='mmadm.ADM',
            at=dict(student='backbone.layer4', teacher='backbone.layer5'),
            consensus=10.0,
            tau=0.1,
        ),
    ]
)
