"""Numbers that all ranks of a distributed training agree on."""

from __future__ import annotations

from mmengine.dist import all_reduce, get_world_size
from torch import Tensor


def mean_over_ranks(number: Tensor) -> Tensor:
    """The mean of a constant over all ranks; the same tensor if there is one."""
    if get_world_size() > 1:
        number = number.clone()
        all_reduce(number, op='mean')
    return number
