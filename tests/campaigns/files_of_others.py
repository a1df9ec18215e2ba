"""Give every command checkpoints from others, links in the work dir, and two trainings in one work dir.

No code in a file is ever run: each carries a call that would make a file. A file that cannot be used ends the command
with one sentence. ``python tests/campaigns/files_of_others.py`` writes ``benchmarks/campaigns/files_of_others.json``.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

import mmseg.apis  # noqa: E402, F401  before the fork
from forked import Ended, run  # noqa: E402
from hostile_files import FILES  # noqa: E402
from links import LINKS, two_trainings  # noqa: E402
from small_segmentors import segmentor  # noqa: E402
from small_trainings import role_config, stock_config, write_images  # noqa: E402

from mmadm.cli import distill, export, test, train, visualize  # noqa: E402
from mmadm.utils.checkpoint import read_checkpoint  # noqa: E402

OUT = ROOT / 'benchmarks' / 'campaigns' / 'files_of_others.json'
LIMIT, MEMORY = 300, 12 << 30
console = Console()


class Campaign:
    """Makes files, gives them to commands and keeps what happened."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.marker = folder, folder / 'executed'
        write_images(folder / 'data')
        self.cfg = role_config(folder / 'data', iterations=2, val_interval=9)
        self.cfg.custom_hooks = []
        self.cfg.dump(str(folder / 'pair.py'))
        stock = stock_config(folder / 'data', iterations=2, val_interval=9)
        stock.dump(str(folder / 'stock.py'))
        self.good = folder / 'good'
        ended = self.call(partial(train.main, [str(folder / 'pair.py'), '--work-dir', str(self.good)]))
        assert ended.code == 0, ended.output[-3000:]
        self.checkpoint = read_checkpoint(self.good / 'iter_2.pth')
        self.found: list[dict[str, Any]] = []

    def call(self, work: Callable[[], object]) -> Ended:
        """Run a command in a process of its own, with less memory than absurd files ask for."""

        def limited() -> None:
            """In the process."""
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            work()

        return run(limited, self.folder / 'log', LIMIT)

    def entries(self, file: Path) -> dict[str, Callable[[], object]]:
        """Every way by which a file comes in."""
        work, pair = self.folder / 'work', str(self.folder / 'pair.py')
        stock, out = str(self.folder / 'stock.py'), str(self.folder / 'out')
        image = str(next((self.folder / 'data').rglob('*.png')))
        offline = self._written('offline', 'teacher', dict(cfg=segmentor(8, dropout=0.5), checkpoint=str(file)))
        started = self._written('started', 'student', dict(cfg=segmentor(4, dropout=0.5), checkpoint=str(file)))
        init = dict(type='Pretrained', checkpoint=str(file))
        inside = segmentor(4)
        inside['backbone']['init_cfg'] = init
        pretrained = self._written('pretrained', 'student', inside)
        into, of_student = ['--work-dir', str(work)], [str(file), '--role', 'student']
        return {
            'teacher': partial(train.main, [offline, *into]),
            'student': partial(train.main, [started, *into]),
            'init_cfg': partial(train.main, [pretrained, *into]),
            'load_from': partial(train.main, [pair, *into, '--cfg-options', f'load_from={file}']),
            'load_from, stock': partial(train.main, [stock, *into, '--cfg-options', f'load_from={file}']),
            '--resume FILE': partial(train.main, [pair, *into, '--resume', str(file)]),
            '--resume': partial(train.main, [pair, '--work-dir', str(file.parent), '--resume']),
            'export': partial(
                export.main, [*of_student, '--out', f'{out}.pth', '--config-out', f'{out}.py', '--force']
            ),
            'export --onnx': partial(export.main, [*of_student, '--onnx', f'{out}.onnx', '--force']),
            'export --tokens': partial(export.main, [str(file), '--tokens', f'{out}.pth', '--force']),
            'test': partial(test.main, [pair, str(file), *into]),
            'visualize': partial(visualize.main, [pair, str(file), image, '--out', out]),
            '--student-checkpoint': partial(
                distill.main, [stock, stock, '--student-checkpoint', str(file), '--out', f'{out}.py', '--force']
            ),
            '--teacher-checkpoint': partial(
                distill.main, [stock, stock, '--teacher-checkpoint', str(file), '--out', f'{out}.py', '--force']
            ),
        }

    def _written(self, name: str, role: str, value: dict[str, Any]) -> str:
        cfg = Config(self.cfg.to_dict())
        cfg.model.roles[role] = value
        if name == 'offline':
            cfg.model.frozen = ['teacher']
            cfg.optim_wrapper.pop('teacher')
            cfg.param_scheduler.pop('teacher')
        cfg.dump(str(self.folder / f'{name}.py'))
        return str(self.folder / f'{name}.py')

    def give(self, kind: str) -> None:
        """Give one file to every command."""
        folder = self.folder / 'theirs'
        folder.mkdir()
        file = folder / 'iter_2.pth'
        FILES[kind](file, self.checkpoint, self.marker)
        for entry, call in self.entries(file).items():
            ended = self.call(call)
            self.note('file', f'{kind}, {entry}', ended, [f'{kind} was run by {entry}'] * self.marker.exists())
            self.marker.unlink(missing_ok=True)
            for left in ('work', 'out'):
                shutil.rmtree(self.folder / left, ignore_errors=True)
        shutil.rmtree(folder)

    def note(self, part: str, what: str, ended: Ended, faults: list[str]) -> None:
        """Keep what happened, and say it if it is wrong."""
        wrong = [one for one in (*faults, ended.raw) if one]
        said = [text.replace(str(self.folder), '') for text in (ended.sentence, *wrong)]
        self.found.append(dict(part=part, what=what, code=ended.code, said=said[0], faults=said[1:]))
        if wrong:
            console.print(f'{what}: {said[1:]}', markup=False, soft_wrap=True)

    def links(self) -> None:
        """Try links and other oddities in a work dir."""
        for what, scenario in LINKS.items():
            folder = self.folder / 'links'
            folder.mkdir()
            shutil.copytree(self.good, folder / 'work')
            (folder / 'work/last_checkpoint').write_text(str(folder / 'work/iter_2.pth'))
            words, check = scenario(folder)
            longer = ['--cfg-options', 'train_cfg.max_iters=3']
            ended = self.call(partial(train.main, [str(self.folder / 'pair.py'), *words, *longer]))
            self.note('link', what, ended, list(check(ended)))
            shutil.rmtree(folder)


def main() -> int:
    """Run; returns 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kinds', nargs='*', help='only these files')
    parser.add_argument('--out', type=Path, default=OUT, help='the report')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        campaign = Campaign(Path(name))
        for kind in FILES:
            if args.kinds is None or kind in args.kinds:
                start = time.monotonic()
                campaign.give(kind)
                console.print(f'{kind}: {time.monotonic() - start:.0f} s')
        if not args.kinds:
            campaign.links()
            for what, ended, faults in two_trainings(campaign.folder, campaign.folder / 'pair.py'):
                campaign.note('two trainings', what, ended, faults)
    table = Table('part', 'tries', 'went on', 'stopped with a sentence', 'faults')
    for part in dict.fromkeys(entry['part'] for entry in campaign.found):
        found = [entry for entry in campaign.found if entry['part'] == part]
        sentences = sum(bool(entry['said']) for entry in found)
        went = sum(entry['code'] == 0 for entry in found)
        table.add_row(part, *map(str, (len(found), went, sentences, sum(bool(entry['faults']) for entry in found))))
    console.print(table)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(campaign.found, indent=1) + '\n')
    return int(any(entry['faults'] for entry in campaign.found))


if __name__ == '__main__':
    sys.exit(main())
