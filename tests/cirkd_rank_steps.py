"""What the two ranks of tests/integration/test_cirkd_two_ranks.py do; spawned processes have to import it."""

from __future__ import annotations

import torch
from mmengine.model import MMDistributedDataParallel
from small_segmentors import batch, distillation, plain_optimiser, segmentor

STEPS = 3
IMAGES = 4


def trained(images: range, distributed: bool = False) -> dict:
    """Train on some of the four images of each step.

    GroupNorm, no dropout and a projection in eval mode: statistics of a batch depend on how it is split. So do the
    pairs of images, which are those of a process, and therefore have no weight.
    """
    roles = {name: segmentor(width, dropout=0.0, norm='GN') for name, width in (('student', 4), ('teacher', 8))}
    # rings that wrap, and of which a part is drawn
    cirkd = dict(
        type='CIRKD', at='backbone.layer1', mini_batch=0.0, pixel=1.0, region=1.0, pixel_queue=50, region_queue=10,
        pixel_entries=100, region_entries=30, pixels_per_image=8,
    )  # fmt: skip
    model = distillation(roles=roles, frozen=['teacher'], distillers=[cirkd])
    model.connectors.eval()
    wrapped = MMDistributedDataParallel(model, find_unused_parameters=True) if distributed else model
    optimiser = plain_optimiser(model)
    torch.manual_seed(7 + images.start)  # each rank has its own numbers
    logs = []
    for number in range(STEPS):
        data = {key: values[images.start : images.stop] for key, values in batch(IMAGES, seed=number).items()}
        losses = wrapped(**model.data_preprocessor(data, True), mode='loss')
        total, log = model.parse_losses(losses)
        optimiser.update_params(total)
        logs.append({key: float(log[key].detach()) for key in log if 'cirkd' in key})
    return dict(logs=logs, queues=model.distillers.cirkd.state_dict(), end=dict(model.named_parameters()))


def run_rank(rank: int, folder) -> None:
    """Be one of two processes, with two images each."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    share = IMAGES // 2
    torch.save(trained(range(rank * share, (rank + 1) * share), distributed=True), folder / f'rank{rank}.pth')
    torch.distributed.destroy_process_group()
