"""Generate the street data set of the demo; see ``mmadm/demo``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs from a checkout that is not installed

from mmadm.demo.make_streets_command import main, parse_args  # noqa: F401
from mmadm.utils.cli import quiet_pipe

if __name__ == '__main__':
    with quiet_pipe():
        main()
