# Deep Mutual Learning with the ImageNet-trained MobileNetV2 as teacher.
_base_ = './dml.py'
model = dict(roles=dict(_delete_=True, student={{_base_.student}}, teacher={{_base_.teacher_mbv2}}))
