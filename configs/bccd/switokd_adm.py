# ADM on top of SwitOKD.
_base_ = './switokd.py'
model = dict(
    distillers=[
        {{_base_.switokd}},
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
