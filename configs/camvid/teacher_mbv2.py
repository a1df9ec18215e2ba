# Plain teacher that starts from ImageNet weights.
_base_ = './student.py'
model = {{_base_.teacher_mbv2}}
