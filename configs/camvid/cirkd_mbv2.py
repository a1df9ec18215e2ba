# Relations between pixels of several images (CIRKD) beside KD of the logits, from a frozen teacher, with the published
# weights. The sizes are those of a short training on a CPU. Queues: with 4 images in a batch the 2,000 pixels and 200
# regions of a class are there after 32 and 50 iterations of 500; on Cityscapes it takes 78 and 125 of 40,000. Each pixel
# is compared with 517 and 132 of them, an eighth. The teacher's map has stride 4, the student's 16: pixels of the batch
# are compared after pooling to stride 16, as the published program pools maps of stride 4.
_base_ = './kd_mbv2.py'
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
