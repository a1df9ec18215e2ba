"""Put one bad sample at a random place of a good training set, and compare what a stock model and a pair make of it.

A pair must train where the stock model trains, or stop with one sentence that names the file; it never hangs, nor does
it say less than the stock model. Then workers of the data loader are killed, as for want of memory.
``python tests/campaigns/poisoned_data.py`` writes ``benchmarks/campaigns/poisoned_data.json``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, TRANSFORMS
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

import mmdet.apis  # noqa: E402, F401  before the fork
import mmseg.apis  # noqa: E402, F401
import small_detectors  # noqa: E402
from forked import Ended, run  # noqa: E402
from poisons import IMAGES, POISONS, SIZE, write_labelled, write_objects  # noqa: E402
from small_trainings import role_config, stock_config  # noqa: E402

from mmadm.cli import train  # noqa: E402

OUT = ROOT / 'benchmarks' / 'campaigns' / 'poisoned_data.json'
ITERATIONS, LIMIT = 8, 180
console = Console()


@TRANSFORMS.register_module()
class SpoilValues:
    """Puts NaN into the image of one file."""

    def __init__(self, file: str = '') -> None:
        self.file = file

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change ``img``."""
        if Path(results['img_path']).name == self.file:
            results['img'] = results['img'].astype(np.float32)
            results['img'][::3] = np.nan
        return results


@HOOKS.register_module()
class KillWorker(Hook):
    """Kills a worker of a data loader as the kernel does when there is no memory left."""

    def __init__(self, moment: str) -> None:
        self.moment = moment

    def _kill(self, runner: Runner) -> None:
        if runner.iter >= 2:
            for process in multiprocessing.active_children()[-1:]:
                os.kill(process.pid, signal.SIGKILL)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """In training."""
        if self.moment == 'training':
            self._kill(runner)

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """In validation."""
        if self.moment == 'validation':
            self._kill(runner)


def segmentation(data: Path, pair: bool, spoilt: str) -> Config:
    """Training of a stock segmentor or of two."""
    cfg = (role_config if pair else stock_config)(data, ITERATIONS, workers=2, val_interval=4)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.img_suffix = '.jpg'
    cfg.train_dataloader.dataset.pipeline.insert(2, dict(type='mmengine.SpoilValues', file=spoilt))
    return cfg


def detection(data: Path, pair: bool, spoilt: str) -> Config:
    """Training of a stock detector or of two."""
    cfg = segmentation(data, pair, spoilt)
    for key in ('val_dataloader', 'val_evaluator', 'val_cfg', 'test_dataloader', 'test_evaluator', 'test_cfg'):
        cfg.pop(key)
    cfg.default_scope = 'mmdet'
    cfg.default_hooks.pop('visualization')
    cfg.visualizer = dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
    network = small_detectors.detector('retinanet')
    cfg.model = network
    if pair:
        cfg.model = dict(
            type='mmadm.Distillation',
            roles=dict(student=deepcopy(network), teacher=small_detectors.detector('retinanet', 8)),
            distillers=[
                dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits'),
                dict(type='mmadm.ADM', at='feats', foreground=True),
            ],
        )
    # small steps: a detector without normalised images must not diverge by itself
    for wrapper in (cfg.optim_wrapper.student, cfg.optim_wrapper.teacher) if pair else (cfg.optim_wrapper,):
        wrapper.optimizer.lr = 1e-4
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=ITERATIONS, val_interval=1000)
    cfg.train_dataloader.dataset = dict(
        type='CocoDataset',
        data_root=str(data),
        ann_file='train.json',
        data_prefix=dict(img='img/train/'),
        metainfo=dict(classes=[f'class{number}' for number in range(small_detectors.CLASSES)]),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='mmengine.SpoilValues', file=spoilt),
            dict(type='Resize', scale=SIZE[::-1], keep_ratio=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    )
    return cfg


TASKS = {'segmentation': (write_labelled, segmentation), 'detection': (write_objects, detection)}


