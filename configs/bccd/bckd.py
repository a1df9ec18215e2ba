# Class scores one by one, and boxes where these differ (BCKD), with the published weights.
_base_ = './cwd.py'
model = dict(distillers=[dict(type='mmadm.BCKD', classification=1.0, boxes=4.0)])
