"""Free memory: that of the host, or of the GPU if it has less."""

import torch

from mmadm.utils import memory


def test_the_host_tells():
    assert memory.free_on_host() is None or 2**20 < memory.free_on_host() < 2**50


def test_the_smaller_one_counts(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda: (1000, 4000))
    for host, expected in ((900, 900), (2000, 1000), (None, 1000)):
        monkeypatch.setattr(memory, 'free_on_host', lambda host=host: host)
        assert memory.free_bytes() == expected
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert memory.free_bytes() is None
