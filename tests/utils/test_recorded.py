"""Configs in checkpoints are read and never run."""

from __future__ import annotations

import pytest
from mmengine.config import Config
from small_detectors import detector
from small_segmentors import segmentor

from mmadm.utils.errors import CheckpointError
from mmadm.utils.recorded import recorded_config, require_classes


@pytest.mark.parametrize('model', [segmentor(), detector('retinanet'), detector('cascade')])
def test_what_mmengine_writes_is_read_as_it_was(model):
    cfg = Config(dict(model=model, odd={'a.b': (1, -2.5, None), 3: [dict(c=True), ('x',)]}, name="it's", empty={}))
    assert recorded_config(cfg.pretty_text, 'x.pth').to_dict() == Config.fromstring(cfg.pretty_text, '.py').to_dict()


@pytest.mark.parametrize(
    'text',
    [
        'open({trap!r}, "w")',
        'model = dict(a=open({trap!r}, "w"))',
        'model = [1, (2, open({trap!r}, "w"))]',
        'import os\nmodel = dict()',
        'if open({trap!r}, "w"):\n    model = dict()',
        'model = dict(',
        'a = ' + '[' * 300 + ']' * 300,
        None,
        3,
    ],
)
def test_what_is_more_than_settings_is_refused_and_not_run(text, tmp_path):
    trap = tmp_path / 'trap'
    text = text.format(trap=str(trap)) if isinstance(text, str) else text
    with pytest.raises(CheckpointError, match=r'x\.pth holds a config that is more than a list of settings'):
        recorded_config(text, 'x.pth')
    assert not trap.exists()


@pytest.mark.parametrize('name', ['subprocess.Popen', 'os.system', 'builtins.eval', 'mmengine.fileio.load'])
def test_a_network_with_a_command_in_it_is_refused(name):
    model = segmentor()
    model['decode_head']['loss_decode'] = [dict(type=name)]
    with pytest.raises(CheckpointError, match=rf"x\.pth holds a config with type='{name}'"):
        require_classes(model, 'x.pth')


def test_parts_of_networks_may_be_named_by_their_paths():
    parts = ['mmseg.FCNHead', 'mmseg.models.FCNHead', 'torch.nn.ReLU', 'mmengine.model.PretrainedInit', 'no.such.thing']
    require_classes(dict(type='EncoderDecoder', parts=[dict(type=name) for name in parts]), 'x.pth')
