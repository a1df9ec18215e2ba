# ADM on top of mutual learning, with the ImageNet-trained MobileNetV2 as teacher.
_base_ = './dml_mbv2.py'
model = dict(
    distillers=[
        dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits'),
        dict(type='mmadm.ADM', at=dict(student='backbone.layer4', teacher='backbone.layer7')),
    ]
)
