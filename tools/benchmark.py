"""Benchmark suites: train every method with every seed, then make the table and the report.

``run`` leaves one JSON line per finished run in ``OUT/results.jsonl``; what stands there is skipped, what was
interrupted is resumed. ``report`` makes ``results.md`` and ``report.html`` from it. ``cost`` measures a training step.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from rich.console import Console
from rich.progress import track
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]  # the script also runs from a checkout that is not installed

import cost  # noqa: E402
from cost_table import record, show  # noqa: E402
from facts import describe, fingerprint  # noqa: E402, F401
from mmrazor_pair import read_pair  # noqa: E402
from rival import Rival  # noqa: E402
from suites import BUDGETS, NOTES, SUITES, method_options  # noqa: E402

from mmadm.structures import SimilarityMaps  # noqa: E402
from mmadm.utils.bench import Job, Launcher, run_jobs  # noqa: E402
from mmadm.utils.errors import ConfigError, near_matches  # noqa: E402
from mmadm.utils.heap import keep_freed_memory  # noqa: E402
from mmadm.utils.launch import LAUNCHERS  # noqa: E402
from mmadm.utils.runs import Record, read_json_lines  # noqa: E402
from mmadm.utils.tables import markdown_tables  # noqa: E402
from mmadm.visualization.report import write_report  # noqa: E402

console = Console()


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of the tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    run = commands.add_parser('run', help='train and test the methods of a suite')
    run.add_argument('suite', choices=SUITES)
    run.add_argument('--methods', nargs='+', help='only these methods of the suite')
    run.add_argument('--seeds', nargs='+', type=int, default=[0])
    run.add_argument('--budget', choices=[*BUDGETS, 'full'], default='full', help='length of a training')
    run.add_argument('--jobs', type=int, default=1, help='runs at a time; with more than one, a thread each')
    run.add_argument('--launcher', choices=LAUNCHERS, default='none', help='what starts a run')
    run.add_argument('--gpus', type=int, default=1, help='GPUs of a run, with --launcher pytorch or slurm')
    run.add_argument('--out', type=Path, help='default: work_dirs/benchmark/SUITE[_BUDGET]')
    run.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='passed on to every run')
    run.add_argument('--costs', action='store_true', help='then measure the training step of every method: cost.jsonl')
    report = commands.add_parser('report', help='table and report.html of a folder of runs')
    report.add_argument('dir', type=Path)
    report.add_argument('--out', type=Path, help='default: DIR/report.html')
    report.add_argument('--no-images', action='store_true', help='none of the data set: its licence may forbid it')
    cost.add_parser(commands)
    return parser.parse_args(arguments)


def load_config(path: str, options: Sequence[str]) -> Config:
    """A config with ``key=value`` overrides, read the way the training tool reads them."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    # mmengine tells for every config which environment variable it read
    MMLogger.get_current_instance().setLevel('WARNING')
    cfg = Config.fromfile(ROOT / path)
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
    known = {}
    for method in methods:
        config = SUITES[suite][method]
        options = (*method_options(suite, method, load_config(config, ()), budget), *further)
        cfg = load_config(config, options)
        unit = 'epochs' if 'max_epochs' in cfg.train_cfg else 'iterations'
        length = cfg.train_cfg['max_epochs' if unit == 'epochs' else 'max_iters']
        known[method] = {'options': options, 'length': length, 'unit': unit, **describe(method, cfg)}
        known[method]['facts']['budget'] = budget
    return [
        Job(
            suite=suite,
            method=method,
            seed=seed,
            config=SUITES[suite][method],
            work_dir=out / method / f'seed{seed}',
            **known[method],
        )
        for seed in seeds
        for method in methods
    ]


