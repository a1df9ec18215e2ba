"""``mmadm export --onnx``: another runtime computes what torch computes."""

from __future__ import annotations

import numpy as np
import pytest
import small_detectors
import torch
from mmengine.config import Config
from small_segmentors import build, segmentor

from mmadm.cli import export
from mmadm.cli.onnx_file import HeadMaps

runtime = pytest.importorskip('onnxruntime')


def trained(tmp_path, scope, network, model):
    """A full checkpoint of a distillation with this student; and the student."""
    state = {f'roles.student.{key}': value for key, value in model.state_dict().items()}
    cfg = Config(dict(default_scope=scope, model=dict(type='mmadm.Distillation', roles=dict(student=network))))
    torch.save(dict(meta=dict(cfg=cfg.pretty_text), state_dict=state), tmp_path / 'full.pth')
    return tmp_path / 'full.pth'


@pytest.mark.parametrize('kind', ['segmentor', 'retinanet', 'rtmdet'])
def test_another_runtime_gives_the_same_maps_for_one_and_for_two_images(kind, tmp_path, capsys):
    network = segmentor(4) if kind == 'segmentor' else small_detectors.detector(kind, 4)
    model = (build(network) if kind == 'segmentor' else small_detectors.build(network)).eval()
    checkpoint = trained(tmp_path, 'mmseg' if kind == 'segmentor' else 'mmdet', network, model)
    words = [str(checkpoint), '--role', 'student', '--onnx', str(tmp_path / 'a.onnx'), '--size', '64', '96']
    export.main(words)
    assert 'images (N, 3, 64, 96)' in capsys.readouterr().out
    session = runtime.InferenceSession(str(tmp_path / 'a.onnx'))
    for number in (1, 2):
        images = torch.randn(number, 3, 64, 96)
        with torch.no_grad():
            expected = HeadMaps(model)(images)
        found = session.run(None, {'images': images.numpy()})
        assert len(found) == len(expected) > 0
        for mine, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-4, atol=1e-5)


def test_a_network_of_another_kind_is_one_sentence(tmp_path, capsys):
    network = small_detectors.detector('faster', 4)
    checkpoint = trained(tmp_path, 'mmdet', network, torch.nn.Linear(1, 1))
    with pytest.raises(SystemExit):
        export.main([str(checkpoint), '--role', 'student', '--onnx', str(tmp_path / 'a.onnx'), '--size', '64', '96'])
    assert 'FasterRCNN is neither a segmentor with class maps nor a dense detector' in capsys.readouterr().err
    assert not (tmp_path / 'a.onnx').exists()
