"""CIRKD: the published program's figures, and the same in blocks of rows."""

import pytest
import torch
import torch.nn.functional as F

from mmadm.functional import cirkd, class_means, class_samples, cross_image_divergence, memory_divergence

CLOSE = dict(rtol=1e-4, atol=1e-6)


def rows_of(feature):
    return F.normalize(feature, dim=1).flatten(2).transpose(1, 2)


@pytest.mark.parametrize('block', [cirkd.BLOCK, 50])  # 50: two rows of 24 columns at a time
def test_pixels_of_the_batch_are_those_of_the_published_program(golden, monkeypatch, block):
    monkeypatch.setattr(cirkd, 'BLOCK', block)
    case = golden('cirkd_mini_batch')
    student = case.inputs['student'].requires_grad_()
    loss = cross_image_divergence(student, case.inputs['teacher'], **case.params)
    loss.backward()
    assert loss.item() == pytest.approx(case.expected['loss'], rel=1e-4)
    torch.testing.assert_close(student.grad, case.expected['student_grad'], **CLOSE)


@pytest.mark.parametrize('block', [cirkd.BLOCK, 20])
@pytest.mark.parametrize('kind', ['pixel', 'region'])
def test_a_memory_is_that_of_the_published_program(golden, monkeypatch, kind, block):
    monkeypatch.setattr(cirkd, 'BLOCK', block)
    case = golden('cirkd_memory')
    student = case.inputs['student'].requires_grad_()
    entries = case.inputs[f'{kind}_queue'][:, case.inputs[f'{kind}_index'].long()].flatten(0, 1)
    taus = case.params['tau'], case.params['kd_tau']
    loss = memory_divergence(student, case.inputs['teacher'], entries, *taus, mask=case.inputs['mask'].bool())
    loss.backward()
    assert loss.item() == pytest.approx(case.expected[f'{kind}_loss'], rel=1e-4)
    torch.testing.assert_close(student.grad, case.expected[f'{kind}_student_grad'], **CLOSE)


def test_no_block_of_similarities_is_kept_for_the_gradient(monkeypatch):
    monkeypatch.setattr(cirkd, 'BLOCK', 200)
    student, teacher = (torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    student.requires_grad_()
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.update({t.data_ptr(): t.numel()}) or t, lambda t: t):
        cross_image_divergence(student, teacher)
        memory_divergence(student, teacher, torch.randn(100, 3))
    assert max(kept.values()) <= student.numel()  # the similarities are 72 * 72 and 72 * 100


def test_the_pair_of_two_images_by_hand():
    # one pixel an image: every row has one entry for each image, a distribution over a single pixel; nothing differs
    student, teacher = torch.randn(2, 3, 1, 1), torch.randn(2, 3, 1, 1)
    assert cross_image_divergence(student, teacher).item() == 0
    # two pixels of one image, orthogonal for the student and equal for the teacher; tau 1
    student = torch.eye(2).view(1, 2, 1, 2)
    teacher = torch.tensor([[2.0, 5.0], [0.0, 0.0]]).view(1, 2, 1, 2)
    own = torch.tensor([1.0, 0.0]).softmax(0)
    expected = (0.5 * (0.5 / own).log()).sum()
    torch.testing.assert_close(cross_image_divergence(student, teacher, tau=1.0), expected)


def test_kd_tau_softens_and_scales():
    student, teacher = (torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    entries = F.normalize(torch.randn(7, 3, generator=torch.Generator().manual_seed(2)), dim=1)
    expected = 4 * memory_divergence(student, teacher, entries, tau=0.6)
    torch.testing.assert_close(memory_divergence(student, teacher, entries, tau=0.3, kd_tau=2.0), expected)


def test_an_empty_memory_gives_zero():
    student = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = memory_divergence(student, torch.randn(2, 3, 4, 4), torch.zeros(0, 3))
    loss.backward()
    assert loss.item() == 0 and student.grad.count_nonzero() == 0


def test_means_by_hand():
    # unit vectors (1, 0), (0, 1) of class 1, (-1, 0) of class 0, and an ignored pixel
    feature = torch.tensor([[3.0, 0.0, -2.0, 9.0], [0.0, 4.0, 0.0, 9.0]]).view(1, 2, 2, 2)
    means, present = class_means(feature, torch.tensor([[[1, 1], [0, 255]]]), 3)
    half = 0.5**0.5
    torch.testing.assert_close(means, torch.tensor([[[-1.0, 0.0], [half, half], [0.0, 0.0]]]))
    assert present.tolist() == [[True, True, False]]


def test_bad_input():
    feature = torch.zeros(1, 2, 3, 3)
    with pytest.raises(ValueError, match='cross_image_divergence'):
        cross_image_divergence(feature, torch.zeros(1, 2, 3, 4))
    with pytest.raises(ValueError, match=r'entries \(5, 3\) do not fit'):
        memory_divergence(feature, feature, torch.zeros(5, 3))
    with pytest.raises(ValueError, match='memory_divergence: tau'):
        memory_divergence(feature, feature, torch.zeros(5, 2), kd_tau=0)
    with pytest.raises(ValueError, match='class_means: mask'):
        class_means(feature, torch.zeros(1, 2, 2, dtype=torch.long), 2)


def test_entries_that_do_not_count_are_as_if_they_were_not_there():
    student, teacher = (torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    entries, known = F.normalize(torch.randn(7, 3), dim=1), torch.arange(7) < 4
    found = memory_divergence(student.requires_grad_(), teacher, entries, known=known)
    torch.testing.assert_close(found, memory_divergence(student, teacher, entries[:4]))
    nothing = memory_divergence(student, teacher, entries, known=known & False)
    assert nothing.item() == 0 and not torch.autograd.grad(nothing, student)[0].any()


def test_pixels_are_chosen_of_their_own_class_by_noise():
    feature = torch.arange(1.0, 9.0).reshape(1, 1, 2, 4) * torch.tensor([1.0, -1.0]).view(1, 2, 1, 1)
    feature[:, 0] = 1.0  # the second channel tells pixels apart
    labels = torch.tensor([[[1, 1, 0, 255], [1, 0, 2, 255]]])
    noise = torch.tensor([[[0.1, 0.9, 0.2, 0.99], [0.5, 0.3, 0.0, 0.98]]])
    vectors, present = class_samples(feature, labels, 4, noise, number=2)
    assert present.tolist() == [[[True, True], [True, True], [True, False], [False, False]]]
    chosen = [(-v[:, 1] / v[:, 0]).round().tolist() for v in vectors[0]]  # numbers of pixels
    assert chosen[:2] == [[6.0, 3.0], [2.0, 5.0]] and chosen[2][0] == 7.0
    torch.testing.assert_close(vectors.norm(dim=3), torch.ones(1, 4, 2))
