"""Generate the street data set: Cityscapes' folders and ids, COCO boxes of person, car and traffic sign.

Of Cityscapes' 19 classes occur road, sidewalk, building, pole, traffic sign, vegetation, sky, person and car.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmadm.demo.streets import make_streets
from mmadm.utils.cli import one_line_errors


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of the tool."""
    default = Path(os.environ.get('MMADM_DATA', 'data')) / 'streets'
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('root', nargs='?', type=Path, default=default, help='folder for the data set')
    parser.add_argument('--train', type=int, default=160, help='number of training images')
    parser.add_argument('--val', type=int, default=40, help='number of validation images')
    parser.add_argument('--seed', type=int, default=0, help='the same seed gives the same bytes')
    parser.add_argument('--size', type=int, nargs=2, default=(128, 256), metavar=('HEIGHT', 'WIDTH'), help='pixels')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(arguments)
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with one_line_errors(), Progress(*columns, transient=True) as bar:
        task = bar.add_task('Drawing streets', total=args.train + args.val)
        drawn = make_streets(
            args.root,
            args.train,
            args.val,
            args.seed,
            tuple(args.size),
            lambda done, _: bar.update(task, completed=done),
        )
    done = 'drew' if drawn else 'already there:'
    print(f'{args.root}: {done} {args.train} training and {args.val} validation images, seed {args.seed}')
