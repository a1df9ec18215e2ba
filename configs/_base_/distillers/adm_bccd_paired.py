# ADM on every level of the neck of configs/bccd_paired.
adm = dict(
    type='mmadm.ADM',
    student='student',
    teacher='teacher',
    at='feats',
    consensus=0.1,
    divergence=0.01,
    foreground=True,
)
