# The student's features go on through the teacher's head (CrossKD), with the published weights of FCOS; behind the one
# convolution that these heads have, of the published four behind the second. The student's are half as wide.
_base_ = './kd.py'
model = dict(distillers=[dict(type='mmadm.CrossKD', start=1, connector=dict(type='Connector'))])
