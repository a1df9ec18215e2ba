# Knowledge review (ReviewKD) of every level of the neck, with the weight published for ResNet-18. Levels are fused in as
# many channels as the teacher's neck has; 256, as published for necks of 256, would be more than all of the student.
_base_ = './cwd.py'
reviewkd = dict(type='mmadm.ReviewKD', mid_channels=64, weight=1.2)
model = dict(distillers=[reviewkd])
