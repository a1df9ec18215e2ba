"""The registered losses: built by name, equal to their functions, and errors while the config is read."""

import pytest
import torch

from mmadm import functional
from mmadm.registry import MODELS
from mmadm.utils.errors import ConfigError


def build(kind, **options):
    return MODELS.build(dict(type=f'mmadm.{kind}', **options))


def random_maps():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 4, 3, 5, generator=generator) for _ in range(2))
    return student, teacher, torch.rand(2, 3, 5, generator=generator) > 0.3


@pytest.mark.parametrize(
    ('kind', 'options', 'function'),
    [
        ('KLDivergence', dict(tau=3.0), 'kl_divergence'),
        ('ChannelWiseDivergence', dict(tau=2.0), 'channel_wise_divergence'),
        ('PearsonDistance', {}, 'pearson_distance'),
        ('DIST', dict(tau=2.0, inter=0.5, intra=3.0), 'dist_distance'),
        ('MaskedGeneration', {}, 'generation_distance'),
    ],
)
def test_a_loss_is_its_function(kind, options, function):
    student, teacher, _ = random_maps()
    expected = getattr(functional, function)(student, teacher, **options)
    torch.testing.assert_close(build(kind, **options)(student, teacher), expected)


@pytest.mark.parametrize(('kind', 'option'), [('KLDivergence', 'mask'), ('DIST', 'mask'), ('DecoupledKL', 'mask')])
def test_the_mask_is_passed_on(kind, option):
    student, teacher, mask = random_maps()
    loss = build(kind)
    labels = {'labels': torch.ones(2, 3, 5, dtype=torch.long)} if 'labels' in loss.needs else {}
    assert option in loss.needs
    changed = student.masked_fill(~mask.unsqueeze(1), 9.0)
    torch.testing.assert_close(loss(changed, teacher, mask=mask, **labels), loss(student, teacher, mask=mask, **labels))
    assert not torch.allclose(loss(changed, teacher, **labels), loss(student, teacher, **labels))


def test_sigmoid_heads_get_their_own_divergence():
    student, teacher, mask = random_maps()
    torch.testing.assert_close(
        build('KLDivergence', tau=2.0)(student, teacher, mask=mask, binary=True),
        functional.binary_kl_divergence(student, teacher, 2.0, mask),
    )
    torch.testing.assert_close(
        build('DIST', tau=2.0)(student, teacher, mask=mask, binary=True),
        functional.dist_distance(student, teacher, 2.0, mask=mask, binary=True),
    )


@pytest.mark.parametrize(
    ('kind', 'needs'),
    [
        ('KLDivergence', {'mask', 'binary'}),
        ('DIST', {'mask', 'binary'}),
        ('DecoupledKL', {'mask', 'binary', 'labels'}),
        ('ChannelWiseDivergence', set()),
        ('PearsonDistance', set()),
        ('MaskedGeneration', set()),
        ('AttentionTransfer', set()),
        ('HintMSE', set()),
    ],
)
def test_what_a_loss_asks_for(kind, needs):
    assert set(build(kind).needs) == needs


@pytest.mark.parametrize('kind', ['KLDivergence', 'ChannelWiseDivergence', 'DIST', 'DecoupledKL'])
def test_a_temperature_of_zero_fails_while_the_config_is_read(kind):
    with pytest.raises(ConfigError, match=rf'{kind}.tau=0'):
        build(kind, tau=0)
