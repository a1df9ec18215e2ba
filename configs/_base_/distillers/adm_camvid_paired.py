# ADM for the pair of configs/camvid_paired: taps of one stride (16), the last stage of the student's backbone.
adm = dict(
    type='mmadm.ADM',
    student='student',
    teacher='teacher',
    at=dict(student='backbone.stages.layer4', teacher='backbone.layer5'),
    consensus=3.0,
    divergence=0.1,
    tau=0.5,
    foreground=[2, 6, 8, 9, 10],  # pole, sign, car, pedestrian, bicyclist
)
