"""CrossKD: by hand on real networks, with published figures, what counts, and what it refuses."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import small_detectors
import torch
import torch.nn.functional as F
from dense_roles import crosskd, with_convs
from role_outputs import run_roles

from mmadm.distillers.crosskd import PUBLISHED
from mmadm.structures import Step

FAMILIES = ('retinanet', 'fcos', 'fcos_norm', 'atss', 'gfl')


def batch_of_two():
    """Two images of one size, so that there is no padding."""
    batches = [small_detectors.batch(1, seed=seed) for seed in (0, 1)]
    return {key: [value for batch in batches for value in batch[key]] for key in batches[0]}


def losses_of(model, batch):
    found = model(**model.data_preprocessor(batch, True), mode='loss')
    return {key.removeprefix('student.loss_crosskd_'): value for key, value in found.items() if 'crosskd' in key}


# ---- by hand --------------------------------------------------------------------------------------------------------


def predicted(role, inputs, put=None):
    """Predictions of a stock network and what two of its convolutions gave, or were replaced by."""
    seen = {'cls': [], 'reg': []}

    def note(branch, output):
        seen[branch].append(output)
        return put[branch][len(seen[branch]) - 1] if put else None

    with ExitStack() as stack:
        for branch in seen:
            conv = getattr(role.bbox_head, f'{branch}_convs')[0]
            handle = conv.register_forward_hook(lambda _module, _inputs, output, b=branch: note(b, output))
            stack.callback(handle.remove)
        return role.bbox_head(role.extract_feat(inputs)), seen


def aligned(own, other):
    """The paper's alignment over images and positions, then its ReLU."""
    statistics = [(x.mean(dim=(0, 2, 3), keepdim=True), x.std(dim=(0, 2, 3), keepdim=True)) for x in (own, other)]
    (mean, spread), (mean_t, spread_t) = statistics
    return F.relu((own - mean) / (spread + 1e-6) * spread_t + mean_t)


def rows(levels, channels):
    return torch.cat([level.permute(0, 2, 3, 1).reshape(-1, channels) for level in levels])


def boxes_by_hand(head, levels):
    sizes = [level.shape[2:] for level in levels]
    priors = head.prior_generator.grid_priors(sizes, device='cpu')
    priors = torch.cat([getattr(prior, 'tensor', prior).repeat(2, 1) for prior in priors])
    return head.bbox_coder.decode(priors, rows(levels, 4))


def by_hand(model, batch):
    """Every term from stock predictions alone."""
    from mmdet.structures.bbox import bbox_overlaps

    done = model.data_preprocessor(batch, True)
    student, teacher = model.roles['student'], model.roles['teacher']
    _, own = predicted(student, done['inputs']['student'])
    taught, other = predicted(teacher, done['inputs']['teacher'])
    put = {b: [aligned(x, t) for x, t in zip(own[b], other[b], strict=True)] for b in own}
    crossed, _ = predicted(teacher, done['inputs']['teacher'], put)
    targets = run_roles(model, done)['student'].targets()
    labels, weights = (
        torch.cat([small_detectors.in_rows(level.unsqueeze(1), 2)[:, 0] for level in part])
        for part in (targets.labels, targets.weights)
    )
    x, t = rows(crossed[0], 3), rows(taught[0], 3).sigmoid()
    name, positive = type(student.bbox_head).__name__, labels < 3
    assert name != 'RetinaHead' or (weights == 0).any()  # it ignores what overlaps a box by 0.4 to 0.5
    count = positive.sum()
    if name == 'FCOSHead':
        samples, sizes = done['data_samples']['student'], [level.shape[2:] for level in crossed[0]]
        points = student.bbox_head.prior_generator.grid_priors(sizes, device='cpu')
        regressed = torch.cat(student.bbox_head.get_targets(points, [sample.gt_instances for sample in samples])[1])
        count = student.bbox_head.centerness_target(regressed[positive]).sum()
    sure = t.max(dim=1)[0] * (weights > 0)
    entropy = F.binary_cross_entropy_with_logits(x, t, reduction='none')
    found = {'classification': ((x.sigmoid() - t).abs() * entropy * weights[:, None]).sum() / count}
    if name == 'GFLHead':
        px, pt = (rows(part[1], 17).reshape(-1, 4, 17).log_softmax(dim=2) for part in (crossed, taught))
        found['boxes'] = (sure * (pt.exp() * (pt - px)).sum(dim=(1, 2))).sum() / (4 * sure.sum())
    else:
        both = [boxes_by_hand(teacher.bbox_head, part[1]) for part in (crossed, taught)]
        overlap = bbox_overlaps(*both, 'iou' if name == 'FCOSHead' else 'giou', is_aligned=True)
        far = -overlap.clamp(min=1e-6).log() if name == 'FCOSHead' else 1 - overlap
        areas = (both[1][:, 2:] - both[1][:, :2]).prod(dim=1)
        found['boxes'] = (sure * far)[areas > 0].sum() / count
    if name == 'ATSSHead':
        x, t = (rows(part[2], 1)[positive] for part in (crossed, taught))
        found['centerness'] = F.binary_cross_entropy_with_logits(x, t.sigmoid(), reduction='sum') / count
    return {key: PUBLISHED[name][key] * value for key, value in found.items()}


