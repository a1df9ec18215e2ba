"""Write the config that distils a student from stock configs, say what was chosen and why, and run it if asked to.

The student's training config is kept: data, schedule, optimiser, hooks, evaluator. Below it stand only the differences.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from rich.console import Console
from torch import nn

from mmadm.bench.launch import LAUNCHERS, launch_words
from mmadm.cli.describe import connector_lines, distiller_table, image_lines, levels_of_last, role_table
from mmadm.cli.methods_table import METHODS, NONE
from mmadm.cli.networks import Network, crop_size, read_network, starts_trained
from mmadm.cli.plan import Plan, make_plan
from mmadm.cli.trial import build_model, read_unwritten
from mmadm.cli.written_config import apply_settings, base_of, config_text, differences
from mmadm.utils.checkpoint import write_atomically
from mmadm.utils.cli import one_line_errors, require_new, require_writable
from mmadm.utils.errors import ConfigError
from mmadm.version import __version__

#: Line of the config that says which command wrote it
_WRITTEN = '# Written by mmadm'

console = Console()


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of the verb."""
    parser = argparse.ArgumentParser(prog='mmadm distill', description=__doc__)
    parser.add_argument('student', metavar='STUDENT', help='training config: a path or pkg::name, such as mmseg::...')
    parser.add_argument('teacher', metavar='TEACHER', nargs='?', help='config of the teacher')
    names = ', '.join(METHODS)
    parser.add_argument('--method', default='adm', help=f'one of {names}; default: adm')
    parser.add_argument('--teacher-checkpoint', metavar='FILE', help='trained weights of the teacher: a file or URL')
    parser.add_argument('--student-checkpoint', metavar='FILE', help='weights that the student starts from')
    parser.add_argument(
        '--frozen',
        action=argparse.BooleanOptionalAction,
        default=None,
        help='whether the teacher stays as it is (offline); default: with a checkpoint, for methods of one direction',
    )
    parser.add_argument('--classes', type=int, metavar='N', help='number of classes of all networks that learn')
    parser.add_argument('--at', nargs='+', default=[], metavar='[ROLE=]TAP', help="the method's tap; default: its own")
    parser.add_argument(
        '--set',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='further settings to write, such as model.distillers.0.weight=2',
    )
    parser.add_argument('--out', type=Path, metavar='FILE.py', help='default: METHOD_STUDENT.py')
    parser.add_argument('--force', action='store_true', help='overwrite the config')
    parser.add_argument('--train', action='store_true', help='train it at once')
    parser.add_argument('--work-dir', help='with --train: where logs and results go; default: work_dirs/<config>')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='with --train: what starts the training')
    parser.add_argument('--gpus', type=int, default=1, help='with --train: number of GPUs')
    parser.add_argument('--amp', action='store_true', help='with --train: mixed precision')
    return parser.parse_intermixed_args(arguments)  # TEACHER may stand behind an option


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the verb."""
    words = sys.argv[2:] if arguments is None else list(arguments)
    args = parse_args(arguments)
    with one_line_errors():
        MMLogger.get_current_instance().setLevel('WARNING')  # how each weight was drawn
        launcher = launch_words(args.launcher, args.gpus)
        out = write(args, shlex.join(['mmadm', 'distill', *words]))
        options = ['--work-dir', args.work_dir] if args.work_dir else []
        options += ['--amp'] if args.amp else []
        start, end = launcher
        command = [*start, '-m', 'mmadm', 'train', str(out), *options, *end]
    if args.train:
        sys.exit(subprocess.call(command))
    console.print(f'train it with: mmadm train {shlex.join([str(out), *options])}', markup=False, soft_wrap=True)


def write(args: argparse.Namespace, command: str) -> Path:
    """Choose, check and write a config.

    Args:
        args: Parsed arguments.
        command: The command, for the head of the file.

    Returns:
        The config.

    Raises:
        ConfigError: If something does not fit together, or the file exists.
        CheckpointError: If a checkpoint does not fit its network.
    """
    student = read_network(args.student, 'STUDENT')
    teacher = read_network(args.teacher, 'TEACHER') if args.teacher else None
    checkpoints = {'student': args.student_checkpoint, 'teacher': args.teacher_checkpoint}
    checkpoints = {role: file for role, file in checkpoints.items() if file}
    if 'teacher' in checkpoints and teacher is None:
        raise ConfigError(f'--teacher-checkpoint={args.teacher_checkpoint}: there is no TEACHER')
    plan = make_plan(args.method, student, teacher, args.frozen, 'teacher' in checkpoints, args.classes, args.at)
    plan.notes.extend(follow_crop(plan, student, teacher))
    if 'teacher' not in checkpoints and teacher is not None:
        plan.notes.extend(random_teacher(plan, teacher, args.set))
    out = args.out or Path(f'{args.method}_{student.title}.py')
    if out.suffix != '.py':
        raise ConfigError(f'--out={out}: a config ends with .py')
    base, beside = base_of(student, out)
    there = base if beside or '::' in base else student.path.resolve().as_posix()

    def text(levels: int, inherited: str = base) -> str:
        """The config, with the weights for so many levels."""
        found = differences(plan, student, teacher, checkpoints, out.parent)
        head = f'{title(plan, student, teacher)}\n{plan.recipe.source}\n{_WRITTEN[2:]} {__version__}: {command}'
        return config_text(apply_settings(found, student.cfg, args.set), inherited, head, levels)

    model, cfg = _built(plan, lambda: read_unwritten(text(1, there), out.name, out.parent, beside))
    _write({out: text(levels_of_last(model)), **({out.with_name(base): beside} if beside else {})}, args.force)
    show(plan, model, cfg, student)
    console.print(f'wrote {out}', markup=False, soft_wrap=True)
    return out


def _built(plan: Plan, read: Callable[[], Config]) -> tuple[nn.Module, Config]:
    """Build the model; where class scores cannot be compared, without the distiller that would, if another is left."""
    cfg = read()
    try:
        return build_model(cfg), cfg
    except ConfigError as error:
        if 'logits' not in str(error) or not plan.by_class:
            raise
        if not plan.leave_classes(str(error)):
            raise ConfigError(
                f'{str(error).rstrip(".")}. Methods that compare features: {", ".join(plan.by_features)}'
            ) from error
    cfg = read()
    return build_model(cfg), cfg


def follow_crop(plan: Plan, student: Network, teacher: Network | None) -> list[str]:
    """Let the teacher's padded size follow the student's images; adds to the plan's overrides.

    Returns:
        What was changed, and what looks wrong.
    """
    notes, crop = [], crop_size(student.cfg)
    own = _padded_size(student)
    if crop and own and (own[0] > crop[0] or own[1] > crop[1]):
        notes.append(
            f'warning: the student pads its images to data_preprocessor.size={own}, but they are {crop} after the '
            'crop: set model.roles.student.override.data_preprocessor.size'
        )
    theirs = _padded_size(teacher) if teacher else None
    wanted = own or crop
    if theirs and wanted and theirs != wanted:
        plan.overrides.setdefault('teacher', {})['data_preprocessor'] = {'size': wanted}
        notes.append(f'teacher: images padded to {wanted}, the size of the training images, in place of {theirs}')
    return notes


def random_teacher(plan: Plan, teacher: Network, settings: Mapping[str, Any]) -> list[str]:
    """A warning if ADM would begin with random features of the teacher and weights for trained ones."""
    at = next((index for index, cfg in enumerate(plan.distillers) if cfg['type'] == 'mmadm.ADM'), None)
    key = f'model.distillers.{at}'
    if at is None or starts_trained(teacher.model) or any(name.startswith(key) for name in settings):
        return []
    return [
        'warning: the teacher starts from random weights, where ADM made networks worse (docs/adm.md): give '
        f'--teacher-checkpoint FILE, or a warm-up and a small weight, such as --set {key}.consensus=1 '
        f'{key}.schedule.warmup=linear {key}.schedule.length=1000'
    ]


def title(plan: Plan, student: Network, teacher: Network | None) -> str:
    """What the config does, in one line."""
    if METHODS[plan.method].teacher == NONE or teacher is None:
        return f'{plan.method}: three networks {student.title}'
    kind = 'a frozen' if plan.frozen else 'a learning'
    return f'{plan.method}: {kind} {teacher.title} teaches {student.title}'


def show(plan: Plan, model: nn.Module, cfg: Config, student: Network) -> None:
    """Print what was chosen and why."""
    console.print(role_table(model, cfg))
    console.print(distiller_table(model, cfg))
    told = [
        f'{plan.method}: {METHODS[plan.method].title}',
        f'taps and numbers: {plan.recipe.source}',
        *image_lines(model),
        *connector_lines(model),
        *dict.fromkeys(plan.notes),
        f'kept from {student.name}: data, schedule, optimiser, hooks, evaluator',
    ]
    for line in told:
        console.print(f'- {line}', markup=False, highlight=False)


def _padded_size(network: Network) -> tuple[int, int] | None:
    size: Any = (network.model.get('data_preprocessor') or network.cfg.get('data_preprocessor') or {}).get('size')
    return (size, size) if isinstance(size, int) else tuple(size) if size else None


def _write(files: dict[Path, str], force: bool) -> None:
    new = {path: text for path, text in files.items() if force or not _says(path, text)}
    for path in new:
        require_new(path, force=force)
        require_writable(path.parent, '--out')
    for path, text in new.items():
        write_atomically(text.encode(), path)


def _says(path: Path, text: str) -> bool:
    """Whether a file says the same, whatever command wrote it, such as one without ``--train``."""
    return path.is_file() and _settings(path.read_text(encoding='utf-8')) == _settings(text)


def _settings(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(_WRITTEN)]
