"""Train the teacher of the demo on streets that the demo does not have, and write its weights in half precision.

What it was trained on is drawn by this command, too. An interrupted training goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from mmadm.bench.suites import ROOT
from mmadm.demo.streets import make_streets
from mmadm.utils.checkpoint import newest_checkpoint, read_checkpoint, write_checkpoint
from mmadm.utils.config import read_config
from mmadm.utils.errors import CheckpointError

#: Config of the teacher, below ``configs``, and its weights in the package
CONFIG, WEIGHTS = 'configs/demo/trained_teacher.py', Path(__file__).with_name('teacher.pth')
#: The demo draws with seed 0
SEED, IMAGES = 7, {'train': 480, 'val': 40}
#: Height and width of both
SIZE = (96, 192)


def publish(checkpoint: Path, config: Path, out: Path) -> None:
    """Write the weights of a stock training in half precision, and what a distillation asks of their training.

    Args:
        checkpoint: Checkpoint of the training.
        config: Its config.
        out: File to write.
    """
    loaded = read_checkpoint(checkpoint)
    half = {key: value.half() if value.is_floating_point() else value for key, value in loaded['state_dict'].items()}
    # of the config only the model: the rest names folders of the machine that trained it
    model = Config({'model': read_config(config).model.to_dict()}).pretty_text
    write_checkpoint({'meta': {'dataset_meta': loaded['meta']['dataset_meta'], 'cfg': model}, 'state_dict': half}, out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo_teacher'), help='data and training')
    parser.add_argument('--out', type=Path, default=WEIGHTS, help='where the weights go')
    args = parser.parse_args(arguments)
    os.environ['MMADM_DATA'] = str(args.work_dir / 'data')
    print(f'drawing {sum(IMAGES.values())} streets', flush=True)
    make_streets(args.work_dir / 'data' / 'streets', **IMAGES, seed=SEED, size=SIZE)
    words = ['-m', 'mmadm', 'train', str(ROOT / CONFIG), '--work-dir', str(args.work_dir / 'training'), '--resume']
    subprocess.run([sys.executable, *words], check=True)
    checkpoint = newest_checkpoint(args.work_dir / 'training')
    if checkpoint is None:
        raise CheckpointError(f'{args.work_dir / "training"} holds no checkpoint')
    publish(checkpoint, ROOT / CONFIG, args.out)
    print(f'{args.out}: {args.out.stat().st_size / 1e6:.2f} MB')


if __name__ == '__main__':
    main()
