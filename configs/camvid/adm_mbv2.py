# ADM on top of mutual learning, with the ImageNet-trained MobileNetV2 as teacher.
# The taps have one stride (16). Weights, tau and taps were chosen on val, see "What was tried" in the README.
_base_ = './dml_mbv2.py'
model = dict(
    distillers=[
        dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits'),
        dict(
            type='mmadm.ADM',
            at=dict(student='backbone.layer4', teacher='backbone.layer5'),
            consensus=10.0,
            divergence=0.1,
            tau=0.1,
        ),
    ]
)
