"""The demo on generated streets; see ``mmadm/demo``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs from a checkout that is not installed

from mmadm.demo.command import main

if __name__ == '__main__':
    sys.exit(main())
