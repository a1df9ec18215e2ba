"""A smaller backbone that starts from the weights of a larger one."""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from mmadm.registry import MODELS
from mmadm.utils.errors import ConfigError


@MODELS.register_module()
class FirstStages(BaseModule):
    """A stock backbone without the stages behind the last one that it returns.

    The rest keeps the backbone's names below ``stages``, so that ``init_cfg`` of ``backbone`` loads the whole
    backbone's ImageNet weights into it; its taps are ``backbone.stages.layer4`` and so on. MobileNetV2 cut after its
    fourth stage has 0.25 of 1.8 million parameters: a student beside the whole one that starts from ImageNet, too.

    Args:
        backbone: Config of a backbone that lists its stages in ``layers`` and what it returns in ``out_indices``, as
            MobileNetV2 of mmseg and mmdet does.

    Raises:
        ConfigError: If the backbone does not list its stages.
    """

    def __init__(self, backbone: dict[str, Any]) -> None:
        super().__init__()
        self.stages = MODELS.build(backbone)
        names = getattr(self.stages, 'layers', None)
        if not isinstance(names, list) or not hasattr(self.stages, 'out_indices'):
            raise ConfigError(
                f'mmadm.FirstStages.backbone={backbone.get("type")!r}: a backbone with its stages in `layers` and '
                '`out_indices` is needed, such as mmseg.MobileNetV2'
            )
        kept = max(self.stages.out_indices) + 1
        for name in names[kept:]:
            self.stages.register_module(name, None)
        del names[kept:]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return what the backbone returns: one map (N, C, h, w) for each index in ``out_indices``."""
        outputs: tuple[Tensor, ...] = self.stages(images)
        return outputs
