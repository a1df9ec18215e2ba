"""What the log of one training says: scores of every role, scores by class, cost and circumstances."""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Mapping
from numbers import Real
from typing import Any

from mmadm.bench.metrics import class_scores, role_scores
from mmadm.bench.records import Curves, seconds_per_iteration, training_entries, validation_curves
from mmadm.bench.work_dir import WorkDir, started
from mmadm.utils.checkpoint import read_checkpoint
from mmadm.utils.config import role_cfgs, role_model_cfg
from mmadm.utils.errors import CheckpointError, ConfigError
from mmadm.utils.optim_config import type_name

_BESIDE = ('step', 'epoch', 'iter', 'time', 'data_time', 'memory')
_TOLD = {
    'torch': r'PyTorch: (\S+)',
    'mmengine': r'MMEngine: (\S+)',
    'GPU': r'GPU [\d,]+: (.+)',
    'seed': r'^ +seed: (\d+)',
}


def run_curves(run: WorkDir) -> Curves:
    """Validation scores by metric and role; of a kind that no table of ours knows, the first number of each role."""
    curves = validation_curves(run.scalars, run.deploy)
    if curves:
        return curves
    for entry in run.scalars:
        numbers = {key: value for key, value in entry.items() if key not in _BESIDE and isinstance(value, Real)}
        if 'loss' in entry or not numbers:
            continue
        metric = _without_role(next(iter(numbers)), run)
        for key, value in numbers.items():
            if _without_role(key, run) == metric:
                role = key.removesuffix(metric).rstrip('/') or run.deploy
                curves.setdefault(metric, {}).setdefault(role, []).append((int(entry['step']), float(value)))
    return curves


def _without_role(key: str, run: WorkDir) -> str:
    role, _, rest = key.partition('/')
    return rest if role in run.roles and rest else key


def role_table(run: WorkDir, curves: Curves) -> tuple[list[str], list[list[str]]]:
    """Titles and rows: who takes part, from which weights, and what each scores."""
    titles = ['role', 'network', 'learns', 'starts from']
    titles += [f'{word} {metric}' for metric in curves for word in ('last', 'best')]
    roles, rows = run.cfg.model.get('roles') or {}, []
    for role, (network, pretrained) in _networks(run).items():
        told = roles.get(role, {})
        source = told.get('checkpoint') or (f'as {told["like"]}' if told.get('like') else pretrained)
        learns = 'no' if role in (run.cfg.model.get('frozen') or ()) else ', '.join(told.get('train') or ()) or 'yes'
        name = f'{role} (deployed)' if roles and role == run.deploy else role
        rows.append([name, network, learns, _short(str(source if roles else run.cfg.get('load_from') or source))])
        for by_role in curves.values():
            curve = by_role.get(role)
            best = max(curve, key=lambda point: point[1]) if curve else None
            rows[-1] += [f'{curve[-1][1]:.2f}', f'{best[1]:.2f} at {best[0]}'] if curve and best else ['-', '-']
    return titles, rows


def _networks(run: WorkDir) -> dict[str, tuple[str, str]]:
    """What each role is, in two words, and the weights that its config begins with."""
    model = run.cfg.model
    found = {}
    for role, cfg in (role_cfgs(model.roles) if 'roles' in model else {'model': model}).items():
        try:
            stock = role_model_cfg(cfg)
            parts = [stock, *([stock['backbone']] if isinstance(stock.get('backbone'), Mapping) else [])]
            inits = [part.get('init_cfg') for part in parts if isinstance(part.get('init_cfg'), Mapping)]
            files = [stock.get('pretrained'), *(init.get('checkpoint') for init in inits)]
            name = ', '.join(type_name(part['type']) for part in parts)
            found[role] = name, next((f'backbone of {file}' for file in files if file), 'its initialisation')
        except (ConfigError, KeyError):  # a package or file that is not here
            found[role] = str(cfg.get('cfg', '-')), '-'
    return found


def class_scores_of(run: WorkDir) -> dict[str, dict[str, float]]:
    """Scores in percent of the last validation by role and class; empty if the log has none."""
    validations = [entry for entry in run.scalars if role_scores(entry)]
    found = class_scores(validations[-1], '', run.deploy) if validations else {}
    if found:
        return found
    # our loop says before each table whose it is, the stock one knows only one network
    *_, rest = re.split(r"scores of role '", run.log, maxsplit=1)
    if rest == run.log:
        return class_scores({}, run.log, run.deploy)
    tables = dict(re.findall(r"scores of role '([^']+)':(.*?)(?=scores of role '|\Z)", run.log, flags=re.DOTALL))
    return {role: scores for role, text in tables.items() for scores in class_scores({}, text, role).values()}


def facts(run: WorkDir) -> list[tuple[str, str]]:
    """What it cost and how it came about."""
    entries = training_entries(run.scalars)
    found = {name: matches[-1] for name, form in _TOLD.items() if (matches := re.findall(form, run.log, re.MULTILINE))}
    seconds = seconds_per_iteration(run.scalars) if any('time' in entry for entry in entries) else None
    reading = [entry['data_time'] for entry in entries if 'data_time' in entry]
    memory = [entry['memory'] for entry in entries if 'memory' in entry]
    told = {
        'work dir': str(run.path),
        'started': ', '.join(map(started, run.starts)),
        'time of an iteration': seconds
        and f'{seconds:.3f} s (median), of which waiting for data {statistics.median(reading or [0]):.3f} s',
        'iterations logged': f'{entries[-1]["step"]:,}',
        'training without validation': seconds and f'about {_hours(seconds * entries[-1]["step"])}',
        'peak memory of the GPU': f'{max(memory):,} MiB' if memory else 'not logged: it ran on a CPU',
        'images of a step': str((run.cfg.get('train_dataloader') or {}).get('batch_size', '-')) + ' on each process',
        'ran on': found.pop('GPU', 'CPU'),
        **found,
        'last started from': run.cfg.get('load_from'),
        'newest checkpoint': _checkpoint(run),
    }
    return [(name, value) for name, value in told.items() if value]


def _checkpoint(run: WorkDir) -> str:
    """Name and origin of the newest checkpoint."""
    try:
        path = run.checkpoint
        meta: dict[str, Any] = read_checkpoint(path)['meta'] if path else {}
    except CheckpointError as error:
        return str(error)
    if path is None:
        return 'none'
    parts = [f'{key} {meta[key]}' for key in ('epoch', 'iter', 'seed') if meta.get(key) is not None]
    left_out = [f'role {role} is in {_short(file)}' for role, file in (meta.get('left_out') or {}).items()]
    return '; '.join([f'{path.name} ({", ".join(parts)}, written {meta.get("time", "at an unknown time")})', *left_out])


def _short(file: str) -> str:
    """A path without the way up and down again that a written config has."""
    return file if '://' in file or ' ' in file else os.path.normpath(file)


def _hours(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes // 60}:{minutes % 60:02}:{rest:02}'
