"""Features go on through the rest of another head as they would through their own."""

from __future__ import annotations

import pytest
import small_detectors
import torch
from mmengine.registry import DefaultScope

from mmadm.adapters.cross_head import known_head
from mmadm.functional import align_statistics

FAMILIES = ('retinanet', 'fcos', 'fcos_norm', 'atss', 'gfl')
CLOSE = dict(rtol=1e-4, atol=1e-6)
BRANCHES = ('cls', 'reg')


def head_of(family, convs=2):
    cfg = small_detectors.detector(family)
    cfg['bbox_head']['stacked_convs'] = convs
    return small_detectors.build(cfg).bbox_head


def cross_head(head, start, classes, boxes):
    """Predictions from what enters a convolution of each branch: class scores, box maps, of ATSS centerness too."""
    known = known_head(head)
    return [known.scores(start, classes), *known.boxes(start, boxes)]


def retina_head(case, role, convs):
    """The case's small RetinaHead; a student's has no output layers of its own there."""
    from mmdet.models.dense_heads import RetinaHead

    anchors = dict(type='AnchorGenerator', ratios=[1.0], scales=[8], strides=[8])
    with DefaultScope.overwrite_default_scope('mmdet'):
        head = RetinaHead(2, 3, stacked_convs=convs, feat_channels=3, anchor_generator=anchors)
    start = f'{role}.'
    state = {key.removeprefix(start): value for key, value in case.inputs.items() if key.startswith(start)}
    missing, unexpected = head.load_state_dict(state, strict=False)
    assert not unexpected and (role == 'student' or not missing)
    return head.eval()


@pytest.mark.parametrize('form', ['', 'preactivation_'])
@torch.no_grad()
def test_the_reused_head_predicts_as_in_the_published_program(golden, form):
    case = golden('crosskd_reuse')
    start = case.params['reused_from']
    heads = {role: retina_head(case, role, convs) for role, convs in (('student', start), ('teacher', 2))}
    for name, found in zip(('scores', 'boxes'), heads['teacher']([case.inputs['teacher']]), strict=True):
        torch.testing.assert_close(found[0], case.expected[f'teacher_{name}'], **CLOSE)
    features = []
    for branch in BRANCHES:
        of_roles = (
            getattr(heads[role], f'{branch}_convs')[0](case.inputs[role], activate=not form)
            for role in ('student', 'teacher')
        )
        features.append([align_statistics(*of_roles).relu()])
    for name, found in zip(('scores', 'boxes'), cross_head(heads['teacher'], start, *features), strict=True):
        torch.testing.assert_close(found[0], case.expected[f'{form}cross_{name}'], **CLOSE)


@pytest.mark.parametrize('start', [0, 1, 2])
@pytest.mark.parametrize('family', FAMILIES)
def test_a_heads_own_features_lead_to_its_own_predictions(family, start):
    head = head_of(family)
    for index, scale in enumerate(getattr(head, 'scales', ())):
        torch.nn.init.constant_(scale.scale, 1 + index)
    features = [torch.randn(2, 32, size, size + 1) for size in (8, 4, 2, 2, 1)]
    inside = {branch: [] for branch in BRANCHES}
    for branch in BRANCHES if start else ():
        conv = getattr(head, f'{branch}_convs')[start - 1]
        conv.register_forward_hook(lambda _module, _inputs, output, b=branch: inside[b].append(output))
    stock = head(features)
    inside = inside if start else dict.fromkeys(BRANCHES, features)
    found = cross_head(head, start, *([level.clone() for level in inside[branch]] for branch in BRANCHES))
    assert len(found) == (3 if family == 'atss' else 2)
    channels = (head.cls_out_channels, 17 if family == 'gfl' else 4 * head.num_base_priors, 1)
    for mine, theirs, width in zip(found, stock, channels, strict=False):
        # the taps have the anchors of a position, and the sides of GFL's boxes, in the batch
        assert [level.shape[1] for level in mine] == [width] * 5
        assert all(torch.equal(a, b.reshape(a.shape)) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize('family', FAMILIES)
def test_a_frozen_head_gets_no_gradient_and_its_buffers_do_not_move(family):
    head = head_of(family).requires_grad_(False).eval()
    before = {key: value.clone() for key, value in head.state_dict().items()}
    features = [[torch.randn(1, 32, 4, 4, requires_grad=True) for _ in range(5)] for _ in BRANCHES]
    sum(level.square().sum() for part in cross_head(head, 1, *features) for level in part).backward()
    assert all(level.grad.any() for part in features for level in part)
    assert all(parameter.grad is None for parameter in head.parameters())
    assert all(torch.equal(value, before[key]) for key, value in head.state_dict().items())


def test_widths_are_those_of_every_convolution():
    cfg = small_detectors.detector('fcos')
    cfg['bbox_head'].update(in_channels=32, feat_channels=16, stacked_convs=2)
    known = known_head(small_detectors.build(cfg).bbox_head)
    assert known.family == 'FCOSHead' and known.widths == [(32, 32), (16, 16), (16, 16)]


@pytest.mark.parametrize('family', ['vfnet', 'rtmdet', 'paa'])
def test_heads_with_layers_of_their_own_are_not_known(family):
    head = small_detectors.build(small_detectors.detector(family)).bbox_head
    if family == 'paa':  # ATSS but for its loss, which makes it no source of CrossKD either
        from mmadm.adapters.dense_boxes import dense_head

        assert dense_head(head) is None
        return
    assert known_head(head) is None
