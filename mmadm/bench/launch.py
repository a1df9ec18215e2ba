"""How a tool with a Runner is started: in one process, by torchrun or by Slurm."""

from __future__ import annotations

import os
import shlex
import sys

from mmadm.utils.errors import ConfigError

LAUNCHERS = ('none', 'pytorch', 'slurm')


def launch_words(launcher: str, gpus: int) -> tuple[list[str], list[str]]:
    """Words of a command around a script and its arguments.

    Args:
        launcher: ``none``, ``pytorch`` (torchrun on this machine) or ``slurm`` (``SRUN_ARGS`` is passed on to srun).
        gpus: Processes, one for each GPU.

    Returns:
        What comes before the script, and what comes after its arguments.

    Raises:
        ConfigError: If a single process shall use several GPUs, or there is none.
    """
    if gpus < 1 or (launcher == 'none' and gpus > 1):
        raise ConfigError(f'--gpus={gpus} with --launcher={launcher}: several GPUs need --launcher pytorch or slurm')
    if launcher == 'none':
        return [sys.executable], []
    words = {
        # --standalone: several runs at a time find a free port each
        'pytorch': [sys.executable, '-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={gpus}'],
        'slurm': [
            'srun',
            f'--ntasks={gpus}',
            f'--gpus={gpus}',
            '--kill-on-bad-exit=1',
            *shlex.split(os.environ.get('SRUN_ARGS', '')),
            sys.executable,
            '-u',
        ],
    }
    return words[launcher], ['--launcher', launcher]