@pytest.mark.parametrize('family', FAMILIES)
def test_every_term_is_that_of_stock_predictions_by_hand(family):
    model = crosskd(family)
    found, expected = losses_of(model, batch_of_two()), by_hand(model, batch_of_two())
    assert found.keys() == expected.keys()
    learnt = list(model.roles['student'].parameters())
    for key, value in expected.items():
        assert value > 1e-3, key
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6)
        gradients = [torch.autograd.grad(x, learnt, allow_unused=True, retain_graph=True) for x in (found[key], value)]
        pairs = [(a, b) for a, b in zip(*gradients, strict=True) if b is not None]
        assert len(pairs) > 10
        whole = torch.cat([b.flatten() for _, b in pairs])  # single entries are the sum of many that cancel
        assert (torch.cat([a.flatten() for a, _ in pairs]) - whole).norm() < 1e-4 * whole.norm()


# ---- what counts ----------------------------------------------------------------------------------------------------


def test_a_teacher_stays_as_it_is_and_the_student_alone_learns():
    model = crosskd('fcos')
    before = {key: value.clone() for key, value in model.roles['teacher'].state_dict().items()}
    sum(losses_of(model, small_detectors.batch()).values()).backward()
    assert all(torch.equal(value, before[key]) for key, value in model.roles['teacher'].state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in model.roles['teacher'].parameters())
    assert not any(part.training for part in model.roles['teacher'].modules())
    head = model.roles['student'].bbox_head
    reached = {name for name, p in head.named_parameters() if p.grad is not None and p.grad.any()}
    # what lies behind the features sees the labels alone
    assert reached == {name for name, _ in head.named_parameters() if '_convs.0.' in name}


@pytest.mark.parametrize('family', FAMILIES)
def test_a_teacher_of_equal_weights_teaches_nothing(family):
    roles = {name: with_convs(family) for name in ('student', 'teacher')}
    model = crosskd(family, roles, centerness=0.0)
    model.roles['student'].eval()  # its batch normalisation
    for parameter in model.roles['student'].backbone.parameters():
        parameter.data.mul_(0.5)
    before = losses_of(model, small_detectors.batch())
    model.roles['student'].load_state_dict(model.roles['teacher'].state_dict())
    for key, value in losses_of(model, small_detectors.batch()).items():
        assert value < 0.01 * before[key]


def inside(model, batch):
    """The first level of the student's features with their gradients, the outputs, and the losses."""
    outputs = run_roles(model, model.data_preprocessor(batch, True))
    taps = sorted((tap for tap in outputs['student'].taps if 'convs' in tap.base), key=str)
    features = [outputs['student'].taps[tap].levels[0] for tap in taps]
    for feature in features:
        feature.retain_grad()
    return outputs, features, model.distillers['crosskd']


