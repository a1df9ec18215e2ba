# DINO: two iterations and a validation.
_base_ = [
    '../_base_/datasets/coco_mini.py',
    '../_base_/models/coco_mini_detr.py',
    '../_base_/schedules/sgd_2_iterations.py',
    '../_base_/runtime/detection_2_iterations.py',
]
detector = dict(
    type='DINO',
    with_box_refine=True,
    as_two_stage=True,
    bbox_head=dict(type='DINOHead'),
    dn_cfg=dict(
        label_noise_scale=0.5,
        box_noise_scale=1.0,
        group_cfg=dict(dynamic=True, num_groups=None, num_dn_queries=10),
    ),
)
model = dict(roles=dict(student=detector, teacher=detector))
