# ADM on every level of the neck of configs/bccd. The weights and tau were chosen on val with seed 0, see docs/results.md.
adm = dict(
    type='mmadm.ADM',
    student='student',
    teacher='teacher',
    at='feats',
    consensus=3.0,
    divergence=0.01,
    tau=0.5,
    foreground=True,
)
