"""What checkpoints may hold beside tensors, and how others are refused without running them."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from numpy_files import written_by

from mmadm.utils.checkpoint import read_checkpoint
from mmadm.utils.errors import CheckpointError
from mmadm.utils.weights import read_weights

HARMLESS = [
    np.float64(1.5), np.float32(2.5), np.int64(-3), np.uint8(4), np.bool_(True), np.str_('road'), np.float16(0.5),
    np.arange(6.0).reshape(2, 3), np.array([True, False]), np.array(['road', 'car']), np.array([], np.int32),
    np.dtype('float32'), np.float32, np.bool_, ConfigDict(a=dict(b=(1, 2))),
]  # fmt: skip


class Bait:
    """Is made by any call when it is read."""

    def __init__(self, *made_by):
        self.made_by = made_by

    def __reduce__(self):
        return self.made_by


@pytest.mark.parametrize('version', [1, 2])
def test_numbers_and_arrays_of_both_numpy_versions_load(tmp_path, version):
    history = HistoryBuffer([0.5, 0.25], [1, 1])
    torch.save({'meta': {'values': HARMLESS, 'loss': history}, 'state_dict': {'a': torch.ones(3)}}, tmp_path / 'a.pth')
    path = written_by(version, tmp_path / 'a.pth')
    by_path, (weights, meta) = read_checkpoint(path), read_weights(str(path), 'x')
    # mmengine's own loader, which a Runner resumes with
    for found in (by_path['meta'], meta, torch.load(path)['meta']):
        for one, other in zip(found['values'], HARMLESS, strict=True):
            assert type(one) is type(other) and np.array_equal(one, other)
        assert found['loss'].mean(2) == 0.375
    assert torch.equal(weights['a'], torch.ones(3))


@pytest.mark.parametrize('archive', [True, False], ids=['zip', 'old format'])
@pytest.mark.parametrize(
    ('value', 'name'),
    [
        (Path('a'), r'pathlib\.\w*Path'),
        (np.array([1, 'a'], dtype=object), r'numpy\.dtypes\.ObjectDType'),
        (np.zeros(2, dtype=[('a', 'f4')]), r'numpy\.dtypes\.VoidDType'),
        (np.random.RandomState(0), r'numpy\.random\._pickle\.__randomstate_ctor'),
        (Bait(eval, ('open("ran", "w")',)), 'eval'),
        (Bait(getattr, (HistoryBuffer, '__init__')), 'getattr'),
    ],
)
def test_any_other_class_is_named_and_not_made(tmp_path, monkeypatch, value, name, archive):
    monkeypatch.chdir(tmp_path)
    torch.save({'meta': value, 'state_dict': {}}, 'a.pth', _use_new_zipfile_serialization=archive)
    with pytest.raises(
        CheckpointError, match=rf"^a\.pth holds {name}, and such a class is not loaded .*torch\.load\('a"
    ):
        read_checkpoint('a.pth')
    with pytest.raises(CheckpointError, match=rf'^model\.roles\.t\.checkpoint=a\.pth holds {name}, and'):
        read_weights('a.pth', 'model.roles.t.checkpoint')
    assert not Path('ran').exists()


def test_the_way_out_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({'meta': {'root': Path('a')}, 'state_dict': {'a': torch.ones(3)}}, 'a b.pth')
    with pytest.raises(CheckpointError) as error:
        read_checkpoint('a b.pth')
    Path('recipe.py').write_text(str(error.value).partition(': python -c ')[2].strip('"'))
    run_path('recipe.py')
    assert read_checkpoint('weights.pth')['state_dict']['a'].tolist() == [1, 1, 1]


def test_they_are_allowed_after_another_loader_has_changed_the_list(tmp_path):
    torch.save({'meta': {'loss': HistoryBuffer([0.5], [1])}, 'state_dict': {}}, tmp_path / 'a.pth')
    with torch.serialization.safe_globals([HistoryBuffer, np.ndarray, np.dtype]):
        pass  # on leaving, torch takes them off the list, no matter who had put them there
    assert torch.load(tmp_path / 'a.pth')['meta']['loss'].data[0].tolist() == [0.5]
