"""Single-stage detectors: with the maps of a published case, or with heads that one can look into."""

from __future__ import annotations

from dataclasses import replace

import small_detectors
import torch
from mmengine.registry import DefaultScope
from role_outputs import role_outputs

from mmadm.adapters.dense_boxes import dense_head
from mmadm.structures import BatchArea, GroundTruth, Kind, RoleFacts
from mmadm.utils.dense import DenseTargets


def distribution_head(bins=4, stride=8, classes=3):
    """A stock GFL head of one level."""
    from mmdet.models.dense_heads import GFLHead

    anchors = dict(type='AnchorGenerator', ratios=[1.0], octave_base_scale=8, scales_per_octave=1, strides=[stride])
    with DefaultScope.overwrite_default_scope('mmdet'):
        return GFLHead(
            num_classes=classes, in_channels=4, feat_channels=4, stacked_convs=1, reg_max=bins - 1,
            anchor_generator=anchors, norm_cfg=None,
        )  # fmt: skip


def published(case, classes=3):
    """Outputs of student and teacher, and what a dry run tells of them.

    Args:
        case: Its scores (N, K, h, w), boxes (N, 4 * bins, h, w) and label weights (N, h * w); the student's need grad.
        classes: Id of the background.
    """
    for name in ('student_scores', 'student_boxes'):
        case.inputs[name].requires_grad_()
    images, channels, *size = case.inputs['student_boxes'].shape
    taps = {
        role: dict(
            logits=[case.inputs[f'{role}_scores']],
            boxes=[case.inputs[f'{role}_boxes'].reshape(-1, channels // 4, *size)],
        )
        for role in ('student', 'teacher')
    }
    side = 8 * size[0]
    area = BatchArea((side, side), ((side, side),) * images)
    outputs = role_outputs(taps, GroundTruth(boxes=[torch.zeros(0, 4)] * images), area, sigmoid=True)
    for output in outputs.values():
        for tap, found in output.taps.items():
            if tap.base == 'boxes':
                output.taps[tap] = replace(found, kind=Kind.BOX_DISTRIBUTIONS)
    labels = case.inputs.get('labels', torch.full((images, size[0] * size[1]), float(classes)))
    targets = DenseTargets(
        torch.tensor(case.params.get('normalizer', 1.0)),
        [labels.reshape(images, *size).long()],
        [case.inputs['label_weights'].reshape(images, *size)],
    )
    outputs['student'] = replace(outputs['student'], targets=lambda: targets)
    head = dense_head(distribution_head(channels // 4))
    return outputs, {role: RoleFacts(output, dense=head) for role, output in outputs.items()}


def with_convs(family, convs=2, width=4, **head):
    """Config of a detector with several convolutions in each branch of its head."""
    cfg = small_detectors.detector(family, width)
    cfg['bbox_head'].update(stacked_convs=convs, **head)
    return cfg


def crosskd(family='retinanet', roles=None, frozen=('teacher',), **options):
    """A model with CrossKD behind the first convolution, whose heads tell classes apart."""
    roles = roles or dict(student=with_convs(family), teacher=with_convs(family, width=8))
    model = small_detectors.distillation(
        roles=roles, frozen=list(frozen), distillers=[{'type': 'CrossKD', 'start': 1, **options}]
    )
    for role in roles:  # as if trained: at the start a class has the score 0.01 everywhere
        for name, parameter in model.roles[role].bbox_head.named_parameters():
            if parameter.dim() == 4:
                torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
            elif parameter.dim() == 1 and 'gn' not in name:
                torch.nn.init.zeros_(parameter)
    return model
