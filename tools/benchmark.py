"""Benchmark suites: runs, tables, reports and costs; see ``mmadm/bench``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs from a checkout that is not installed

from mmadm.bench.command import main, parse_args  # noqa: F401
from mmadm.utils.cli import quiet_pipe

if __name__ == '__main__':
    with quiet_pipe():
        sys.exit(main())
