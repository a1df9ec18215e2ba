# Knowledge review (ReviewKD) of every level of the neck, with the weight published for MobileNetV2. Levels are fused in
# as many channels as the teacher's neck has.
_base_ = './kd.py'
reviewkd = dict(type='mmadm.ReviewKD', mid_channels=64, weight=2.0)
model = dict(distillers=[reviewkd])
