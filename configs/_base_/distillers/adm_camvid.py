# ADM for the pair of configs/camvid with the MobileNetV2 teacher.
# The taps have one stride (16). Weights, tau and taps were chosen on val, see "What was tried" in docs/results.md.
adm = dict(
    type='mmadm.ADM',
    at=dict(student='backbone.layer4', teacher='backbone.layer5'),
    consensus=10.0,
    divergence=0.1,
    tau=0.1,
    foreground=[2, 6, 8, 9, 10],  # pole, sign, car, pedestrian, bicyclist
)
