"""Runs one part in a process of its own, so that a crash or a hang costs only this part."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from mmadm.bench.gpu_check.devices import full_precision
from mmadm.bench.gpu_check.plan import Part
from mmadm.bench.gpu_check.report import Report, Setting


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the part; its findings go into a file as they come."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('part', type=lambda where: Part('', '', where, 0.0), help='module:function')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--tiny', action='store_true')
    parser.add_argument('--seconds', type=float, default=60)
    parser.add_argument('--folder', type=Path, required=True)
    parser.add_argument('--suite', nargs=2, default=('', ''))
    args = parser.parse_args(arguments)
    args.folder.mkdir(parents=True, exist_ok=True)
    setting = Setting(torch.device(args.device), args.tiny, args.seconds, args.folder.resolve(), tuple(args.suite))
    report = Report(args.folder / 'rows.json')
    logging.disable(logging.INFO)
    warnings.filterwarnings('ignore')
    full_precision()
    with report.attempt('the part ran to its end'):
        args.part.function()(setting, report)


if __name__ == '__main__':
    sys.exit(main())
