"""Parts: DistributedDataParallel and SyncBN, NCCL on one rank and two gloo ranks on one GPU."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.nn import SyncBatchNorm

from mmadm.bench.gpu_check.devices import full_precision
from mmadm.bench.gpu_check.methods import method
from mmadm.bench.gpu_check.networks import Batch, build, segmentation_batch
from mmadm.bench.gpu_check.report import Report, Setting
from mmadm.bench.gpu_check.training import Log, deviation, train

STEPS, IMAGES = 3, 4
TOLERANCE = 1e-4
METHODS = ('adm', 'sokd', 'ffsd')

Found = tuple[list[Log], dict[str, Tensor]]


def one_rank(setting: Setting, report: Report) -> None:
    """Part: one rank with NCCL (gloo on a CPU) equals no ranks at all."""
    backend = 'nccl' if setting.device.type == 'cuda' else 'gloo'
    _against_one_process('adm', 1, backend, setting, report)


def two_ranks(setting: Setting, report: Report) -> None:
    """Part: two gloo ranks, half a batch each, equal one process."""
    for name in METHODS[: 1 if setting.tiny else None]:
        _against_one_process(name, 2, 'gloo', setting, report)


def _against_one_process(name: str, world: int, backend: str, setting: Setting, report: Report) -> None:
    """Compare losses (the mean over the ranks) and weights with those of one process."""
    title = f'{name}, {world} {backend} rank{"s" if world > 1 else ""}'
    with report.attempt(title):
        right, weights = run(name, setting.device)
        folder = setting.folder / f'{name}{world}{backend}'
        folder.mkdir()
        torch.multiprocessing.spawn(
            be_rank, args=(world, backend, name, str(setting.device), str(folder)), nprocs=world
        )
        found: list[Found] = [torch.load(folder / f'{rank}.pth', map_location='cpu') for rank in range(world)]
        means = [
            {key: sum(step[key] for step in steps) / world for key in steps[0]}
            for steps in zip(*(logs for logs, _ in found), strict=True)
        ]
        most, where = deviation(means, right)
        report.figure(f'{title}: losses of {STEPS} steps as in one process', most, '', TOLERANCE, where)
        for rank, (_, own) in enumerate(found):
            gap = max(((own[key] - weights[key]).abs().max() / weights[key].abs().max()).item() for key in weights)
            report.figure(f'{title}: weights of rank {rank} as in one process', gap, '', TOLERANCE)


def be_rank(rank: int, world: int, backend: str, name: str, device: str, folder: str) -> None:
    """Be one of several processes; writes ``<rank>.pth``."""
    os.environ['LOCAL_RANK'] = '0'
    torch.set_num_threads(1)
    full_precision()
    where = torch.device(device)
    if where.type == 'cuda':
        torch.cuda.set_device(0)
    torch.distributed.init_process_group(backend, init_method=f'file://{folder}/store', rank=rank, world_size=world)
    torch.save(run(name, where, rank, world), Path(folder) / f'{rank}.pth')
    torch.distributed.destroy_process_group()


def run(name: str, device: torch.device, rank: int = 0, world: int = 0) -> Found:
    """Train a few steps, as a rank of a world or in one process.

    On a GPU the networks have SyncBN, on a CPU, where there is none, GroupNorm. No dropout, which each rank draws for
    itself, and equally many ignored labels in each image, because losses are means over the others.

    Args:
        name: Method.
        device: Where.
        rank: Which part of each batch.
        world: Ranks; 0 for one process without.

    Returns:
        Losses of the steps, and the weights at the end.
    """
    synchronised = device.type == 'cuda'
    model = build(method(name, norm='BN' if synchronised else 'GN', dropout=0.0))
    if synchronised and world:
        model = SyncBatchNorm.convert_sync_batchnorm(model)
    wrapped: nn.Module = model.to(device)
    if world:
        ids = [0] if synchronised else None
        wrapped = MMDistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)
    optimiser = OptimWrapper(torch.optim.SGD(wrapped.parameters(), lr=0.01, momentum=0.9))
    batches = [_share(segmentation_batch(IMAGES, seed), rank, max(world, 1)) for seed in range(STEPS)]
    logs = train(model, batches, lambda batch: wrapped.train_step(batch, optimiser))
    return logs, {key: value.cpu() for key, value in model.state_dict().items() if value.is_floating_point()}


def _share(batch: Batch, rank: int, world: int) -> Batch:
    return {key: values[rank::world] for key, values in batch.items()}
