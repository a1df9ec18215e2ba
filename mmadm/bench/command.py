"""Benchmark suites: train every method with every seed, then make the table and the report.

``run`` leaves one JSON line per finished run in ``OUT/results.jsonl``; what stands there is skipped, what was
interrupted is resumed. ``report`` makes ``results.md`` and ``report.html`` from it, ``gains`` one figure of what the
methods of several such files gain. ``cost`` measures a training step.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from mmadm.bench import step_cost
from mmadm.bench.cost_table import record, show
from mmadm.bench.gains import needed_seeds, write_gains
from mmadm.bench.jobs import Job, Launcher, run_jobs
from mmadm.bench.launch import LAUNCHERS
from mmadm.bench.plan import load_config, plan
from mmadm.bench.records import add_json_line, read_json_lines
from mmadm.bench.report import report
from mmadm.bench.suites import BUDGETS, ROOT, SUITES
from mmadm.bench.warm_start import WarmLauncher
from mmadm.utils.cli import one_line_errors
from mmadm.utils.errors import ConfigError

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
    run.add_argument('--warm', action='store_true', help='fork runs from one process that has imported everything')
    run.add_argument('--launcher', choices=LAUNCHERS, default='none', help='what starts a run')
    run.add_argument('--gpus', type=int, default=1, help='GPUs of a run, with --launcher pytorch or slurm')
    run.add_argument('--out', type=Path, help='default: work_dirs/benchmark/SUITE[_BUDGET]')
    run.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='passed on to every run')
    run.add_argument('--costs', action='store_true', help='then measure the training step of every method: cost.jsonl')
    page = commands.add_parser('report', help='table and report.html of a folder of runs')
    page.add_argument('dir', type=Path)
    page.add_argument('--out', type=Path, help='default: DIR/report.html')
    page.add_argument('--no-images', action='store_true', help='none of the data set: its licence may forbid it')
    gains = commands.add_parser('gains', help='figure of what methods gain over the plain student, with intervals')
    gains.add_argument('files', nargs='+', type=Path, help='JSONL files of results, a panel each')
    gains.add_argument('--to', default='student', metavar='METHOD', help='what all others are compared with')
    gains.add_argument('--seeds-for', type=float, metavar='POINTS', help='say how many seeds would show such a gain')
    gains.add_argument('--out', type=Path, default=Path('gains.svg'), help='.svg or .png')
    cost = commands.add_parser('cost', help=step_cost.__doc__)
    cost.add_argument('config')
    cost.add_argument('--iterations', type=int, default=step_cost.ROUNDS, help='rounds in which every part runs once')
    cost.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    return parser.parse_args(arguments)


def measure_costs(jobs: Sequence[Job], out: Path) -> None:
    """Measure the training step of every method beside plain steps of its roles; adds to ``out/cost.jsonl``."""
    done = {record['config_sha'] for record in read_json_lines(out / 'cost.jsonl')}
    first = {job.method: job for job in reversed(jobs) if not job.stock and job.facts['config_sha'] not in done}
    for method, job in track(first.items(), 'costs', console=console):
        costs = step_cost.measure(load_config(job.config, job.options), step_cost.ROUNDS)
        facts = {key: job.facts[key] for key in ('revision', 'versions', 'config_sha')}
        add_json_line({'method': method, 'config': job.config, **record(costs), **facts}, out / 'cost.jsonl')


def choose_launcher(args: argparse.Namespace) -> Launcher:
    """What starts the runs; ConfigError if a warm start is asked for together with another launcher."""
    threads = 1 if args.jobs > 1 else None
    if not args.warm:
        return Launcher(ROOT, threads, args.launcher, args.gpus)
    if args.launcher != 'none' or args.gpus != 1:
        raise ConfigError(f'--warm starts one process for each run; leave out --launcher {args.launcher} and --gpus')
    return WarmLauncher(ROOT, threads)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    with one_line_errors(2):
        code = _run(parse_args(arguments))
    return code


def _run(args: argparse.Namespace) -> int:
    """Run the tool as its arguments say."""
    try:
        if args.command == 'cost':
            show(step_cost.measure(load_config(args.config, args.cfg_options), args.iterations), console)
            return 0
        if args.command == 'gains':
            write_gains(args.files, args.out, args.to)
            console.print(f'figure: {args.out}', soft_wrap=True)
            if args.seeds_for is not None:
                console.print(
                    '\n'.join(needed_seeds(args.files, args.seeds_for, args.to)), soft_wrap=True, markup=False
                )
            return 0
        if args.command == 'report':
            _, target = report(args.dir, args.out, not args.no_images)
            console.print((args.dir / 'results.md').read_text(encoding='utf-8'), soft_wrap=True, markup=False)
            console.print(f'report: {target}')
            return 0
        folder = args.suite if args.budget == 'full' else f'{args.suite}_{args.budget}'
        out = args.out or Path('work_dirs/benchmark') / folder
        methods = args.methods or list(SUITES[args.suite])
        launcher = choose_launcher(args)
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
