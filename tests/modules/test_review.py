"""ReviewFusion: the published program's figures, and that deeper levels reach shallower ones but not back."""

import pytest
import torch

from mmadm.modules import ReviewFusion


def test_maps_are_those_of_the_published_program(golden):
    case = golden('reviewkd_fusion')
    features = [case.inputs[f'student_{level}'] for level in range(3)]
    fusion = ReviewFusion([3, 4, 5], [3, 4, 5], case.params['mid_channels'])
    weights = {name: value for name, value in case.inputs.items() if name.startswith('levels.')}
    lacking, unknown = fusion.load_state_dict(weights, strict=False)
    assert not unknown and all(name.rpartition('.')[2] in ('running_mean', 'running_var', 'num_batches_tracked')
                               for name in lacking)  # fmt: skip
    for level, found in enumerate(fusion(features)):
        torch.testing.assert_close(found, case.expected[f'out_{level}'], rtol=1e-4, atol=1e-6)


def test_a_level_is_made_of_its_own_and_the_deeper_ones():
    fusion = ReviewFusion([2, 3, 4], [5, 6, 7], 8).eval()
    features = [torch.randn(1, 2, 9, 7), torch.randn(1, 3, 5, 4), torch.randn(1, 4, 3, 2)]
    outputs = fusion(features)
    assert [tuple(out.shape) for out in outputs] == [(1, 5, 9, 7), (1, 6, 5, 4), (1, 7, 3, 2)]
    for changed in range(3):
        other = [feature + (index == changed) for index, feature in enumerate(features)]
        moved = [not torch.equal(a, b) for a, b in zip(fusion(other), outputs, strict=True)]
        assert moved == [level <= changed for level in range(3)]


def test_numbers_of_levels_must_match():
    with pytest.raises(ValueError, match='2 levels cannot make 3'):
        ReviewFusion([2, 2], [2, 2, 2], 4)
    with pytest.raises(ValueError, match='made for 2 levels, found 1'):
        ReviewFusion([2, 2], [2, 2], 4)([torch.zeros(1, 2, 3, 3)])
