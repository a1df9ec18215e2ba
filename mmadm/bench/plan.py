"""Plan the runs of a suite: read its configs and shorten them to a budget."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger

from mmadm.bench.jobs import Job
from mmadm.bench.run_description import describe
from mmadm.bench.suites import ROOT, SUITES, method_options
from mmadm.utils.config import read_config
from mmadm.utils.errors import ConfigError, near_matches


def load_config(path: str, options: Sequence[str]) -> Config:
    """A config with ``key=value`` overrides, read the way the training tool reads them."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    # mmengine tells for every config which environment variable it read
    MMLogger.get_current_instance().setLevel('WARNING')
    cfg = read_config(ROOT / path)
    if options:
        cfg.merge_from_dict(parser.parse_args(['--cfg-options', *options]).cfg_options)
    return cfg


def plan(
    suite: str, methods: Sequence[str], seeds: Sequence[int], budget: str, out: Path, further: Sequence[str]
) -> list[Job]:
    """The runs of a suite, seed by seed.

    Args:
        suite: A key of ``SUITES``.
        methods: Which methods of it.
        seeds: Seeds.
        budget: ``smoke``, ``small`` or ``full``.
        out: Folder of the suite; a run writes to ``out/<method>/seed<seed>``.
        further: ``--cfg-options`` of every run.

    Raises:
        ConfigError: If a method is not in the suite.
    """
    unknown = [method for method in methods if method not in SUITES[suite]]
    if unknown:
        raise ConfigError(f'--methods: {suite} has no {unknown[0]!r}; {near_matches(unknown[0], SUITES[suite])}')
    by_method = {}
    for method in methods:
        config = SUITES[suite][method]
        options = (*method_options(suite, method, load_config(config, ()), budget), *further)
        by_method[method] = plan_method(suite, method, config, options, seeds, out)
        for job in by_method[method]:
            job.facts['budget'] = budget
    return [job for jobs in zip(*by_method.values(), strict=True) for job in jobs]


def plan_method(
    suite: str, method: str, config: str, options: Sequence[str], seeds: Sequence[int], out: Path
) -> list[Job]:
    """The runs of one method, a run for each seed.

    Args:
        suite: What the records call the suite.
        method: What they call the method.
        config: Its config, below the root of the project or absolute.
        options: ``--cfg-options``.
        seeds: Seeds.
        out: Folder of the suite.
    """
    cfg = load_config(config, options)
    unit = 'epochs' if 'max_epochs' in cfg.train_cfg else 'iterations'
    length = cfg.train_cfg['max_epochs' if unit == 'epochs' else 'max_iters']
    known = {'options': tuple(options), 'length': length, 'unit': unit, **describe(method, cfg)}
    return [
        Job(suite=suite, method=method, seed=seed, config=config, work_dir=out / method / f'seed{seed}', **known)
        for seed in seeds
    ]
