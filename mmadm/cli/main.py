"""The ``mmadm`` command."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module

from mmadm.utils.cli import quiet_pipe
from mmadm.utils.errors import near_matches
from mmadm.version import __version__

#: By verb: its module, and what it does
VERBS = {
    'distill': ('mmadm.cli.distill', 'write, and run, a distillation from two stock configs'),
    'train': ('mmadm.cli.train', 'train the roles of a config, or a stock model'),
    'test': ('mmadm.cli.test', 'score one role'),
    'export': ('mmadm.cli.export', 'write a role as a stock checkpoint and config'),
    'visualize': ('mmadm.cli.visualize', 'draw predictions and what the distillers see'),
    'report': ('mmadm.cli.report', 'write a page about one training'),
    'doctor': ('mmadm.cli.doctor', 'check the installation, or what a config would do'),
    'demo': ('mmadm.cli.demo', 'distil a small network on generated streets, and show what it gained'),
    'benchmark': ('mmadm.bench.command', 'train and compare the methods of a suite'),
}

#: What tells of deprecations at every start
_TOOLBOXES = r'(mmengine|mmcv|mmseg|mmdet|mmpretrain|torch|torchvision|importlib|pkg_resources)\b'


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb; ends the program with its exit code."""
    with quiet_pipe():
        _run(list(sys.argv[1:] if arguments is None else arguments))


def _run(words: list[str]) -> None:
    if not words or words[0] in ('-h', '--help'):
        print(_usage())
        return
    if words[0] == '--version':
        print(f'mmadm {__version__}')
        return
    if words[0] not in VERBS:
        print(f'error: mmadm {words[0]}: no such verb; {near_matches(words[0], VERBS)}', file=sys.stderr)
        raise SystemExit(2)
    warnings.filterwarnings('ignore', module=_TOOLBOXES)
    sys.exit(import_module(VERBS[words[0]][0]).main(words[1:]))


def _usage() -> str:
    width = max(map(len, VERBS))
    lines = [f'  {verb:{width}}  {what}' for verb, (_, what) in VERBS.items()]
    return '\n'.join(['usage: mmadm VERB ...', '', *lines, '', 'mmadm VERB --help says more.'])
