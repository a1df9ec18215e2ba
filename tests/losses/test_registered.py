"""The registered losses: built by name, equal to their functions, and errors while the config is read."""

import re
from dataclasses import replace

import pytest
import torch

from mmadm import functional, losses
from mmadm.registry import MODELS
from mmadm.structures import Kind, PairContext
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


def every_loss(tmp_path):
    """Each registered loss by name."""
    torch.save({'0': torch.tensor([[1.0] * 4, [-1.0] * 4])}, tmp_path / 'tokens.pth')
    return {
        name: build(name, **({'tokens': str(tmp_path / 'tokens.pth')} if name == 'MaskedTokens' else {}))
        for name in losses.__all__
        if name != 'DistillationLoss'
    }


def test_every_loss_counts_what_is_inside_of_the_mask_alone(tmp_path):
    student, teacher, mask = random_maps()
    noise = 9 * ~mask.unsqueeze(1)
    labels = torch.ones(2, 3, 5, dtype=torch.long)
    for name, loss in every_loss(tmp_path).items():
        inside = PairContext(min(loss.kinds, key=lambda kind: kind.value), 0, mask, lambda: labels)
        found = loss(student + noise, teacher - noise, inside)
        torch.testing.assert_close(found, loss(student, teacher, inside), msg=name)
        everywhere = replace(inside, mask=None)
        assert not torch.allclose(loss(student + noise, teacher - noise, everywhere), found), name


def test_sigmoid_heads_get_their_own_divergence():
    student, teacher, mask = random_maps()
    context = PairContext(Kind.SIGMOID_SCORES, mask=mask)
    torch.testing.assert_close(
        build('KLDivergence', tau=2.0)(student, teacher, context),
        functional.binary_kl_divergence(student, teacher, 2.0, mask),
    )
    torch.testing.assert_close(
        build('DIST', tau=2.0)(student, teacher, context),
        functional.dist_distance(student, teacher, 2.0, mask=mask, binary=True),
    )


@pytest.mark.parametrize(
    ('name', 'refused'),
    [
        ('KLDivergence', {'BOXES'}),
        ('DIST', {'BOXES', 'BOX_DISTRIBUTIONS', 'MAP', 'TOKENS', 'VECTORS'}),
        ('DecoupledKL', {'SIGMOID_SCORES', 'BOXES', 'BOX_DISTRIBUTIONS', 'MAP', 'TOKENS', 'VECTORS'}),
        ('ChannelWiseDivergence', {'BOXES', 'BOX_DISTRIBUTIONS', 'VECTORS'}),
        ('PearsonDistance', {'BOXES', 'BOX_DISTRIBUTIONS'}),
        ('MaskedGeneration', {kind.name for kind in Kind} - {'MAP'}),
        ('MaskedTokens', {kind.name for kind in Kind} - {'MAP'}),
        ('AttentionTransfer', {kind.name for kind in Kind} - {'MAP', 'TOKENS'}),
        ('HintMSE', set()),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(name, refused, tmp_path):
    loss = every_loss(tmp_path)[name]
    for kind in Kind:
        if kind.name not in refused:
            loss.check_kind(kind)
            continue
        with pytest.raises(ConfigError, match=rf'{name}: makes no sense for {re.escape(kind.value)}; .* fits is \w+'):
            loss.check_kind(kind)


@pytest.mark.parametrize('kind', ['KLDivergence', 'ChannelWiseDivergence', 'DIST', 'DecoupledKL'])
def test_a_temperature_of_zero_fails_while_the_config_is_read(kind):
    with pytest.raises(ConfigError, match=rf'{kind}.tau=0'):
        build(kind, tau=0)
