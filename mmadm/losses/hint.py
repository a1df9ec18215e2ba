"""FitNet's hint as a registered module."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from mmadm.functional.common import check_pair, valid_mean
from mmadm.registry import MODELS


@MODELS.register_module()
class HintMSE(nn.Module):
    """FitNet: the mean squared difference of features (Romero et al. 2015, arXiv 1412.6550; methods.md, section 5)."""

    needs: ClassVar[tuple[str, ...]] = ()

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare features of one shape. Returns a scalar in float32, 0 if they are empty."""
        check_pair('HintMSE', student, teacher)
        return valid_mean('HintMSE', (student.float() - teacher.float()).square())
