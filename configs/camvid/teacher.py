# Plain teacher: the student's network with twice the channels.
_base_ = './student.py'
model = {{_base_.teacher}}
