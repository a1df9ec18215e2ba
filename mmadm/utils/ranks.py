"""Ranks of a distributed training: numbers that all agree on, and ranks on a CPU."""

from __future__ import annotations

from datetime import timedelta

from mmengine.config import Config
from mmengine.dist import all_reduce, get_world_size, is_distributed
from torch import Tensor, distributed, nn

from mmadm.utils.errors import ConfigError


def mean_over_ranks(number: Tensor) -> Tensor:
    """The mean of a constant over all ranks; the same tensor if there is one."""
    if get_world_size() > 1:
        number = number.clone()
        all_reduce(number, op='mean')
    return number


def join_cpu_ranks(cfg: Config) -> None:
    """Become one of several processes on a machine without GPU; mmengine by itself gives each process a GPU.

    Args:
        cfg: Config with its ``launcher``; its ``model_wrapper_cfg`` is changed.

    Raises:
        ConfigError: If the launcher or the backend cannot do it; says what to set.
    """
    settings = dict((cfg.get('env_cfg') or {}).get('dist_cfg') or {})
    backend = settings.pop('backend', 'nccl')
    if cfg.launcher != 'pytorch' or backend != 'gloo':
        raise ConfigError(
            f'--launcher={cfg.launcher} with env_cfg.dist_cfg.backend={backend!r}: there is no GPU. Processes on the '
            "CPU need --launcher=pytorch and backend='gloo'; one process needs no launcher"
        )
    if 'timeout' in settings:
        settings['timeout'] = timedelta(seconds=settings['timeout'])
    if not is_distributed():
        distributed.init_process_group(backend, **settings)
    as_stock = {'broadcast_buffers': False, 'find_unused_parameters': cfg.get('find_unused_parameters', False)}
    cfg.model_wrapper_cfg = {**(cfg.get('model_wrapper_cfg') or as_stock), 'device_ids': None}


def check_norms_of_ranks(model: nn.Module) -> None:
    """Refuse SyncBN on several ranks without GPU, where torch has none; ConfigError names the module."""
    if get_world_size() == 1 or next(model.parameters()).is_cuda:
        return
    for name, module in model.named_modules():
        if isinstance(module, nn.SyncBatchNorm):
            raise ConfigError(
                f"{name}: torch has SyncBN only on GPUs; on the CPU set norm_cfg.type='BN', or leave --launcher out"
            )
