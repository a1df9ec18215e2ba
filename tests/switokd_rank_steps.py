"""What the two ranks of tests/integration/test_switch_two_ranks.py do; spawned processes have to import it."""

from __future__ import annotations

import torch
from mmengine.model import MMDistributedDataParallel
from small_segmentors import batch, distillation, plain_optimiser

#: share of the rows of rank 1 in which the student is right; on rank 0 the teacher is right everywhere
CASES = {'pauses': 0.5, 'learns': 1.0}
RIGHT, WRONG = torch.tensor([-9.0, 2.0, -9.0, 0.0, -9.0]), torch.tensor([-9.0, 0.0, 3.0, -9.0, -9.0])


def model_and_data(rank: int, share: float):
    """The teacher says class 1, the student class 2; the labels say who is right."""
    model = distillation(distillers=[dict(type='SwitOKD')])
    with torch.no_grad():
        for role, bias in (('student', WRONG), ('teacher', RIGHT)):
            head = model.roles[role].decode_head.conv_seg
            head.weight.mul_(1e-3)
            head.bias.copy_(bias)
    data = model.data_preprocessor(batch(seed=rank, ignored_rows=0), True)
    for samples in data['data_samples'].values():
        for sample in samples:
            labels = sample.gt_sem_seg.data
            labels.fill_(1)
            if rank == 1:
                labels[:, : int(share * labels.shape[1])] = 2
    return model, data


def step(model, data, optimiser) -> dict[str, float]:
    losses = model(**data, mode='loss')
    total, log = getattr(model, 'module', model).parse_losses(losses)
    optimiser.update_params(total)
    return {key: float(value.detach()) for key, value in log.items()}


def run_rank(rank: int, folder) -> None:
    """Be one of two processes; writes what it decided alone and together, and what became of the teacher."""
    torch.set_num_threads(1)
    found = {}
    for name, share in CASES.items():
        model, data = model_and_data(rank, share)
        found[f'{name}, alone'] = step(model, data, plain_optimiser(model))['teacher.expert']
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    for name, share in CASES.items():
        model, data = model_and_data(rank, share)
        wrapped = MMDistributedDataParallel(model, find_unused_parameters=True)
        optimiser = plain_optimiser(model)
        before = {key: value.clone() for key, value in model.roles['teacher'].state_dict().items()}
        log = step(wrapped, data, optimiser)
        after = model.roles['teacher'].state_dict()
        momenta = [p for p in model.roles['teacher'].parameters() if p in optimiser.optimizer.state]
        found[name] = dict(
            expert=log['teacher.expert'],
            unmoved=all(torch.equal(after[key], value) for key, value in before.items()),
            momenta=len(momenta),
            end=dict(model.named_parameters()),
        )
    torch.save(found, folder / f'rank{rank}.pth')
    torch.distributed.destroy_process_group()
