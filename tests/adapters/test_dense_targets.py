"""What a single-stage learner's assigner made of a batch: as its stock head would say once more."""

from __future__ import annotations

import pytest
import torch
from small_detectors import CLASSES, batch, build, detector, in_rows
from tap_reader import TapReader

from mmadm.adapters.dense_targets import noted

ANCHORS = ('retinanet', 'atss', 'gfl')
POINTS = ('fcos', 'fcos_norm')


def read(family, **options):
    """A network, its preprocessed batch and what its adapter returns."""
    model = build(detector(family))
    done = model.data_preprocessor(batch(**options), True)
    return model, done, TapReader('student', model).loss(model, **done, taps=['logits', 'boxes'])


def assigned_again(model, done, output):
    """Class ids, weights and the number of positives of a second stock assignment, rows of all levels."""
    head, samples = model.bbox_head, done['data_samples']
    sizes = [tuple(level.shape[2:]) for level in output.taps['logits']]
    objects, metas = [sample.gt_instances for sample in samples], [sample.metainfo for sample in samples]
    if hasattr(head, 'regress_ranges'):
        labels, _ = head.get_targets(head.prior_generator.grid_priors(sizes, device='cpu'), objects)
        labels = torch.cat(labels)
        return labels, torch.ones(len(labels)), (labels < CLASSES).sum()
    found = head.get_targets(*head.get_anchors(sizes, metas, 'cpu'), objects, metas)
    first = 0 if type(head).__name__ == 'RetinaHead' else 1  # the others return the anchors, too
    labels, weights = (torch.cat([level.reshape(-1) for level in part]) for part in found[first : first + 2])
    return labels, weights, found[-1]


@pytest.mark.parametrize('family', ANCHORS + POINTS)
def test_targets_are_those_of_the_stock_assigner(family):
    model, done, output = read(family)
    found = output.targets()
    labels, weights, positives = assigned_again(model, done, output)
    shape = [(level.shape[0], *level.shape[2:]) for level in output.taps['logits']]
    assert [level.shape for level in found.labels] == [level.shape for level in found.weights] == shape
    rows = [
        torch.cat([in_rows(level.unsqueeze(1), 2)[:, 0] for level in part]) for part in (found.labels, found.weights)
    ]
    assert torch.equal(rows[0], labels) and torch.equal(rows[1], weights)
    assert found.positives == positives > 0
    assert output.targets() is found


def test_an_ignored_prior_has_no_weight():
    """RetinaNet ignores what overlaps a box by 0.4 to 0.5."""
    weights = read('retinanet')[2].targets().weights
    assert {0.0, 1.0} == {float(value) for level in weights for value in level.unique()}


@pytest.mark.parametrize('family', ['retinanet', 'fcos', 'gfl'])
def test_without_an_object_one_positive_is_counted(family):
    found = read(family, objects=0)[2].targets()
    assert found.positives == 1 and all((level == CLASSES).all() for level in found.labels)


@pytest.mark.parametrize(('family', 'positives'), [('vfnet', 45), ('autoassign', 6)])
def test_a_head_that_tells_no_class_ids_counts_what_it_divides_by_or_its_boxes(family, positives):
    found = read(family)[2].targets()
    assert found.positives == positives and found.labels is None and found.weights is None


def test_a_frozen_role_and_one_of_which_nothing_is_read_have_none():
    model = build(detector('retinanet'))
    done, reader = model.data_preprocessor(batch(), True), TapReader('student', model)
    assert reader.loss(model, **done, taps=[]).targets() is None
    assert reader.features(model.eval(), done['inputs'], ['logits']).targets() is None


def test_calls_are_noted_inside_the_block_alone():
    loss = torch.nn.MSELoss()
    with noted(loss) as calls:
        loss(torch.zeros(3, 2), torch.ones(3, 2))
    loss(torch.zeros(4), torch.ones(4))
    assert [call.rows for call in calls] == [3]
