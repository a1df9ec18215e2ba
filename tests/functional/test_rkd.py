"""RKD: the published program's figures, triangles by hand, and points that coincide."""

import pytest
import torch

from mmadm.functional import relation_angle, relation_distance


@pytest.mark.parametrize(('relation', 'name'), [(relation_distance, 'distance'), (relation_angle, 'angle')])
def test_relations_are_those_of_the_published_program(golden, relation, name):
    case = golden('rkd')
    student = case.inputs['student'].requires_grad_()
    loss = relation(student, case.inputs['teacher'])
    loss.backward()
    assert loss.item() == pytest.approx(case.expected[f'{name}_loss'], rel=1e-4)
    torch.testing.assert_close(student.grad, case.expected[f'{name}_student_grad'], rtol=1e-4, atol=1e-6)


def test_by_hand():
    # distances 3, 4, 5 with mean 4 against 1, 1, 2 with mean 4 / 3
    student, teacher = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]), torch.tensor([[0.0], [1.0], [-1.0]])
    differences = [3 / 4 - 3 / 4, 1 - 3 / 4, 5 / 4 - 3 / 2]
    expected = 2 * sum(d**2 / 2 for d in differences) / 9
    assert relation_distance(student, teacher).item() == pytest.approx(expected, rel=1e-5)
    # a scale of one side changes nothing
    torch.testing.assert_close(relation_distance(9 * student, teacher), relation_distance(student, teacher))
    torch.testing.assert_close(relation_angle(9 * student, teacher), relation_angle(student, teacher))


@pytest.mark.parametrize('relation', [relation_distance, relation_angle])
@pytest.mark.parametrize('rows', [0, 1, 3])
def test_nothing_to_relate_gives_zero(relation, rows):
    student = torch.ones(rows, 4, requires_grad=True)
    loss = relation(student, torch.ones(rows, 2))
    loss.backward()
    assert loss.item() == 0 and student.grad.count_nonzero() == 0


@pytest.mark.parametrize('relation', [relation_distance, relation_angle])
def test_points_that_coincide_keep_gradients_finite(relation):
    student = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 1.0], [3.0, 3.0]], requires_grad=True)
    relation(student, torch.randn(4, 3, generator=torch.Generator().manual_seed(0))).backward()
    assert student.grad.isfinite().all() and student.grad.any()


def test_bad_input():
    with pytest.raises(ValueError, match='relation_angle: expected as many vectors'):
        relation_angle(torch.zeros(2, 3), torch.zeros(3, 3))
