"""The shell scripts that start several processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / 'tools'


def launched(folder: Path, stand_in: str, script: str, *arguments: str, **environment: str) -> list[str]:
    """Run a script where a program is replaced by one that prints its arguments; returns these."""
    program = folder / stand_in
    program.write_text('#!/bin/sh\nfor argument in "$@"; do echo "$argument"; done\n')
    program.chmod(0o755)
    env = {**os.environ, **environment, 'PATH': f'{folder}:{os.environ["PATH"]}'}
    done = subprocess.run(
        ['bash', str(TOOLS / script), *arguments], capture_output=True, text=True, env=env, check=True
    )
    return done.stdout.splitlines()


def test_several_gpus_of_one_machine(tmp_path):
    found = launched(tmp_path, 'python', 'dist_train.sh', 'a b.py', '3', '--cfg-options', 'x="[1, 2]"', PORT='123')
    assert found[:2] == ['-m', 'torch.distributed.run']
    assert {'--nproc_per_node=3', '--master_port=123', '--nnodes=1'} < set(found)
    tail = ['a b.py', '--launcher', 'pytorch', '--cfg-options', 'x="[1, 2]"']
    assert Path(found[-6]).samefile(TOOLS / 'train.py')
    assert found[-5:] == tail


@pytest.mark.parametrize(('gpus', 'per_node'), [('2', '2'), ('16', '8')])
def test_slurm(tmp_path, gpus, per_node):
    found = launched(tmp_path, 'srun', 'slurm_train.sh', 'part', 'job', 'a b.py', '--amp', GPUS=gpus, SRUN_ARGS='-q x')
    assert found[:2] == ['-p', 'part']
    assert {'--job-name=job', f'--ntasks={gpus}', f'--ntasks-per-node={per_node}', '-q', 'x'} < set(found)
    assert Path(found[-5]).samefile(TOOLS / 'train.py')
    assert found[-4:] == ['a b.py', '--launcher', 'slurm', '--amp']


@pytest.mark.parametrize(('script', 'arguments'), [('dist_train.sh', ['a.py']), ('slurm_train.sh', ['a', 'b'])])
def test_too_few_arguments_show_the_usage(script, arguments):
    done = subprocess.run(['bash', str(TOOLS / script), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f'tools/{script} ' in done.stderr
    assert '#' not in done.stderr
