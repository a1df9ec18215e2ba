# KDCL: both roles learn from the better one at each pixel.
_base_ = './dml_mbv2.py'
kdcl = dict(type='mmadm.KDCL', roles=['student', 'teacher'], ensemble='naive', at='logits')
model = dict(distillers=[kdcl])