def measure_costs(jobs: Sequence[Job], out: Path) -> None:
    """Measure the training step of every method beside plain steps of its roles; adds to ``out/cost.jsonl``."""
    done = {record['config_sha'] for record in read_json_lines(out / 'cost.jsonl')}
    first = {job.method: job for job in reversed(jobs) if not job.stock and job.facts['config_sha'] not in done}
    for method, job in track(first.items(), 'costs', console=console):
        costs = cost.measure(load_config(job.config, job.options), cost.ROUNDS)
        facts = {key: job.facts[key] for key in ('revision', 'versions', 'config_sha')}
        with (out / 'cost.jsonl').open('a', encoding='utf-8') as file:
            file.write(json.dumps({'method': method, 'config': job.config, **record(costs), **facts}) + '\n')


def measure_one(args: argparse.Namespace) -> cost.Costs:
    """Measure a config's training step, beside another library's where asked; ConfigError if that cannot be."""
    cfg = load_config(args.config, args.cfg_options)
    if args.against is None:
        if args.against_python is not None:
            raise ConfigError(f'--against-python={args.against_python}: only with --against mmrazor')
        return cost.measure(cfg, args.iterations)
    with Rival(read_pair(cfg), args.against_python or sys.executable) as rival:
        return cost.measure(cfg, args.iterations, rival)


def report(folder: Path, out: Path | None = None, images: bool = True) -> tuple[list[Record], Path]:
    """Write ``results.md`` and the HTML report of a folder of runs.

    Args:
        folder: What ``run`` had as ``--out``.
        out: Where the report goes, ``folder/report.html`` by default.
        images: Whether it shows images of the data set.

    Returns:
        The result records in the order of the suite, and the report.

    Raises:
        ConfigError: If no run is finished there.
    """
    costs = read_json_lines(folder / 'cost.jsonl')
    newest = {(record['method'], record['seed']): record for record in read_json_lines(folder / 'results.jsonl')}
    if not newest:
        raise ConfigError(f'{folder / "results.jsonl"} holds no finished run; start one with: tools/benchmark.py run')
    suite = next(iter(newest.values()))['suite']
    order = list(SUITES[suite])
    records = sorted(newest.values(), key=lambda record: (order.index(record['method']), record['seed']))
    (folder / 'results.md').write_text(markdown_tables(records, costs), encoding='utf-8')
    target = out or folder / 'report.html'
    write_report(folder, records, target, *NOTES[suite], adm_maps, images)
    return records, target


def adm_maps(model: nn.Module, item: dict[str, Any]) -> SimilarityMaps | None:
    """Maps of a model's first pair of student and teacher on one packed image, at the finest level.

    Returns:
        None if the model has no ADM distiller.
    """
    if not getattr(model, 'adm', None):
        return None
    first, *others = model.similarity_maps(item)
    pair = [first, *(maps for maps in others if (maps.student, maps.teacher) == (first.student, first.teacher))]
    # the last of equally large ones, as the layers of a dilated backbone are
    return max(reversed(pair), key=lambda maps: maps.similarity.numel())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(arguments)
    keep_freed_memory()  # as tools/train.py does; mmrazor's process inherits it
    try:
        if args.command == 'cost':
            show(measure_one(args), console)
            return 0
        if args.command == 'report':
            _, target = report(args.dir, args.out, not args.no_images)
            console.print((args.dir / 'results.md').read_text(encoding='utf-8'), soft_wrap=True, markup=False)
            console.print(f'report: {target}')
            return 0
        folder = args.suite if args.budget == 'full' else f'{args.suite}_{args.budget}'
        out = args.out or Path('work_dirs/benchmark') / folder
        methods = args.methods or list(SUITES[args.suite])
        launcher = Launcher(ROOT, 1 if args.jobs > 1 else None, args.launcher, args.gpus)
        jobs = plan(args.suite, methods, args.seeds, args.budget, out, args.cfg_options)
        failures = run_jobs(jobs, launcher, out, args.jobs, console)
        if args.costs:
            measure_costs(jobs, out)
    except ConfigError as error:
        console.print(f'[red]error[/] {error}')
        return 2
    for failure in failures:
        console.print(failure, style='red', markup=False, soft_wrap=True)
    console.print(f'results: {out / "results.jsonl"}', soft_wrap=True)
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
