"""Two ranks give the losses and gradients of one process with the joined batch, by every method."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rank_steps import METHODS, Tensors, batches, build, joined, registered_methods, run_rank, step, types_of
from role_outputs import run_roles
from warm_processes import spawn_two

from mmadm.structures import is_loss

#: Methods that standardise over a batch, so that a rank is a batch of its own: what two of them give is the mean
BY_BATCH = ('segmentation, pkd', 'segmentation, dist', 'segmentation, akd_batchnorm')
#: Trainings whose stock losses are divided by what a rank has, or which the published LD sums
BY_LOSS = ('retinanet, kd', 'gfl, ld_published')
#: CrossKD takes the statistics of a rank and counts what all ranks have
CROSSKD = ('gfl, crosskd', 'fcos, crosskd')
OTHERS = [name for name in METHODS if name not in (*BY_BATCH, *BY_LOSS, *CROSSKD)]
Steps = dict[str, dict[str, Tensors]]


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Where the ranks write, with receptive tokens for the level of 64 channels."""
    folder = tmp_path_factory.mktemp('ranks')
    torch.save({'0': torch.randn(3, 64, generator=torch.Generator().manual_seed(0))}, folder / 'tokens.pth')
    return folder


@pytest.fixture(scope='module')
def ranks(folder) -> list[Steps]:
    """The steps of both ranks, by method."""
    spawn_two(run_rank, folder)
    return [torch.load(folder / f'rank{rank}.pth') for rank in range(2)]


def test_every_registered_method_is_here():
    assert registered_methods() <= types_of(list(METHODS.values()))


def mean(steps: list[dict[str, Tensors]], part: str) -> Tensors:
    first, second = (step[part] for step in steps)
    assert first.keys() == second.keys()
    return {key: (value + second[key]) / 2 for key, value in first.items()}


def together(tensors: Tensors) -> dict[str, torch.Tensor]:
    """All gradients of a role or of a distiller's connectors as one vector; heads and backbones apart."""
    parts: dict[str, list[torch.Tensor]] = {}
    for key, value in tensors.items():
        parts.setdefault('.'.join(key.split('.')[:3]), []).append(value.flatten())
    return {key: torch.cat(values) for key, values in parts.items()}


def assert_equal(found: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert found.keys() == right.keys()
    for key, value in right.items():
        assert (found[key] - value).norm() <= 1e-6 * value.norm(), key


@pytest.mark.parametrize('name', OTHERS)
def test_two_ranks_equal_one_process(ranks, folder, name):
    right = step(build(name, folder), joined(batches(name)))
    steps = [rank[name] for rank in ranks]
    assert_equal(mean(steps, 'losses'), right['losses'])
    for found in steps:
        assert_equal(together(found['gradients']), together(right['gradients']))


@pytest.mark.parametrize('name', BY_BATCH)
def test_what_is_standardised_over_a_batch_is_over_that_of_a_rank(ranks, folder, name):
    model = build(name, folder)
    parts = [step(model, part) for part in batches(name)]
    whole = step(model, joined(batches(name)))
    for found, part in zip((rank[name] for rank in ranks), parts, strict=True):
        assert_equal(found['losses'], part['losses'])
        assert_equal(together(found['gradients']), together(mean(parts, 'gradients')))
        assert (found['losses']['student.loss_transfer'] / whole['losses']['student.loss_transfer'] - 1).abs() > 1e-3


def test_positives_are_those_of_all_ranks_where_stock_takes_its_own(ranks, folder):
    right = step(build('retinanet, kd', folder), joined(batches('retinanet, kd')))['losses']
    found = mean([rank['retinanet, kd'] for rank in ranks], 'losses')
    assert_equal(*({'': losses['student.loss_transfer']} for losses in (found, right)))
    assert (found['student.loss_cls'] / right['student.loss_cls'] - 1).abs() > 0.1


@pytest.mark.parametrize('name', CROSSKD)
def test_crosskd_divides_by_the_mean_of_what_both_ranks_count(ranks, folder, name):
    model = build(name, folder)
    data = [model.data_preprocessor(batch, True) for batch in batches(name)]
    alone = [step(model, batch)['losses'] for batch in batches(name)]
    targets = run_roles(model, data[0])['student'].targets()
    count = targets.positives if targets.centerness is None else targets.centerness
    assert count > 2  # else the least of 1 counts
    shares = [2.0, 2 / count.item()]  # without an object the second rank alone counts 1
    for term in ('classification', 'boxes'):
        key = f'student.loss_crosskd_{term}'
        found = [(rank[name]['losses'][key] / part[key]).item() for rank, part in zip(ranks, alone, strict=True)]
        if name == 'gfl, crosskd' and term == 'boxes':  # by the teacher's scores, which each rank has some of
            assert sum(found) == pytest.approx(2, rel=1e-5) and abs(found[0] - 1) > 1e-4
        else:
            assert found == pytest.approx(shares, rel=1e-5)


def test_the_published_terms_of_ld_are_those_of_a_rank(ranks, folder):
    right = step(build('gfl, ld_published', folder), joined(batches('gfl, ld_published')))['losses']
    first, second = (rank['gfl, ld_published']['losses'] for rank in ranks)
    for key in ('student.loss_ld_positives', 'student.loss_ld_region'):  # sums
        assert_equal({key: first[key] + second[key]}, {key: right[key]})
    key = 'student.loss_ld_classification'  # a mean over positives, of which the second rank has none
    assert_equal({key: first[key]}, {key: right[key]})
    assert second[key] == 0


@pytest.mark.parametrize('name', METHODS)
def test_the_ranks_saw_different_images(ranks, name):
    first, second = (rank[name]['losses']['loss'] for rank in ranks)
    assert (first / second - 1).abs() > 1e-5


@pytest.mark.parametrize('name', [name for name in METHODS if name != 'segmentation, tokens'])
def test_every_learner_gets_the_same_gradient_on_both_ranks(ranks, name):
    first, second = (rank[name]['gradients'] for rank in ranks)
    assert all(torch.equal(first[key], second[key]) for key in first)
    learners = {key.partition('.')[0] for key in ranks[0][name]['losses'] if '.' in key and is_loss(key)}
    moved = {key.split('.')[1] for key, value in first.items() if key.startswith('roles.') and value.any()}
    assert moved == learners - {'fusion', 'self_distillation'}
