"""Train the roles of a config, or a stock model."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device

from mmadm.cli.config_text import expression
from mmadm.cli.progress import build_runner, terminal, watched
from mmadm.cli.runtime import add_role_settings
from mmadm.utils.checkpoint import RESUMABLE, check_same_tensors, holds_role, newest_checkpoint, read_checkpoint
from mmadm.utils.cli import add_run_arguments, load_config, one_line_errors, require_writable
from mmadm.utils.config import drop_empty_hooks
from mmadm.utils.errors import CheckpointError, ConfigError
from mmadm.utils.lock import join_ranks, sole_training
from mmadm.utils.optim_config import type_name
from mmadm.utils.unwrap import unwrapped
from mmadm.utils.weights import read_weights

NEWEST = 'newest'


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of the tool."""
    parser = argparse.ArgumentParser(prog='mmadm train', description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const=NEWEST,
        metavar='CKPT',
        help='go on from a checkpoint; without CKPT from the newest complete one in the work dir, if there is one',
    )
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument('--auto-scale-lr', action='store_true', help='learning rates by auto_scale_lr.base_batch_size')
    add_run_arguments(parser)
    return parser.parse_args(arguments)


def enable_amp(cfg: Config) -> None:
    """Switch the config to mixed precision.

    Args:
        cfg: Config; changed.

    Raises:
        ConfigError: If its optimiser wrapper cannot do it on this device.
    """
    wrapper = cfg.optim_wrapper
    kind = type_name(wrapper.get('type', 'OptimWrapper'))
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ConfigError(f'--amp needs optim_wrapper.type OptimWrapper or AmpOptimWrapper, found {kind!r}')
    on_cpu = get_device() == 'cpu'
    if on_cpu and type_name(wrapper.get('constructor', '')) != 'RoleOptimWrapperConstructor':
        raise ConfigError(
            '--amp: the stock AmpOptimWrapper needs a GPU. On a CPU leave --amp out, or give each role its optimiser '
            "with optim_wrapper.constructor='mmadm.RoleOptimWrapperConstructor', which can do bfloat16 there"
        )
    wrapper.type = 'AmpOptimWrapper'
    if on_cpu:
        wrapper.setdefault('dtype', 'bfloat16')


def enable_scaling(cfg: Config) -> None:
    """Scale the learning rates of all roles by the batch, as MMDetection's tool does; ConfigError without a base."""
    if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
        raise ConfigError(
            '--auto-scale-lr needs auto_scale_lr.base_batch_size in the config: the batch over all GPUs that the '
            'learning rates were chosen for'
        )
    cfg.auto_scale_lr.enable = True


def lost_files(cfg: Config) -> Iterator[tuple[str, Any, str]]:
    """Roles whose checkpoint is a local file that does not exist: their names, their configs and the files."""
    roles = (cfg.get('model') or {}).get('roles')
    for name, role in roles.items() if isinstance(roles, Mapping) else ():
        file = str(role.get('checkpoint') or '') if isinstance(role, Mapping) and 'type' not in role else ''
        if file and '://' not in file and not Path(file).expanduser().is_file():
            yield name, role, file


def forget_lost_files(cfg: Config, state: Mapping[str, Any]) -> None:
    """Resume without the files of roles that are gone, if the checkpoint holds these roles.

    Args:
        cfg: Config; changed.
        state: ``state_dict`` of the checkpoint.
    """
    for name, role, file in lost_files(cfg):
        if holds_role(state, name):
            print(f'model.roles.{name}.checkpoint={file!r} is gone: the weights are those of the resumed checkpoint.')
            role['checkpoint'] = None
            for heir in cfg.model.roles.values():
                (heir.get('inherit') or {}).pop(name, None)  # what it inherited is in the checkpoint, too


def choose_checkpoint(cfg: Config, resume: str | None) -> Path | None:
    """Set the config to resume, if that is asked for.

    Args:
        cfg: Config; changed.
        resume: Value of ``--resume``.

    Returns:
        The checkpoint to resume from.

    Raises:
        CheckpointError: If it is missing, truncated, or cannot be resumed from; likewise ``load_from``.
    """
    if resume is None and cfg.get('resume'):
        resume = cfg.get('load_from') or NEWEST
    if resume is None:
        if cfg.get('load_from'):  # before anything is built, and before mmengine runs what a download may hold
            read_weights(cfg.load_from, 'load_from')
        return None
    path = newest_checkpoint(cfg.work_dir) if resume == NEWEST else Path(resume)
    if path is None:
        print(f'No checkpoint in {cfg.work_dir}: training starts from the beginning.')
        cfg.resume = False
        return None
    checkpoint = read_checkpoint(path, RESUMABLE)
    if 'config' in checkpoint['meta']:
        raise CheckpointError(f'{path} holds meta.config, a text that mmengine would run as Python code on resume')
    for key in ('iter', 'epoch'):
        if not isinstance(checkpoint['meta'].get(key), int):
            raise CheckpointError(f'{path}: its meta.{key} is {checkpoint["meta"].get(key)!r}, not a number')
    forget_lost_files(cfg, checkpoint['state_dict'])
    # without a seed the Runner would draw one and shuffle the data by it before it looks into the checkpoint
    if cfg.get('randomness', {}).get('seed') is None:
        cfg.randomness = {**cfg.get('randomness', {}), 'seed': checkpoint['meta'].get('seed')}
    cfg.resume, cfg.load_from = True, str(path)
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(arguments)
    with one_line_errors():
        cfg = load_config(args)
        added = add_role_settings(cfg)
        drop_empty_hooks(cfg)  # only now: None says that a guard is not wanted
        if added:
            print(f'mmadm adds what this distillation lacks: {expression(added)}')
        require_writable(cfg.work_dir)
        if args.amp:
            enable_amp(cfg)
        if args.auto_scale_lr:
            enable_scaling(cfg)
        join_ranks(cfg)
        with sole_training(cfg.work_dir):
            run(cfg, args.resume)


def run(cfg: Config, resume: str | None) -> None:
    """Train as a config says.

    Args:
        cfg: Config; changed.
        resume: Value of ``--resume``.

    Raises:
        CheckpointError: If the checkpoint to resume from cannot be used, or is of another model, or a role's file is
            missing.
    """
    checkpoint = choose_checkpoint(cfg, resume)
    for name, _, file in lost_files(cfg):  # says so before mmengine's log of hundreds of lines
        read_weights(file, f'model.roles.{name}.checkpoint')
    console = terminal()
    runner = build_runner(cfg, console)
    if checkpoint is not None:
        model = unwrapped(runner.model)
        check_same_tensors(model, read_checkpoint(checkpoint)['state_dict'], checkpoint)
    with watched(runner, console):
        runner.train()