def outcome(ended: Ended, index: int) -> str:
    """How a training ended, in a word or two."""
    if ended.code is None:
        return 'hangs'
    if ended.code == 0:
        return 'trains'
    named = any(f'/{index}.{end}' in ended.output for end in ('jpg', 'png'))
    kind = 'sentence' if ended.sentence else 'traceback'
    return f'{kind}, {"names the file" if named else "names no file"}'


def fault(stock: str, pair: str) -> bool:
    """Whether a pair does worse than a stock model."""
    if pair == 'trains' or pair == 'sentence, names the file':
        return False
    return pair == 'hangs' or stock == 'trains' or ('names the file' in stock and 'names no file' in pair)


class Campaign:
    """Runs trainings and keeps what they did."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed, self.draw = folder, seed, random.Random(seed)
        self.found: list[dict[str, Any]] = []

    def train(self, cfg: Config, name: str) -> Ended:
        """Train in a process of its own."""
        cfg.dump(str(self.folder / f'{name}.py'))
        words = [str(self.folder / f'{name}.py'), '--work-dir', str(self.folder / name)]
        ended = run(partial(train.main, words), self.folder / f'{name}.log', LIMIT)
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return ended

    def note(self, **entry: Any) -> None:
        """Keep what a training did, in the report, too."""
        self.found.append(entry)
        OUT.parent.mkdir(parents=True, exist_ok=True)
        OUT.write_text(json.dumps(dict(seed=self.seed, runs=self.found), indent=1) + '\n')

    def poison(self, task: str, kind: str) -> None:
        """Try one kind at a random place, with a stock model and with a pair."""
        write, config = TASKS[task]
        index, data = self.draw.randrange(IMAGES), self.folder / 'data'
        shutil.rmtree(data, ignore_errors=True)
        write(data)
        POISONS[task][kind](data, index)
        spoilt = f'{index}.jpg' if kind == 'NaN in an image' else ''
        ended = [self.train(config(data, pair, spoilt), ('stock', 'pair')[pair]) for pair in (False, True)]
        stock, pair = (outcome(one, index) for one in ended)
        said = (ended[1].sentence or ended[1].raw).replace(str(self.folder), '').replace(f'{ROOT}/', '')
        wrong = fault(stock, pair)
        self.note(task=task, kind=kind, index=index, stock=stock, pair=pair, fault=wrong, said=said)
        console.print(f'{task}, {kind} at {index}: stock {stock}; pair {pair}', markup=False)
        if wrong:
            console.print(f'  FAULT {said}', markup=False, soft_wrap=True)

    def kill_workers(self) -> None:
        """Kill a worker in training and in validation."""
        data = self.folder / 'data'
        shutil.rmtree(data, ignore_errors=True)
        write_labelled(data)
        for moment in ('training', 'validation'):
            for persistent in (False, True):
                cfg = segmentation(data, True, '')
                for loader in (cfg.train_dataloader, cfg.val_dataloader):
                    loader.update(num_workers=2, persistent_workers=persistent)
                cfg.custom_hooks = [dict(type='mmengine.KillWorker', moment=moment)]
                ended = self.train(cfg, 'killed')
                loader = f'lower {"train" if moment == "training" else "val"}_dataloader'
                right = 'DataLoader worker' in ended.sentence and loader in ended.sentence
                kind = f'worker killed in {moment}{", persistent" if persistent else ""}'
                pair = 'sentence' if right else ended.raw or 'trains'
                self.note(task='loading', kind=kind, pair=pair, fault=not right, said=ended.sentence)
                console.print(f'{kind}: {pair}', markup=False)


def main() -> int:
    """Run; returns 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--places', type=int, default=2, help='places for each kind of bad sample')
    parser.add_argument('--kinds', nargs='+', help='only these')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        campaign = Campaign(Path(name), args.seed)
        campaign.kill_workers()
        for _ in range(args.places):
            for task, kinds in POISONS.items():
                for kind in kinds:
                    if args.kinds is None or kind in args.kinds:
                        campaign.poison(task, kind)
    table = Table('task', 'bad sample', 'stock model', 'pair')
    for entry in campaign.found:
        table.add_row(entry['task'], entry['kind'], entry.get('stock', ''), entry['pair'])
    console.print(table)
    return int(any(entry['fault'] for entry in campaign.found))


if __name__ == '__main__':
    sys.exit(main())
