"""Freed memory stays with the process: a step finds the pages of the step before."""

import os
import resource
import subprocess
import sys

import pytest

SCRIPT = """
import os, resource, torch
from mmadm.utils.heap import keep_freed_memory
told = keep_freed_memory()
def step():
    maps = [torch.ones(2**20) for _ in range(16)]  # 64 MiB
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    step()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(told, faults, os.environ['MALLOC_MMAP_THRESHOLD_'])
"""
PAGES = 8 * 64 * 2**20 // resource.getpagesize()

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='the C library is not glibc')


def run(**environment):
    untold = {name: value for name, value in os.environ.items() if not name.startswith('MALLOC_')}
    command = [sys.executable, '-c', SCRIPT]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=untold | environment).stdout.split()
    return found[0], int(found[1]), found[2]


def test_a_step_finds_the_memory_of_the_step_before():
    told, faults, for_children = run()
    assert (told, for_children) == ('True', str(32 * 2**20))
    assert faults < 0.01 * PAGES


def test_what_the_environment_says_stands():
    told, faults, for_children = run(MALLOC_MMAP_THRESHOLD_='131072')
    assert (told, for_children) == ('False', '131072')
    assert faults >= 0.99 * PAGES