@pytest.mark.parametrize('family', ['retinanet', 'gfl'])
def test_what_lies_beyond_an_image_does_not_count(family):
    roles = {name: with_convs(family, convs=1, width=width, norm_cfg=None) for name, width in zip(
        ('student', 'teacher'), (4, 8), strict=True)}  # fmt: skip
    model = crosskd(family, roles)
    outputs, features, distiller = inside(model, small_detectors.batch())
    losses = distiller(outputs, Step()).losses
    sum(losses.values()).backward()
    # of stride 8: the second image has 76 rows, so the tenth row shows some of it; nor do the output layers look beyond
    for feature in features:
        assert feature.grad[1, :, :10].any() and not feature.grad[1, :, 10:].any()
    with torch.no_grad():
        for feature in features:
            feature[1, :, 10:] = 1e3
    for key, value in distiller(outputs, Step()).losses.items():
        torch.testing.assert_close(value, losses[key], rtol=1e-5, atol=1e-7)


def test_a_narrower_student_learns_connectors_and_exports_none():
    roles = dict(student=with_convs('gfl', in_channels=32, feat_channels=16), teacher=with_convs('gfl', width=8))
    model = crosskd('gfl', roles, connector=dict(type='Connector'))
    connectors = model.connectors['crosskd']
    assert set(connectors) == {f'{branch}_{level}' for branch in ('cls', 'reg') for level in range(5)}
    assert {tuple(part.weight.shape[:2]) for part in connectors.values()} == {(32, 16)}
    sum(losses_of(model, small_detectors.batch()).values()).backward()
    assert all(part.weight.grad.any() for part in connectors.values())
    assert set(model.owned_by('student').connectors) == {f'crosskd_{key}' for key in connectors}
    # asked for where none is needed: nothing that is written is ignored
    same = crosskd('gfl', connector=dict(type='Connector'), boxes=0.0)
    assert set(same.connectors['crosskd']) == {f'cls_{level}' for level in range(5)}


@pytest.mark.parametrize(
    ('weights', 'keys'),
    [
        (dict(boxes=0.0, centerness=0.0), {'classification'}),
        (dict(classification=0.0, centerness=0.0), {'boxes'}),
        (dict(classification=0.0, boxes=0.0), {'centerness'}),
        (dict.fromkeys(('classification', 'boxes', 'centerness'), 0.0), set()),
    ],
)
def test_only_what_has_a_weight_is_computed(weights, keys):
    assert set(losses_of(crosskd('atss', **weights), small_detectors.batch())) == keys


@pytest.mark.parametrize('family', FAMILIES)
def test_start_and_weights_are_those_published_for_the_teachers_head(family):
    roles = {name: with_convs(family, 4) for name in ('student', 'teacher')}
    model = small_detectors.distillation(roles=roles, frozen=['teacher'], distillers=[dict(type='CrossKD')])
    distiller, fcos = model.distillers['crosskd'], family.startswith('fcos')
    assert distiller.start == (2 if fcos else 3)
    wanted = (0.4, 0.75, 0) if fcos else (1, 4 if family == 'gfl' else 1, family == 'atss')
    assert tuple(distiller.weights.values()) == wanted
    assert {tap.base for tap in distiller.taps()['student']} == {
        'logits', *(f'bbox_head.{branch}_convs.{1 if fcos else 2}' for branch in ('cls', 'reg'))
    }  # fmt: skip


def test_from_the_neck_on_features_go_through_the_whole_head_unrectified():
    model = crosskd('retinanet', start=0)
    done = model.data_preprocessor(batch_of_two(), True)
    outputs, distiller = run_roles(model, done), model.distillers['crosskd']
    (found,) = {tap.base for tap in distiller.taps()['student']} - {'logits'}
    assert found == 'feats'
    features = distiller._features('cls', outputs, Step())
    assert all((level < 0).any() for level in features)
    (tap,) = (tap for tap in outputs['teacher'].taps if tap.base == 'feats')
    for level, other in zip(features, outputs['teacher'].taps[tap].levels, strict=True):
        torch.testing.assert_close(level.mean(dim=(0, 2, 3)), other.mean(dim=(0, 2, 3)), rtol=1e-3, atol=1e-4)
