# CrossKD: features behind the third convolution of the student's head go on through the teacher's, RetinaNet R101 teaches
# R50: weights as published for RetinaNet. Its program divides by each GPU's own positives, here it is their mean.
_base_ = './kd_retinanet_r101_r50_fpn_1x_coco.py'
model = dict(
    distillers=[dict(type='mmadm.CrossKD', source='teacher', learner='student', start=3, classification=1.0, boxes=1.0)]
)
