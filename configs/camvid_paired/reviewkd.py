# Knowledge review (ReviewKD) of the neck, with the weight published for MobileNetV2. The student's three levels meet the
# teacher's three finest ones; they are fused in as many channels as the teacher's neck has.
_base_ = './kd.py'
reviewkd = dict(type='mmadm.ReviewKD', at=dict(student='feats', teacher='feats[:3]'), mid_channels=64, weight=2.0)
model = dict(distillers=[reviewkd])
