"""Write one role as an ONNX file: the stock network from normalised images to the maps of its head."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.utils import import_modules_from_strings
from torch import Tensor, nn

from mmadm.cli.networks import families
from mmadm.registry import MODELS
from mmadm.utils.checkpoint import check_same_tensors, write_atomically
from mmadm.utils.errors import ConfigError
from mmadm.utils.recorded import require_classes
from mmadm.utils.scope import use_scope


class HeadMaps(nn.Module):
    """A stock network whose outputs are one flat tuple of tensors, as ONNX wants it.

    Args:
        network: In eval mode.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return what the network gives in mode ``tensor`` for normalised images (N, C, H, W)."""
        return tuple(_tensors(self.network(images, None, mode='tensor')))


def write_onnx(cfg: Config, state: Mapping[str, Tensor], out: Path, size: Sequence[int] | None) -> str:
    """Write a segmentor or a dense detector; the number of images is free, their size is fixed.

    Args:
        cfg: Stock config of the role.
        state: Its weights.
        out: File to write.
        size: Height and width of the input; by default what the network's images are padded to.

    Returns:
        What goes in and out, as text.

    Raises:
        ConfigError: If the network is of another kind or has an operator that ONNX lacks, no size is known, or the
            package ``onnx`` is missing.
        CheckpointError: If the weights are of another network.
    """
    kinds = set(families(cfg.model))
    if kinds & {'two_stage', 'detr', 'mask_queries'} or not kinds & {'segmentation', 'detection'}:
        raise ConfigError(f'--onnx: {cfg.model.type} is neither a segmentor with class maps nor a dense detector')
    if find_spec('onnx') is None:
        raise ConfigError('--onnx needs the package onnx: pip install onnx')
    require_classes(cfg.model, 'the checkpoint')
    if cfg.get('custom_imports'):
        import_modules_from_strings(**cfg.custom_imports)
    use_scope(cfg.get('default_scope'))
    network = revert_sync_batchnorm(MODELS.build(cfg.model)).eval()
    check_same_tensors(network, state, out)
    network.load_state_dict(state)
    preprocessor = network.data_preprocessor
    size = size or getattr(preprocessor, 'size', None)
    if size is None:
        raise ConfigError('--onnx: give --size HEIGHT WIDTH, as the config does not say how large images are')
    maps, images = HeadMaps(network), torch.zeros(1, cfg.model.backbone.get('in_channels', 3), *size)
    with torch.no_grad(), io.BytesIO() as buffer:
        outputs = [f'output{index}' for index in range(len(maps(images)))]
        axes = {name: {0: 'images'} for name in ('images', *outputs)}
        # the exporter by tracing: that by torch.export would need a further package
        options: dict[str, Any] = {'input_names': ['images'], 'output_names': outputs, 'dynamic_axes': axes}
        try:
            torch.onnx.export(maps, (images,), buffer, opset_version=17, dynamo=False, **options)
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error).strip().partition('\n')[0]
            raise ConfigError(f'--onnx: torch cannot write {cfg.model.type} at {tuple(size)}: {reason}') from error
        write_atomically(buffer.getvalue(), out)
    means = [getattr(preprocessor, name, None) for name in ('mean', 'std')]
    told = ', '.join(f'{value:.4g}' for part in means if part is not None for value in part.flatten().tolist())
    shape = f'(N, {images.shape[1]}, {size[0]}, {size[1]})'
    return f'images {shape}, normalised by mean and std {told}; {len(outputs)} outputs'


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    else:
        for item in output:
            yield from _tensors(item)
