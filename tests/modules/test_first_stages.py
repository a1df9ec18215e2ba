"""A backbone without its last stages: the same maps and names, fewer parameters, the whole one's weights."""

import pytest
import torch
from mmengine.registry import DefaultScope

from mmadm.modules import FirstStages
from mmadm.registry import MODELS
from mmadm.utils.errors import ConfigError

STAGES = dict(type='mmseg.MobileNetV2', widen_factor=0.25, out_indices=(1, 3), norm_cfg=dict(type='BN'))


@pytest.fixture(scope='module')
def whole():
    network = MODELS.build(STAGES)
    network.eval()  # mmseg's MobileNetV2 does not return itself
    return network


@pytest.fixture(scope='module')
def weights(whole, tmp_path_factory):
    path = tmp_path_factory.mktemp('weights') / 'whole.pth'
    torch.save(whole.state_dict(), path)
    return str(path)


def test_it_starts_from_the_whole_backbones_file_and_gives_the_same_maps(whole, weights):
    cut = FirstStages(dict(STAGES, init_cfg=dict(type='Pretrained', checkpoint=weights)))
    cut.init_weights()
    images = torch.rand(2, 3, 32, 48)
    for ours, theirs in zip(cut.eval()(images), whole(images), strict=True):
        assert torch.equal(ours, theirs)


def test_what_lies_behind_the_last_output_is_gone(whole):
    names = {name.removeprefix('stages.') for name in FirstStages(STAGES).state_dict()}
    assert names == {name for name in whole.state_dict() if name.split('.')[0] not in ('layer5', 'layer6', 'layer7')}


def test_every_parameter_gets_a_gradient():
    cut = FirstStages(STAGES)
    sum(level.sum() for level in cut(torch.rand(2, 3, 32, 32))).backward()
    assert all(p.grad is not None for p in cut.parameters())


def test_a_backbone_that_does_not_list_its_stages_is_refused():
    with DefaultScope.overwrite_default_scope('mmseg'), pytest.raises(ConfigError, match=r'FirstStages.*layers'):
        FirstStages(dict(type='UNet', base_channels=4))
