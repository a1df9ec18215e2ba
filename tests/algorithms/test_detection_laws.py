"""The laws of design.md on real detectors of every family."""

from __future__ import annotations

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from reached_weights import assert_routed, total
from role_outputs import role_outputs
from small_detectors import STOCK, batch, batch_for, build, detector, distillation

from mmadm.registry import MODELS
from mmadm.structures import BatchArea, GroundTruth, Step

DETRS = ('deformable', 'dino')
MUTUAL = dict(type='MutualLearning', roles=['student', 'teacher'])
ADM = dict(type='ADM', at='feats', divergence=0.5)
KD = dict(type='Transfer', source='teacher', learner='student', loss=dict(type='KLDivergence', tau=2.0))


def both(family: str) -> list[dict]:
    """ADM with the method that it is added to; transformers have no logits that correspond."""
    return [dict(ADM, at=['feats', 'encoder'])] if family in DETRS else [MUTUAL, ADM]


def losses_of(model, family='', **kwargs):
    """Every separate loss of one training forward pass."""
    data = model.data_preprocessor(batch_for(family, **kwargs), True)
    return model(**data, mode='loss')


def train(model, family='', steps=3, lr=0.002, **kwargs):
    """Run stock training steps with one optimiser for all; return the logged losses of each."""
    optimiser = OptimWrapper(torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9))
    logs = []
    for step in range(steps):
        log = model.train_step(batch_for(family, seed=step, **kwargs), optimiser)
        logs.append({key: float(value) for key, value in log.items()})
    return logs


# ---- law 1: routing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('objects', [3, 0], ids=['objects', 'nothing'])
@pytest.mark.parametrize('family', STOCK)
def test_each_loss_moves_its_learner_and_nothing_else(family, objects):
    model = distillation(family, distillers=both(family))
    losses = losses_of(model, family, objects=objects)
    moved = assert_routed(model, losses)
    ours = {'student.loss_consensus', 'teacher.loss_divergence'}
    ours |= set() if family in DETRS else {'student.loss_mutual', 'teacher.loss_mutual'}
    assert ours < set(moved)
    for key in ours:
        assert total(losses[key]) > 0
        assert any('.backbone.' in name for name in moved[key]), f'{key} moves nothing'
    heads = {
        key: any(part in name for name in names for part in ('bbox_head', 'rpn_head')) for key, names in moved.items()
    }
    # without objects there is nothing to regress, but what is background can be learnt
    tasks = {key for key in moved if key not in ours and (objects or '_cls' in key)}
    assert {'student', 'teacher'} == {key.partition('.')[0] for key in tasks if heads[key]}
    assert heads.get('student.loss_mutual', True)
    assert not heads['student.loss_consensus']  # neck or backbone is its last module


@pytest.mark.parametrize('family', STOCK)
def test_two_steps_with_one_optimiser_train_both_roles(family):
    model = distillation(family, distillers=both(family))
    before = deepcopy(model.state_dict())
    logs = train(model, family, steps=2)
    for log in logs:
        assert all(math.isfinite(value) for value in log.values()), log
        roles = log['student.loss'] + log['teacher.loss']
        assert log['loss'] == pytest.approx(roles, rel=1e-4)
    assert logs[0] != logs[1]
    moved = {name for name, value in model.state_dict().items() if not torch.equal(before[name], value)}
    parts = {name.split('.')[2] for name in before if name.startswith('roles.student.')}
    for part in {'backbone', 'neck', 'roi_head' if 'roi_head' in parts else 'bbox_head'} & parts:
        for role in model.roles:
            assert any(name.startswith(f'roles.{role}.{part}') for name in moved), (role, part)


def test_other_channels_are_connected_and_the_student_carries_the_connectors():
    wide = detector('retinanet', 8)
    wide['neck']['out_channels'] = wide['bbox_head']['in_channels'] = 48
    model = distillation(roles=dict(student=detector('retinanet'), teacher=wide), distillers=[ADM])
    names = {name for name, _ in model.named_parameters() if name.startswith('connectors.')}
    assert names == {f'connectors.adm.feats_{level}.weight' for level in range(5)}
    moved = assert_routed(model, losses_of(model))
    assert names < moved['student.loss_consensus']


# ---- law 4: off is off ----------------------------------------------------------------------------------------------


