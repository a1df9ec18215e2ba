# ADM for the pair of configs/camvid with the MobileNetV2 teacher.
# The taps have one stride (16). They were chosen on val, see "What was tried" in docs/results.md; so were the weights and
# tau, in the ablation there (suite adm_ablation).
adm = dict(
    type='mmadm.ADM',
    at=dict(student='backbone.layer4', teacher='backbone.layer5'),
    consensus=30.0,
    divergence=0.1,
    tau=0.5,
    foreground=[2, 6, 8, 9, 10],  # pole, sign, car, pedestrian, bicyclist
)
