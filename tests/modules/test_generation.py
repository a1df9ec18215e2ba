"""GenerationBlock: what it masks, when, and from which generator."""

import pytest
import torch
from torch import nn

from mmadm.modules import GenerationBlock


@pytest.fixture
def masked():
    """Return what the block's first convolution receives."""

    def run(block, feature):
        seen = []
        handle = block.generate[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
        block(feature)
        handle.remove()
        return seen[0]

    return run


def test_one_mask_for_each_image_shared_by_its_channels(masked):
    torch.manual_seed(0)
    kept = masked(GenerationBlock(3, 3, mask_ratio=0.65), torch.ones(4, 3, 40, 40))
    assert set(kept.unique().tolist()) == {0.0, 1.0}  # what is kept is not scaled up
    assert all(torch.equal(kept[:, 0], kept[:, channel]) for channel in (1, 2))
    assert not torch.equal(kept[0], kept[1])
    assert kept.mean().item() == pytest.approx(0.35, abs=0.02)


def test_the_mask_is_drawn_afresh_from_the_default_generator(masked):
    block, feature = GenerationBlock(2, 2, mask_ratio=0.5), torch.ones(1, 2, 8, 8)
    torch.manual_seed(3)
    first, second = masked(block, feature), masked(block, feature)
    torch.manual_seed(3)
    assert torch.equal(masked(block, feature), first) and not torch.equal(first, second)


def test_eval_masks_nothing(masked):
    feature = torch.randn(1, 2, 8, 8)
    assert torch.equal(masked(GenerationBlock(2, 2, mask_ratio=0.9).eval(), feature), feature)


def test_channels_are_aligned_before_the_mask():
    block = GenerationBlock(2, 5, mask_ratio=0.5)
    assert block(torch.randn(1, 2, 6, 7)).shape == (1, 5, 6, 7)
    assert isinstance(GenerationBlock(4, 4, mask_ratio=0.5).align, nn.Identity)
    by_hand = nn.functional.conv2d(torch.ones(1, 2, 6, 7), block.align.weight)
    for layer in block.generate:
        by_hand = layer(by_hand)
    torch.testing.assert_close(block.eval()(torch.ones(1, 2, 6, 7)), by_hand)


def test_half_precision_stays_half_precision():
    block = GenerationBlock(2, 2, mask_ratio=0.5).to(torch.bfloat16)
    assert block(torch.randn(1, 2, 6, 6, dtype=torch.bfloat16)).dtype == torch.bfloat16
