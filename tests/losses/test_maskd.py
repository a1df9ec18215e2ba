"""MaskedTokens: reads learnt tokens, looks with them at the teacher's features, and refuses what does not fit."""

import pytest
import torch

from mmadm.functional import masked_distance, receptive_masks
from mmadm.losses import MaskedTokens
from mmadm.modules import ReceptiveTokens
from mmadm.structures import PairContext
from mmadm.utils.errors import ConfigError


@pytest.fixture
def learnt():
    torch.manual_seed(0)
    tokens = ReceptiveTokens(3, [4, 6])
    with torch.no_grad():
        for level in tokens.parameters():
            level.normal_()
    return tokens


@pytest.fixture
def path(learnt, tmp_path):
    torch.save(learnt.state_dict(), tmp_path / 'tokens.pth')
    return str(tmp_path / 'tokens.pth')


def test_each_level_has_its_tokens(learnt, path):
    loss = MaskedTokens(path)
    for level, channels in enumerate((4, 6)):
        student, teacher = torch.randn(2, channels, 5, 5, requires_grad=True), torch.randn(2, channels, 5, 5)
        with torch.no_grad():
            masks = receptive_masks(learnt.get_parameter(str(level)), teacher)
        torch.testing.assert_close(
            loss(student, teacher, PairContext(level=level)), masked_distance(student, teacher, masks)
        )


def test_tokens_and_masks_are_constant(path):
    loss = MaskedTokens(path)
    student, teacher = torch.randn(1, 4, 3, 3, requires_grad=True), torch.randn(1, 4, 3, 3, requires_grad=True)
    loss(student, teacher).backward()
    # what reaches the teacher (the distiller cuts it) comes from the difference alone, not through the masks
    torch.testing.assert_close(teacher.grad, -student.grad)
    assert list(loss.parameters()) == [] and dict(loss.state_dict()) == {}
    assert loss.level0.dtype == torch.float32 and not loss.level0.requires_grad


def test_tokens_move_with_the_loss(path):
    assert MaskedTokens(path).to(torch.float64).level1.dtype == torch.float64


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'0': torch.zeros(3)}, 'expected tokens'),
        ({'1': torch.zeros(3, 4)}, 'expected tokens'),
        ({'backbone.conv1.weight': torch.zeros(3, 4)}, 'backbone.conv1.weight'),
        ({}, 'expected tokens'),
        ('text', 'no state_dict'),
    ],
)
def test_another_file_is_refused_when_built(content, message, tmp_path):
    torch.save(content, tmp_path / 'other.pth')
    with pytest.raises(ConfigError, match=rf'MaskedTokens.tokens=.*{message}'):
        MaskedTokens(str(tmp_path / 'other.pth'))


def test_a_missing_file_is_refused_when_built(tmp_path):
    with pytest.raises(ConfigError, match=r'MaskedTokens.tokens=.*no such file.*learnt on the teacher'):
        MaskedTokens(str(tmp_path / 'none.pth'))


def test_levels_and_channels_must_fit(path):
    loss = MaskedTokens(path)
    feature = torch.zeros(1, 4, 2, 2)
    with pytest.raises(ConfigError, match=r'MaskedTokens.tokens=.*tokens for 2 levels, the tap has a level 2'):
        loss(feature, feature, PairContext(level=2))
    with pytest.raises(ConfigError, match=r'MaskedTokens.tokens=.*level 1 have 6 channels, the teacher has 4'):
        loss(feature, feature, PairContext(level=1))
