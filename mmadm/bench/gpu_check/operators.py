"""Part: mmcv's operators on the GPU against those on the CPU, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mmadm.bench.gpu_check.report import Report, Setting

#: Largest deviation, relative to the largest value
TOLERANCE = 1e-4

Inputs = list[Tensor]


def operators(setting: Setting, report: Report) -> None:
    """Part: each operator; those that have no CPU version are compared with torch's own way to the same numbers."""
    with report.attempt('mmcv.ops can be imported'):
        import mmcv.ops

        report.figure('mmcv', mmcv.__version__)
    for check in (nms, batched_nms, roi_align, deformable, modulated_deformable, focal_loss, deformable_attention):
        with report.attempt(check.__name__):
            check(setting.device, report)


def nms(device: torch.device, report: Report) -> None:
    """Non-maximum suppression keeps the same boxes."""
    from mmcv.ops import nms

    boxes, scores = _boxes(400), torch.rand(400, generator=_generator(1))
    kept = [nms(boxes.to(d), scores.to(d), 0.5)[1].cpu() for d in ('cpu', device)]
    report.check('nms keeps the same boxes', torch.equal(*kept), f'{len(kept[0])} of 400')


def batched_nms(device: torch.device, report: Report) -> None:
    """The same class by class."""
    from mmcv.ops import batched_nms

    boxes, scores = _boxes(400), torch.rand(400, generator=_generator(1))
    classes = torch.randint(0, 3, (400,), generator=_generator(2))
    cfg = dict(type='nms', iou_threshold=0.5)
    kept = [batched_nms(boxes.to(d), scores.to(d), classes.to(d), cfg)[1].cpu() for d in ('cpu', device)]
    report.check('batched_nms keeps the same boxes', torch.equal(*kept), f'{len(kept[0])} of 400')


def roi_align(device: torch.device, report: Report) -> None:
    """RoIAlign."""
    from mmcv.ops import RoIAlign

    rois = torch.cat([torch.zeros(20, 1), _boxes(20) * 0.3], dim=1)
    layer = RoIAlign(7, spatial_scale=1.0, sampling_ratio=2, aligned=True)
    _compare('RoIAlign', lambda feature, given: layer(feature, given), [_normal(1, 8, 32, 32)], device, report, [rois])


def deformable(device: torch.device, report: Report) -> None:
    """Deformable convolution, version 1."""
    from mmcv.ops import DeformConv2d

    layer = _seeded(lambda: DeformConv2d(8, 8, 3, padding=1, bias=False))
    _compare('deformable convolution v1', layer, [_normal(2, 8, 16, 16), _normal(2, 18, 16, 16)], device, report)


def modulated_deformable(device: torch.device, report: Report) -> None:
    """Deformable convolution, version 2."""
    from mmcv.ops import ModulatedDeformConv2d

    layer = _seeded(lambda: ModulatedDeformConv2d(8, 8, 3, padding=1))
    inputs = [_normal(2, 8, 16, 16), _normal(2, 18, 16, 16), _normal(2, 9, 16, 16).sigmoid()]
    _compare('deformable convolution v2', layer, inputs, device, report)


def focal_loss(device: torch.device, report: Report) -> None:
    """Focal loss; mmcv has it for GPUs only, so that the CPU computes it from its formula."""
    from mmcv.ops import sigmoid_focal_loss

    labels = torch.randint(0, 9, (200,), generator=_generator(3))

    def by_formula(scores: Tensor, target: Tensor) -> Tensor:
        """The mean over all scores."""
        wanted = nn.functional.one_hot(target, 9)[:, :8].to(scores)
        probability = scores.sigmoid()
        distance = (1 - probability) * wanted + probability * (1 - wanted)
        weight = (0.25 * wanted + 0.75 * (1 - wanted)) * distance.pow(2)
        cross_entropy = nn.functional.binary_cross_entropy_with_logits(scores, wanted, reduction='none')
        return (cross_entropy * weight).sum() / scores.numel()

    def run(scores: Tensor, target: Tensor) -> Tensor:
        """On a GPU by mmcv's kernel."""
        if scores.device.type == 'cpu':
            return by_formula(scores, target)
        return sigmoid_focal_loss(scores, target, 2.0, 0.25, None, 'sum') / scores.numel()

    _compare('sigmoid focal loss', run, [_normal(200, 8)], device, report, [labels])


def deformable_attention(device: torch.device, report: Report) -> None:
    """Multi-scale deformable attention; on the CPU mmcv computes it with torch's grid_sample."""
    from mmcv.ops import MultiScaleDeformableAttention

    layer = _seeded(lambda: MultiScaleDeformableAttention(32, num_heads=4, num_levels=2, dropout=0.0, batch_first=True))
    shapes = torch.tensor([[8, 8], [4, 4]])
    with torch.no_grad():
        for weight in (layer.sampling_offsets.weight, layer.attention_weights.weight):
            weight.normal_(std=0.05, generator=_generator(4))

    def run(query: Tensor, value: Tensor, sizes: Tensor) -> Tensor:
        """One layer over two levels."""
        points = torch.full((1, 10, 2, 2), 0.45, device=query.device)
        starts = torch.tensor([0, 64], device=query.device)
        return layer(query, value=value, reference_points=points, spatial_shapes=sizes, level_start_index=starts)

    inputs = [_normal(1, 10, 32), _normal(1, 80, 32)]
    _compare('multi-scale deformable attention', run, inputs, device, report, [shapes], layer)


def _compare(
    name: str,
    run: Callable[..., Tensor],
    inputs: Inputs,
    device: torch.device,
    report: Report,
    fixed: Sequence[Tensor] = (),
    layer: nn.Module | None = None,
) -> None:
    """Report how far output and gradients of the inputs are from those of the CPU."""
    layer = run if isinstance(run, nn.Module) else layer
    found = []
    for where in (torch.device('cpu'), device):
        if layer is not None:
            layer.to(where)
        leaves = [x.clone().to(where).requires_grad_() for x in inputs]
        output = run(*leaves, *(x.to(where) for x in fixed))
        weights = _normal(*output.shape).to(where)
        found.append([output, *torch.autograd.grad((output * weights).sum(), leaves)])
    for part, right, other in zip(('forward', *(['backward'] * len(inputs))), *found, strict=True):
        most = (other.cpu() - right).abs().max() / right.abs().max()
        report.figure(f'{name}, {part}', most.item(), '', TOLERANCE)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=_generator(sum(shape)))


def _boxes(number: int) -> Tensor:
    corner = torch.rand(number, 2, generator=_generator(0)) * 60
    return torch.cat([corner, corner + 5 + torch.rand(number, 2, generator=_generator(5)) * 40], dim=1)


def _seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make()
