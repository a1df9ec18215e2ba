# ADM on top of KDCL.
_base_ = './kdcl.py'
model = dict(
    distillers=[
        {{_base_.kdcl}},
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
