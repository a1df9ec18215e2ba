# CrossKD: features behind the third convolution of the student's head go on through the teacher's, GFL R101 teaches R50:
# weights as published for GFL.
_base_ = './bckd_gfl_r101_r50_fpn_1x_coco.py'
model = dict(
    distillers=[dict(type='mmadm.CrossKD', source='teacher', learner='student', start=3, classification=1.0, boxes=4.0)]
)
