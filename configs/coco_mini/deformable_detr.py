# Deformable DETR: two iterations and a validation.
_base_ = [
    '../_base_/datasets/coco_mini.py',
    '../_base_/models/coco_mini_detr.py',
    '../_base_/schedules/sgd_2_iterations.py',
    '../_base_/runtime/detection_2_iterations.py',
]
detector = dict(type='DeformableDETR', bbox_head=dict(type='DeformableDETRHead'))
model = dict(roles=dict(student=detector, teacher=detector))
