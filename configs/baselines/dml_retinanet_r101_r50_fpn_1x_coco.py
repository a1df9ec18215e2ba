# Deep Mutual Learning, RetinaNet R101 and R50 on COCO: 8 GPUs, 2 images each, 12 epochs.
_base_ = '../adm/adm_retinanet_r101_r50_fpn_1x_coco.py'
model = dict(distillers=[dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits')])
