"""ReviewKD: the published program's figures, and pools by hand."""

import pytest
import torch

from mmadm.functional import hierarchical_distance


def test_levels_are_those_of_the_published_program(golden):
    case = golden('reviewkd_hcl')
    case.inputs['student_0'].requires_grad_()
    losses = [
        hierarchical_distance(case.inputs[f'student_{level}'], case.inputs[f'teacher_{level}']) for level in range(4)
    ]
    assert [loss.item() for loss in losses] == pytest.approx([case.expected[f'loss_{i}'] for i in range(4)], rel=1e-4)
    losses[0].backward()
    torch.testing.assert_close(case.inputs['student_0'].grad, case.expected['student_0_grad'], rtol=1e-4, atol=1e-6)


def test_by_hand():
    # differences 1, 3 in the upper row and -1, 1 below: squares 12 / 4; the pool to one cell is their mean, 1
    student = torch.tensor([[1.0, 3.0], [-1.0, 1.0]]).view(1, 1, 2, 2)
    assert hierarchical_distance(student, torch.zeros(1, 1, 2, 2)).item() == pytest.approx((3 + 0.5 * 1) / 1.5)


def test_a_masked_map_by_hand():
    # 2 of 3 rows and 2 of 3 columns are image, as above; one position of the second image counts: (4 + 4 / 2) / 1.5
    student = torch.full((2, 1, 3, 3), 99.0)
    student[0, 0, :2, :2] = torch.tensor([[1.0, 3.0], [-1.0, 1.0]])
    student[1, 0, :2, :2] = torch.tensor([[2.0, 99.0], [99.0, 99.0]])
    mask = torch.zeros(2, 3, 3, dtype=torch.bool)
    mask[0, :2, :2], mask[1, 0, 0], mask[1, 1, 1] = True, True, True
    student[1, 0, 1, 1] = 2.0
    found = hierarchical_distance(student, torch.zeros(2, 1, 3, 3), mask)
    assert found.item() == pytest.approx(((3 + 0.5) / 1.5 + 4) / 2)