@pytest.fixture(scope='module', params=['retinanet', 'faster', 'rtmdet'])
def stock(request):
    """A stock detector after three steps of plain training."""
    model = build(ConfigDict(detector(request.param)))
    return request.param, train(model), model.state_dict()


@pytest.mark.parametrize('how', ['alone', 'online', 'offline'])
def test_off_is_the_stock_toolbox_step_by_step(stock, how):
    family, stock_logs, weights = stock
    off = [dict(MUTUAL, weight=0), dict(ADM, consensus=0, divergence=0), dict(KD, weight=0)]
    if how == 'alone':
        model = distillation(roles=dict(student=detector(family)))
    else:
        model = distillation(family, distillers=off, frozen=['teacher'] if how == 'offline' else [])
    logs = train(model)
    for mine, theirs in zip(logs, stock_logs, strict=True):
        assert {key: mine[f'student.{key}'] for key in theirs} == theirs
        assert how == 'online' or mine['loss'] == theirs['loss']
    found = model.roles['student'].state_dict()
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], value) for name, value in weights.items())


def test_on_is_not_the_stock_toolbox(stock):
    family, stock_logs, _ = stock
    logs = train(distillation(family, distillers=[MUTUAL]))
    for key in (key for key in stock_logs[0] if '_cls' in key):
        assert logs[0][f'student.{key}'] == stock_logs[0][key]
    assert logs[2]['student.loss_cls'] != stock_logs[2]['loss_cls']


# ---- law 5: frozen is frozen ----------------------------------------------------------------------------------------


@pytest.mark.parametrize('family', ['retinanet', 'rtmdet', 'mask', 'cascade', 'dino'])
def test_a_frozen_role_is_untouched_and_in_eval_throughout(family):
    distillers = [*both(family), *([] if family in DETRS else [KD])]
    model = distillation(family, distillers=distillers, frozen=['teacher'])
    teacher = model.roles['teacher']
    before = deepcopy(teacher.state_dict())
    modes, seen = [], []
    teacher.backbone.register_forward_hook(lambda m, *_: modes.append(m.training))
    for name, module in teacher.named_modules():
        module.register_forward_hook(lambda *_, name=name: seen.append(name))
    logs = train(model, family, steps=2)
    assert modes == [False] * 2 and not any(m.training for m in teacher.modules())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert not [key for key in logs[0] if key.startswith('teacher.')]
    assert not [name for name in seen if name.startswith(('rpn_head', 'decoder')) or 'loss' in name or 'mask' in name]


# ---- ground truth belongs to a role ---------------------------------------------------------------------------------


def spoil(_model, args, _kwargs):
    """Edit data samples in place, as far as an edit can go."""
    for sample in args[1]:
        sample.gt_instances.bboxes.zero_()
        sample.gt_instances.labels.fill_(2)
        sample.gt_instances.masks.masks[:] = 0
        del sample.ignored_instances
        sample.set_metainfo(dict(img_shape=(1, 1)))


@pytest.mark.parametrize('std', [None, 40.0], ids=['one-preprocessor', 'two'])
def test_no_role_sees_what_another_does_to_its_samples(std):
    def losses(spoiled):
        roles = dict(student=detector('mask'), teacher=detector('mask', 8, std=std), third=detector('mask'))
        model = distillation(roles=roles, distillers=[ADM])
        if spoiled:
            model.roles['student'].register_forward_pre_hook(spoil, with_kwargs=True)
        torch.manual_seed(0)
        return {key: total(loss).item() for key, loss in losses_of(model, 'mask').items() if 'loss' in key}

    clean, after = losses(False), losses(True)
    assert clean['student.loss_mask'] != after['student.loss_mask']
    others = [key for key in clean if not key.startswith('student.')]
    assert len(others) == 11 and {key: clean[key] for key in others} == {key: after[key] for key in others}


# ---- the foreground monitor -----------------------------------------------------------------------------------------


def maps(values):
    """Student and teacher maps of two channels with these similarities; one of two images."""
    cosine = torch.tensor(values)
    return torch.stack([torch.ones_like(cosine), torch.zeros_like(cosine)], 1), torch.stack(
        [cosine, (1 - cosine**2).sqrt()], 1
    )


