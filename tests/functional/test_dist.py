"""DIST: by hand, published figure, dense logits as a table of positions, mask and sigmoids."""

import pytest
import torch

from mmadm.functional import dist_distance


def random_logits(*shape):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator) for _ in range(2)]


def rows(logits):
    return logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1])


def correlation(a, b):
    return torch.corrcoef(torch.stack([a, b]))[0, 1]


def test_parity_with_the_published_program(golden):
    case = golden('dist')
    assert dist_distance(**case.inputs, **case.params).item() == pytest.approx(case.expected['loss'], rel=1e-4)


@pytest.mark.parametrize('binary', [False, True])
def test_each_part_is_one_minus_pearsons_correlation(binary):
    student, teacher = random_logits(6, 4)
    p, q = ((z / 3).sigmoid() if binary else (z / 3).softmax(dim=1) for z in (student, teacher))
    inter = 1 - sum(correlation(p[i], q[i]) for i in range(6)) / 6
    intra = 1 - sum(correlation(p[:, k], q[:, k]) for k in range(4)) / 4
    found = {
        key: dist_distance(student, teacher, 3.0, *key, binary=binary) for key in [(1.0, 0.0), (0.0, 1.0), (2.0, 3.0)]
    }
    torch.testing.assert_close(found[1.0, 0.0], 9 * inter)
    torch.testing.assert_close(found[0.0, 1.0], 9 * intra)
    torch.testing.assert_close(found[2.0, 3.0], 9 * (2 * inter + 3 * intra))


def test_opposite_rankings_by_hand():
    # rows rank the classes the other way round, r = -1; so do the columns
    student = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    assert dist_distance(student, -student, inter=1, intra=0).item() == pytest.approx(2, rel=1e-5)
    assert dist_distance(student, -student, inter=0, intra=1).item() == pytest.approx(2, rel=1e-5)


@pytest.mark.parametrize('binary', [False, True])
def test_dense_logits_are_a_table_of_valid_positions(binary):
    student, teacher = random_logits(2, 5, 3, 4)
    mask = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(1)) > 0.4
    kept = mask.flatten()
    torch.testing.assert_close(
        dist_distance(student, teacher, 2.0, mask=mask, binary=binary),
        dist_distance(rows(student)[kept], rows(teacher)[kept], 2.0, binary=binary),
    )
    torch.testing.assert_close(
        dist_distance(student, teacher, binary=binary), dist_distance(rows(student), rows(teacher), binary=binary)
    )


def test_masked_positions_get_no_gradient():
    student, teacher = random_logits(2, 5, 3, 4)
    student.requires_grad_()
    mask = torch.zeros(2, 3, 4, dtype=torch.bool)
    mask[:, :, :2] = True
    dist_distance(student, teacher, mask=mask).backward()
    assert student.grad[..., 2:].abs().max() == 0 and student.grad[..., :2].abs().min() > 0


def test_no_valid_position_gives_zero():
    student, teacher = random_logits(1, 3, 2, 2)
    student.requires_grad_()
    loss = dist_distance(student, teacher, mask=torch.zeros(1, 2, 2, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and student.grad.abs().max() == 0


def test_bad_input():
    with pytest.raises(ValueError, match='dist_distance: tau'):
        dist_distance(*random_logits(2, 3), tau=0)
    with pytest.raises(ValueError, match='dist_distance: mask'):
        dist_distance(*random_logits(2, 3, 4, 4), mask=torch.ones(2, 16))
