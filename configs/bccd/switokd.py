# SwitOKD: mutual learning in which the teacher pauses while it is too far ahead.
_base_ = './dml.py'
switokd = dict(type='mmadm.SwitOKD', student='student', teacher='teacher', at='logits')
model = dict(distillers=[switokd])
