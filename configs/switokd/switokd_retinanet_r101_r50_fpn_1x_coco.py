# SwitOKD, RetinaNet R101 and R50 on COCO: 8 GPUs, 2 images each, 12 epochs.
_base_ = '../adm/adm_retinanet_r101_r50_fpn_1x_coco.py'
model = dict(distillers=[dict(type='mmadm.SwitOKD', student='student', teacher='teacher', at='logits')])
find_unused_parameters = True  # while the teacher pauses it gets no gradient
