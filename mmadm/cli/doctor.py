"""Say whether this installation works and, with a config, what it would train; paste it into a report of a fault."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from packaging.version import Version
from rich.console import Console
from rich.table import Table

from mmadm.cli.describe import connector_lines, distiller_table, image_lines, role_table
from mmadm.cli.runtime import is_distillation, role_settings
from mmadm.cli.trial import build_model
from mmadm.utils.cli import one_line_errors
from mmadm.utils.config import resolve_config
from mmadm.utils.errors import ConfigError
from mmadm.utils.memory import free_on_host
from mmadm.utils.versions import SUPPORTED
from mmadm.version import __version__

#: Toolboxes that may be left out
OPTIONAL = ('mmseg', 'mmdet', 'mmpretrain')

console = Console()


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of the verb."""
    parser = argparse.ArgumentParser(prog='mmadm doctor', description=__doc__)
    parser.add_argument('config', nargs='?', help='config of a distillation; without one, only the installation')
    parser.add_argument('--cost', action='store_true', help='also time the parts of a training step, with its data')
    parser.add_argument('--gpu', action='store_true', help='also try everything on a GPU: at most eight minutes')
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda', help='with --gpu: cpu tries it very small')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the verb; returns 1 if something does not fit."""
    args = parse_args(arguments)
    rows = list(installation())
    console.print(_table(rows))
    if args.config:
        with one_line_errors():
            MMLogger.get_current_instance().setLevel('WARNING')  # how each weight was drawn
            path = resolve_config(args.config)
            describe(Config.fromfile(path), args.config)
            if args.cost:
                cost(Config.fromfile(path))
    failed = any(not fits for *_, fits in rows)
    if args.gpu:
        with one_line_errors():
            failed = bool(try_gpu(args.device)) or failed
    return int(failed)


def installation() -> Iterator[tuple[str, str, bool]]:
    """What is there, and whether it fits: name, what was found, fits."""
    yield (
        'Python',
        f'{platform.python_version()}, {platform.system()} {platform.machine()}',
        sys.version_info >= (3, 10),
    )
    yield 'mmadm', f'{__version__} in {Path(__file__).parents[1]}', True
    yield 'torch', torch.__version__, Version(torch.__version__).release >= (2, 6)
    for name, (oldest, below) in SUPPORTED.items():
        try:
            version = import_module(name).__version__
        except Exception as error:  # of a package that is there and broken, too
            left_out = name in OPTIONAL and _is_missing(error)
            found = 'not installed, may be left out' if left_out else f'not usable: {type(error).__name__}: {error}'
            yield name, found, left_out
            continue
        fits = Version(oldest) <= Version(version) < Version(below)
        yield name, version if fits else f'{version}, but mmadm needs {oldest} up to below {below}', fits
    yield ('compiled operators of mmcv', *_operators())
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        yield 'GPU', f'{torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free', True
    else:
        yield 'GPU', 'none: training runs on the CPU', True
    free = free_on_host()
    yield 'processors, free memory', f'{os.cpu_count()}, {f"{free / 2**30:.1f} GiB" if free else "unknown"}', True
    yield 'free disk here', f'{shutil.disk_usage(".").free / 2**30:.1f} GiB', True


def describe(cfg: Config, name: str) -> None:
    """Build a config's model and say what it would do.

    Raises:
        ConfigError: If it is no distillation, or cannot be built.
    """
    if 'model' not in cfg or not is_distillation(cfg):
        raise ConfigError(f'{name}: model.type is not mmadm.Distillation; a stock config needs no doctor of ours')
    model = build_model(cfg)
    console.print(role_table(model, cfg))
    console.print(distiller_table(model, cfg))
    added = role_settings(cfg)
    lines = [*image_lines(model), *connector_lines(model)]
    lines += [f'`mmadm train` adds: {", ".join(_leaves(added))}'] if added else []
    for line in lines:
        console.print(f'- {line}', markup=False, highlight=False)


def cost(cfg: Config) -> None:
    """Time the parts of a training step on images of the config's size."""
    from mmadm.bench import step_cost
    from mmadm.bench.cost_table import show

    show(step_cost.measure(cfg, 2), console)


def try_gpu(device: str) -> int:
    """Run the checks of ``tools/gpu_check.py``; returns 1 if one does not hold.

    Raises:
        ConfigError: If there is no GPU to run them on.
    """
    from mmadm.bench.gpu_check import command

    if device == 'cuda' and not torch.cuda.is_available():
        raise ConfigError('--gpu: torch finds no GPU here; --device cpu tries the checks themselves, very small')
    return command.main(['--device', device, *(['--tiny'] if device == 'cpu' else [])])


def _operators() -> tuple[str, bool]:
    try:
        from mmcv.ops import nms

        boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 8.0]])
        kept = nms(boxes, torch.tensor([0.9, 0.8]), 0.5)[1]
    except Exception as error:
        return f'not usable: {type(error).__name__}: {error}', False
    return ('work', True) if kept.tolist() == [0] else (f'nms keeps {kept.tolist()} in place of [0]', False)


def _is_missing(error: Exception) -> bool:
    return isinstance(error, ModuleNotFoundError) and error.name in OPTIONAL


def _leaves(settings: dict) -> Iterator[str]:
    """Dotted names of what is added."""
    for key, value in settings.items():
        if isinstance(value, dict) and 'type' not in value:
            yield from (f'{key}.{inner}' for inner in _leaves(value))
        else:
            yield key


def _table(rows: Sequence[tuple[str, str, bool]]) -> Table:
    table = Table()
    for name in ('installation', 'found', 'fits'):
        table.add_column(name, overflow='fold')
    for name, found, fits in rows:
        table.add_row(name, found, 'yes' if fits else 'NO')
    return table
