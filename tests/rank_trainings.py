"""Short trainings of one of two ranks in which something goes wrong on the second; spawned processes import this."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import small_detectors
import small_segmentors
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mmadm.utils.lock import sole_training
from mmadm.utils.unwrap import unwrapped

Config = dict[str, Any]

PAIR = ['student', 'teacher']
ADM = dict(type='mmadm.ADM', divergence=0.5)
SWITOKD, KDCL = dict(type='mmadm.SwitOKD'), dict(type='mmadm.KDCL', roles=PAIR)
#: Distillers of every online method
ONLINE: dict[str, list[Config]] = dict(
    dml=[dict(type='mmadm.MutualLearning', roles=PAIR)],
    adm=[ADM],
    kdcl=[KDCL],
    switokd=[SWITOKD],
    switokd_adm=[SWITOKD, ADM],
    kdcl_adm=[KDCL, ADM],
    sokd=[dict(type='mmadm.SOKD')],
    ffsd=[dict(type='mmadm.FFSD', students=['one', 'two'])],
)
ITERATIONS, FAULTY = 4, 2
#: Faults of mixed precision: bfloat16 has no loss scaler, which would leave out the step
AMP = dict(overflow='float16', exploding='bfloat16')


def model(method: str, family: str = '') -> Config:
    """Config of an online method, of segmentors or of a family of detectors."""
    roles = (
        dict(student=small_detectors.detector(family, 4), teacher=small_detectors.detector(family, 8))
        if family
        else dict(student=small_segmentors.segmentor(4), teacher=small_segmentors.segmentor(8))
    )
    cfg: Config = dict(type='mmadm.Distillation', distillers=[dict(part) for part in ONLINE[method]])
    if method == 'sokd':
        train = ['bbox_head'] if family else ['decode_head']
        roles['bridge'] = dict(like='teacher', train=train)
        cfg['frozen'] = ['teacher']
    if method == 'ffsd':
        roles = dict.fromkeys(('one', 'two', 'leader'), roles['student'])
        cfg['deploy'] = 'leader'
        cfg['distillers'][0].update(at='feats' if family else 'pre_logits')
    return dict(cfg, roles=roles)


class Scenes(Dataset):
    """Images that ranks get in turn; every second one, so all of rank 1, may lack labels or objects."""

    def __init__(self, detects: bool, empty: bool) -> None:
        self.detects, self.empty = detects, empty

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Config:
        empty = self.empty and index % 2 == 1
        if self.detects:
            made = small_detectors.batch(1, seed=index, objects=0 if empty else 3)
        else:
            made = small_segmentors.batch(1, seed=index, ignored_rows=small_segmentors.SIZE[0] if empty else 4)
        return {key: values[0] for key, values in made.items()}


class Fault(Hook):
    """What goes wrong on the second rank in one iteration."""

    priority = 'VERY_HIGH'

    def __init__(self, kind: str, moment: Path) -> None:
        self.kind, self.moment = kind, moment

    def before_train(self, runner: Runner) -> None:
        """Spoil a loss of the first role alone."""
        if self.kind == 'nan loss' and get_rank() == 1:
            role = next(iter(unwrapped(runner.model).roles.values()))
            loss = role.decode_head.loss_decode if hasattr(role, 'decode_head') else role.bbox_head.loss_cls
            loss.register_forward_hook(lambda _, __, value: value * torch.nan if runner.iter == FAULTY else None)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Do the rest."""
        if runner.iter != FAULTY or get_rank() != 1:
            return
        self.moment.write_text(str(time.time()))
        if self.kind == 'inf image':
            data_batch['inputs'][0] = torch.full(data_batch['inputs'][0].shape, torch.inf)
        if self.kind in AMP:
            first = next(iter(unwrapped(runner.model).roles.values()))
            handle = first.backbone.conv1.weight.register_hook(
                lambda gradient: [gradient * torch.inf, handle.remove()][0]
            )
        if self.kind == 'exception':
            raise RuntimeError('a fault of rank 1')
        if self.kind == 'killed':
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind in ('slow', 'stuck'):
            time.sleep(3 if self.kind == 'slow' else 600)
        if self.kind == 'held':
            while not self.moment.with_suffix('.over').exists():
                time.sleep(0.1)


def train(folder: Path, method: str, fault: str, family: str = '') -> Config:
    """Train in a real Runner; returns how it ended, and a hash of the weights."""
    optimiser = dict(constructor='mmadm.RoleOptimWrapperConstructor', optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
    if fault in AMP:
        optimiser.update(type='AmpOptimWrapper', dtype=AMP[fault])
    sampler = dict(type='InfiniteSampler', shuffle=False)
    runner = Runner(
        model=model(method, family),
        work_dir=str(folder),
        experiment_name=f'{folder.name}_{time.monotonic_ns()}',
        train_dataloader=dict(dataset=Scenes(bool(family), fault == 'empty'), batch_size=2, sampler=sampler),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=ITERATIONS),
        optim_wrapper=optimiser,
        default_hooks=dict(checkpoint=None),
        custom_hooks=[
            Fault(fault, folder.with_suffix('.moment')),
            dict(type='mmadm.NonFiniteGuardHook', check_labels=False),
        ],
        default_scope='mmdet' if family else 'mmseg',
        randomness=dict(seed=0),
        log_level='CRITICAL',
        launcher='pytorch',
        # a Runner takes device_ids for granted, which DDP refuses on a CPU
        cfg=dict(
            model_wrapper_cfg=dict(broadcast_buffers=False, device_ids=None, find_unused_parameters=True),
            work_dir=str(folder),
        ),
    )
    try:
        with sole_training(folder):
            runner.train()
        end = 'finished'
    except Exception as error:
        end = f'{type(error).__name__}: {error}'
    weights = [value.detach() for value in unwrapped(runner.model).parameters()]
    digest = hashlib.sha256(b''.join(value.numpy().tobytes() for value in weights)).hexdigest()[:16]
    return dict(end=end, finite=all(bool(value.isfinite().all()) for value in weights), weights=digest)


def be_rank(
    rank: int, folder: Path, timeout: float, jobs: list[tuple[str, str, str]], work: Path | None = None
) -> None:
    """Be one of two processes; writes what became of each job (method, fault, family) as soon as it is over.

    Args:
        rank: Of this process.
        folder: Where the two meet and write.
        timeout: Seconds that they wait for each other.
        jobs: What to train.
        work: Where the work dirs are, if not there.
    """
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    # what mmengine makes of env_cfg.dist_cfg.timeout
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2, timeout=timedelta(seconds=timeout)
    )
    found = {}
    for method, fault, family in jobs:
        name = f'{family or "segmentor"}, {method}, {fault}'
        found[name] = train((work or folder) / name.replace(', ', '_').replace(' ', '_'), method, fault, family)
        found[name]['at'] = time.time()
        (folder / f'rank{rank}.json').write_text(json.dumps(found))
