# KDCL: both roles learn from the better one at each location.
_base_ = './dml.py'
kdcl = dict(type='mmadm.KDCL', roles=['student', 'teacher'], ensemble='naive', at='logits')
model = dict(distillers=[kdcl])
