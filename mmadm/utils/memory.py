"""How much memory there is."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch


def free_bytes() -> int | None:
    """Bytes that are free on the host or, if that is less, on the current GPU; None where the system does not tell."""
    host = free_on_host()
    gpu = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else None
    return min((known for known in (host, gpu) if known is not None), default=None)


def free_on_host() -> int | None:
    """Bytes that the host has free; None where the system does not tell."""
    table = Path('/proc/meminfo')
    if table.is_file():
        # unlike what is quite unused, it counts what the system would give up
        found = re.search(r'^MemAvailable:\s+(\d+) kB', table.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    if 'SC_AVPHYS_PAGES' in getattr(os, 'sysconf_names', ()):
        return os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    return None
