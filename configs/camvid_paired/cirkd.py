# Relations between pixels of several images (CIRKD) beside KD of the logits, from a frozen teacher: weights as
# published, sizes as in ../camvid/cirkd_mbv2.py.
_base_ = './kd.py'
kd = dict(
    type='mmadm.Transfer',
    source='teacher',
    learner='student',
    at='logits',
    loss=dict(type='KLDivergence', tau=1.0),
    weight=1.0,
)
cirkd = dict(type='mmadm.CIRKD', pixel_queue=2000, region_queue=200, pixel_entries=512, region_entries=128, pool=4)
model = dict(distillers=[kd, cirkd])
