"""The page about one training: what it logged and, where images and a checkpoint are at hand, what it predicts."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from mmengine.device import get_device
from mmengine.registry import DATASETS

from mmadm.bench.confusion import run_confusion
from mmadm.bench.curves import learning_figure, loss_figure
from mmadm.bench.examples import examples
from mmadm.bench.finished_runs import FinishedRun, load_model
from mmadm.bench.loss_groups import loss_groups
from mmadm.bench.metrics import TASKS
from mmadm.bench.observations import overlap_curves, overlap_figure
from mmadm.bench.page import write_page
from mmadm.bench.pictures import plot
from mmadm.bench.records import Curves
from mmadm.bench.report import class_scores_section, similarity_section
from mmadm.bench.run_facts import class_scores_of, facts, role_table, run_curves
from mmadm.bench.styles import method_styles
from mmadm.bench.work_dir import WorkDir
from mmadm.utils.config import role_cfgs, role_model_cfg
from mmadm.utils.errors import ConfigError

Told = Callable[[str], None]


def write_run_page(run: WorkDir, target: Path, images: bool, told: Told) -> list[str]:
    """Write the page of one training.

    Args:
        run: Its work dir.
        target: HTML file to write.
        images: Whether to show images of the data set, whose licence may not allow to pass them on.
        told: Called with what is being done.

    Returns:
        What the page lacks, as sentences.
    """
    curves = run_curves(run)
    header, rows = role_table(run, curves)
    lacking = [] if curves else ['Learning curves: no validation was logged.']
    sections = {
        'metric': next(iter(curves), 'score'),
        'header': header,
        'rows': rows,
        'learning': _learning(run, curves),
        'losses': _losses(run),
        'observations': _observations(run),
        'classes': _classes(run, next(iter(curves), ''), lacking),
        **_predictions(run, images, told, lacking),
    }
    page = {
        **sections,
        'run': {'unit': run.unit, 'facts': facts(run), 'config': run.text, 'lacking': lacking},
    }
    write_page(target, run.title, _note(run), [page])
    return lacking


def _note(run: WorkDir) -> str:
    """How far the training is."""
    unit, done, end = run.unit, run.done, run.length
    reached = f'{done} {unit}{"" if done == 1 else "s"}'
    if end is None:
        state = f'{reached} are done; its config does not say how many it shall have.'
    elif done >= end:
        state = f'finished: {reached}.'
    else:
        state = f'not finished: {done} of {end} {unit}s are logged or saved.'
    times = len(run.starts)
    return f'One training, {state}' + (
        f' It was started {times} times; what was resumed is joined.' if times > 1 else ''
    )


def _learning(run: WorkDir, curves: Curves) -> list[Any]:
    # a log may tell of more roles than its config has, which was changed between two starts
    styles = method_styles(
        list(dict.fromkeys([*run.roles, *(role for by_role in curves.values() for role in by_role)]))
    )
    return [
        plot(
            learning_figure(
                f'validation {metric}', metric, {role: [curve] for role, curve in by_role.items()}, styles, run.unit
            ),
            f'validation {metric} of every role',
        )
        for metric, by_role in curves.items()
    ]


def _losses(run: WorkDir) -> list[Any]:
    groups = loss_groups(run.scalars, run.roles, run.cfg.model.get('distillers') or ())
    return [plot(loss_figure(title, curves), title) for title, curves in groups.items()]


def _observations(run: WorkDir) -> list[Any]:
    curves = overlap_curves([run.path])
    return [plot(overlap_figure(run.title, curves), 'overlap with objects')] if curves else []


def _classes(run: WorkDir, metric: str, lacking: list[str]) -> dict[str, Any] | None:
    by_role = class_scores_of(run)
    if by_role:
        return class_scores_section(metric, by_role, by_role, method_styles(list(run.roles)))
    if metric in ('AP', 'mIoU'):
        hint = '; val_evaluator.classwise=True of CocoMetric logs it' if metric == 'AP' else ''
        lacking.append(f'{metric.removeprefix("m")} by class: the log has none{hint}.')
    return None


def _predictions(run: WorkDir, images: bool, told: Told, lacking: list[str]) -> dict[str, Any]:
    """What needs the networks and the data; says in ``lacking`` what cannot be had."""
    task = task_of(run)
    found: dict[str, Any] = {'name': task or ''}
    opened = _tried('Predictions', lambda: _open(run, task, told), lacking)
    if opened is None:
        return found
    whole, by_role = opened
    if images:
        told('drawing examples')
        found['examples'] = _tried('Example predictions', lambda: examples(by_role, task), lacking)
    told('counting what is confused')
    found['confusion'] = _tried('Confusion', lambda: run_confusion(by_role, task), lacking)
    told('looking at similarities')
    maps = _tried('Similarity maps', lambda: [similarity_section({run.title: whole}, task, images)], lacking)
    found['similarity'] = maps[0] if maps else None
    return found


def task_of(run: WorkDir) -> str | None:
    """``segmentation`` or ``detection`` as :data:`TASKS` has them; None if roles predict something else."""
    model = run.cfg.model
    if 'roles' in model:
        model = role_model_cfg(role_cfgs(model.roles)[run.deploy])
    if 'decode_head' in model:
        return TASKS['mIoU']
    return TASKS['AP'] if 'bbox_head' in model or 'roi_head' in model else None


def _open(run: WorkDir, task: str | None, told: Told) -> tuple[FinishedRun, Mapping[str, FinishedRun]]:
    """The training, and each of its roles, with the newest weights and the validation images."""
    if task is None:
        raise ConfigError('the roles predict neither class maps nor boxes')
    checkpoint = run.checkpoint
    if checkpoint is None:
        raise ConfigError('there is no checkpoint')
    told(f'loading {checkpoint.name}')
    model = load_model(run.cfg, checkpoint).to(get_device())
    loader = run.cfg.get('val_dataloader') or run.cfg.get('test_dataloader')
    if not loader:
        raise ConfigError('the config has neither val_dataloader nor test_dataloader')
    with redirect_stdout(io.StringIO()):  # pycocotools prints
        dataset = DATASETS.build(loader.dataset)
    networks = {role: model.roles[role] for role in run.roles} if hasattr(model, 'roles') else {'model': model}
    return FinishedRun(run.cfg, model, dataset), {
        role: FinishedRun(run.cfg, network, dataset) for role, network in networks.items()
    }


def _tried(what: str, made: Callable[[], Any], lacking: list[str]) -> Any:
    """Make a part of the page; None if it cannot be made, which ``lacking`` then says."""
    try:
        return made()
    except Exception as error:  # of data, networks and transforms of any kind; the rest of the page is worth having
        kind = '' if isinstance(error, ConfigError) else f'{type(error).__name__}: '
        lacking.append(f'{what}: {kind}{" ".join(str(error).split())}.'.replace('..', '.'))
        return None