def test_foreground_is_the_share_of_weight_inside_boxes_by_hand():
    # 4 x 4 pixels; level 0 has cells of 2 pixels with centres at 1 and 3, level 1 is one cell with its centre at 2
    fine, coarse = maps([[[1.0, 0.0], [0.0, 0.0]], [[0.5, 0.5], [0.0, 0.0]]]), maps([[[0.3]], [[0.7]]])
    levels = [[fine[0], coarse[0]], [fine[1], coarse[1]]]
    boxes = [torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.5, 0.5, 1.5, 1.5]]), torch.tensor([[0.0, 0.0, 4.0, 2.0]])]
    distiller = MODELS.build(dict(type='mmadm.ADM', tau=0.5, foreground=True))
    distiller.trainable = frozenset(['student', 'teacher'])

    def found(boxes):
        taps = {role: dict(feats=maps) for role, maps in zip(('student', 'teacher'), levels, strict=True)}
        outputs = role_outputs(taps, GroundTruth(boxes=boxes), BatchArea((4, 4), ((4, 4),) * 2))
        return distiller(outputs, Step()).monitors

    e = math.exp
    first, second = e(2) / (e(2) + 3), 2 * e(1) / (2 * e(1) + 2)
    # no box holds the centre of the coarse cell
    assert float(found(boxes)['student.foreground']) == pytest.approx((first + second) / 2 / 2, rel=1e-6)
    assert float(found(boxes)['student.foreground_area']) == pytest.approx((1 / 4 + 2 / 4) / 2 / 2, rel=1e-6)
    # an image without objects has no share; the other counts alone
    alone = found([boxes[0], torch.zeros(0, 4)])
    assert float(alone['student.foreground']) == pytest.approx(first / 2, rel=1e-6)
    whole = [torch.tensor([[0.0, 0.0, 4.0, 4.0]])] * 2
    assert float(found(whole)['student.foreground']) == pytest.approx(1, rel=1e-6)
    assert float(found([torch.zeros(0, 4)] * 2)['student.foreground']) == 0
    # the fine level alone has images with objects and background: the first one's best position is its object
    overlaps = found(boxes)
    assert float(overlaps['student.overlap_similar']) == pytest.approx((1 + 1) / 2 / 2)
    assert float(overlaps['student.overlap_chance']) == pytest.approx((1 / 7 + 2 / 6) / 2 / 2)


def test_foreground_of_a_real_pyramid_is_what_a_loop_finds():
    model = distillation('fcos', distillers=[dict(ADM, foreground=True)])
    necks = {}
    for name, role in model.roles.items():
        role.neck.register_forward_hook(lambda *args, name=name: necks.update({name: args[2]}))
    losses = losses_of(model)
    samples = batch()['data_samples']
    shares, areas = [], []
    for student, teacher in zip(necks['student'], necks['teacher'], strict=True):
        similarity = torch.cosine_similarity(student, teacher).detach().numpy().astype(float)
        height, width = similarity.shape[1:]
        cell = 96 / height, 128 / width
        per_image = []
        for image, sample in zip(similarity, samples, strict=True):
            rows, columns = (
                min(math.ceil(side / (padded / cells)), cells)
                for side, padded, cells in zip(sample.img_shape, (96, 128), (height, width), strict=True)
            )
            image = image[:rows, :columns]  # what is no image has no weight
            weights = np.exp(image / 0.1) / np.exp(image / 0.1).sum()
            inside = np.zeros((rows, columns), bool)
            for y in range(rows):
                for x in range(columns):
                    for x1, y1, x2, y2 in sample.gt_instances.bboxes.tensor.tolist():
                        inside[y, x] |= x1 <= (x + 0.5) * cell[1] < x2 and y1 <= (y + 0.5) * cell[0] < y2
            if inside.any():
                per_image.append((weights[inside].sum(), inside.mean()))
        shares.append(np.mean([share for share, _ in per_image]) if per_image else 0)
        areas.append(np.mean([area for _, area in per_image]) if per_image else 0)
    assert float(losses['student.foreground']) == pytest.approx(np.mean(shares), rel=1e-4)
    assert float(losses['student.foreground_area']) == pytest.approx(np.mean(areas), rel=1e-4)
    assert 0 < np.mean(areas) < 1 and not losses['student.foreground'].requires_grad
    assert 'student.foreground' not in losses_of(distillation('fcos', distillers=[ADM]))
