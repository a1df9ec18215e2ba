# ADM on top of mutual learning, with the ImageNet-trained MobileNetV2 as teacher.
_base_ = ['./dml_mbv2.py', '../_base_/distillers/adm_camvid.py']
model = dict(
    distillers=[
        dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits'),
        {{_base_.adm}},
    ]
)
