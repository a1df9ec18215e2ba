"""The demo on generated streets; see ``mmadm/cli/demo.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs from a checkout that is not installed

from mmadm.cli.main import main

if __name__ == '__main__':
    print('loading torch and MMSegmentation', flush=True)  # takes seconds
    main(['demo', *sys.argv[1:]])
