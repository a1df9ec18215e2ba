# Faster R-CNN: two iterations and a validation.
_base_ = [
    '../_base_/datasets/coco_mini.py',
    '../_base_/models/coco_mini_two_stage.py',
    '../_base_/schedules/sgd_2_iterations.py',
    '../_base_/runtime/detection_2_iterations.py',
]
