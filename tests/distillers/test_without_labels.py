"""Batches without a single label: every loss has a defined value, and none is NaN."""

from __future__ import annotations

from copy import deepcopy

import pytest
import small_detectors
import small_segmentors
import torch
from reached_weights import total

ROLES = ['student', 'teacher']
FEATURES, LOGITS = 'backbone.layer4', 'logits'


def transfer(kind: str, at: str, **options) -> dict:
    return dict(type='Transfer', source='teacher', learner='student', at=at, loss=dict(type=kind, **options))


#: methods that compare class scores at labelled pixels
OF_LOGITS = {
    'KD': transfer('KLDivergence', LOGITS),
    'DKD': transfer('DecoupledKL', LOGITS),
    'DIST': transfer('DIST', LOGITS),
    'CWD': transfer('ChannelWiseDivergence', LOGITS),
    'avatars': dict(transfer('KLDivergence', LOGITS), avatars=dict(num=2)),
    'mutual': dict(type='MutualLearning', roles=ROLES),
    'KDCL': dict(type='KDCL', roles=ROLES),
    'KDCL minlogit': dict(type='KDCL', roles=ROLES, ensemble='minlogit'),
    'SwitOKD': dict(type='SwitOKD'),
}
OF_FEATURES = {
    'AT': transfer('AttentionTransfer', FEATURES),
    'CWD': transfer('ChannelWiseDivergence', FEATURES),
    'hint': transfer('HintMSE', FEATURES),
    'MGD': transfer('MaskedGeneration', FEATURES),
    'PKD': transfer('PearsonDistance', FEATURES),
    'ADM': dict(type='ADM', at=FEATURES, divergence=0.5),
    'ADM observed': dict(type='ADM', at=FEATURES, foreground=[1]),
}


def unlabelled(batch: dict, images: int = 2) -> dict:
    """A batch of which the first images have no labelled pixel."""
    for sample in batch['data_samples'][:images]:
        sample.gt_sem_seg.data[:] = 255
    return batch


def losses_of(model, batch: dict) -> dict:
    torch.manual_seed(0)
    return model(**model.data_preprocessor(batch, True), mode='loss')


def ours(losses: dict) -> list[str]:
    """The losses of distillers."""
    found = [key for key in losses if key.split('.')[1].startswith('loss_')]
    assert found
    return found


def is_zero(model, loss) -> bool:
    """Whether a loss is 0 and all of its gradients are."""
    named = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, named, allow_unused=True, retain_graph=True)
    return loss.item() == 0 and all(g is None or not g.count_nonzero() for g in found)


@pytest.mark.parametrize('distiller', OF_LOGITS.values(), ids=OF_LOGITS)
def test_without_a_labelled_pixel_class_scores_teach_nothing(distiller):
    model = small_segmentors.distillation(distillers=[distiller])
    losses = losses_of(model, unlabelled(small_segmentors.batch()))
    assert ours(losses)
    for key, value in losses.items():
        assert torch.isfinite(value).all(), key
        assert 'loss' not in key or is_zero(model, value), key


@pytest.mark.parametrize('distiller', OF_FEATURES.values(), ids=OF_FEATURES)
def test_features_teach_without_labels_as_with_them(distiller):
    model = small_segmentors.distillation(distillers=[distiller])
    with_labels = losses_of(deepcopy(model), small_segmentors.batch())
    losses = losses_of(model, unlabelled(small_segmentors.batch()))
    for key, value in losses.items():
        assert torch.isfinite(value).all(), key
        if key in ours(losses):
            assert value > 0
            torch.testing.assert_close(value, with_labels[key], rtol=0, atol=0)
        else:
            assert 'loss' not in key or is_zero(model, value), key


@pytest.mark.parametrize('distiller', [OF_LOGITS[name] for name in ('KD', 'DKD', 'CWD', 'mutual', 'KDCL')])
def test_an_image_without_labels_beside_one_with_them_does_not_count(distiller):
    model = small_segmentors.distillation(distillers=[distiller]).eval()  # BatchNorm would mix the images
    batch = unlabelled(small_segmentors.batch(), images=1)
    both = losses_of(model, batch)
    alone = losses_of(model, {key: value[1:] for key, value in batch.items()})
    # CWD divides by the number of images
    factor = 2 if 'ChannelWise' in str(distiller) else 1
    for key in ours(both):
        torch.testing.assert_close(both[key] * factor, alone[key], rtol=1e-5, atol=1e-7)


def test_masked_tokens_need_no_labels(tmp_path):
    torch.save({'0': torch.randn(2, 64)}, tmp_path / 'tokens.pth')
    distiller = transfer('MaskedTokens', FEATURES, tokens=str(tmp_path / 'tokens.pth'))
    test_features_teach_without_labels_as_with_them(distiller)


def test_of_ffsd_what_needs_labels_is_zero():
    roles = {name: small_segmentors.segmentor() for name in ('first', 'second', 'leader')}
    distiller = dict(type='FFSD', students=['first', 'second'], shallow=['backbone.layer3'])
    model = small_segmentors.distillation(roles=roles, deploy='leader', distillers=[distiller])
    losses = losses_of(model, unlabelled(small_segmentors.batch()))
    of_features = {'second.loss_diversity', 'leader.loss_fusion', 'self_distillation.loss_leader'}
    assert of_features < set(losses)
    for key, value in losses.items():
        assert torch.isfinite(value).all(), key
        if 'loss' in key:
            expected = any(key.endswith(name) for name in ('diversity', 'loss_fusion')) or 'self_dist' in key
            assert (value > 0) == expected, key
            assert expected or is_zero(model, value), key


def test_of_sokd_every_loss_is_zero():
    roles = dict(
        student=small_segmentors.segmentor(4),
        teacher=small_segmentors.segmentor(8),
        bridge=dict(like='teacher', train=['backbone.layer4', 'decode_head']),
    )
    model = small_segmentors.distillation(roles=roles, frozen=['teacher'], distillers=[dict(type='SOKD')])
    losses = losses_of(model, unlabelled(small_segmentors.batch()))
    assert len(ours(losses)) == 3
    assert all(is_zero(model, value) for key, value in losses.items() if 'loss' in key)


# ---- detection ------------------------------------------------------------------------------------------------------

#: methods that have a form for a sigmoid of each class
SIGMOID = ('KD', 'CWD', 'avatars', 'mutual', 'KDCL', 'SwitOKD')
DETECTION = {
    **{f'{name} of scores': cfg for name, cfg in OF_LOGITS.items() if name in SIGMOID},
    'KD of boxes': transfer('mmdet.SmoothL1Loss', 'boxes'),
    **{f'{name} of features': {**cfg, 'at': 'feats'} for name, cfg in OF_FEATURES.items()},
    'ADM observed': dict(type='ADM', foreground=True),
}
ON_REGIONS = ('KD of scores', 'mutual of scores', 'KD of boxes')


@pytest.mark.parametrize(
    ('family', 'distiller'),
    [
        *(pytest.param('retinanet', cfg, id=f'retinanet, {name}') for name, cfg in DETECTION.items()),
        *(pytest.param('faster', DETECTION[name], id=f'faster, {name}') for name in ON_REGIONS),
    ],
)
def test_images_without_objects_have_finite_losses_and_gradients(family, distiller):
    model = small_detectors.distillation(family, distillers=[distiller])
    losses = losses_of(model, small_detectors.batch(objects=0))
    assert ours(losses)
    for key, value in losses.items():
        assert torch.isfinite(total(value)), key
    parameters = [p for p in model.parameters() if p.requires_grad]
    for key in ours(losses):
        gradients = torch.autograd.grad(losses[key], parameters, allow_unused=True, retain_graph=True)
        assert all(torch.isfinite(g).all() for g in gradients if g is not None), key
    # of an empty image there is its background to learn, and no box
    assert all(total(value) > 0 for key, value in losses.items() if 'loss_cls' in key)
    assert all(total(value) == 0 for key, value in losses.items() if key.endswith('.loss_bbox'))


#: Methods of detectors that look at objects: family, distiller, and the terms that are 0 without one
OF_OBJECTS = {
    'FGD': ('retinanet', dict(type='FGD'), {'fgd_foreground'}),
    'BCKD': ('gfl', dict(type='BCKD'), set()),
    'LD': ('gfl', dict(type='LD'), {'ld_positives', 'ld_region', 'ld_classification'}),
    'CrossKD, FCOS': ('fcos', dict(type='CrossKD', start=1), set()),
    'CrossKD, ATSS': ('atss', dict(type='CrossKD', start=1), {'crosskd_centerness'}),
    'CrossKD, GFL': ('gfl', dict(type='CrossKD', start=1), set()),
}


@pytest.mark.parametrize('name', OF_OBJECTS)
def test_without_objects_what_needs_them_is_zero_and_the_rest_is_finite(name):
    family, distiller, zero = OF_OBJECTS[name]
    model = small_detectors.distillation(family, frozen=['teacher'], distillers=[distiller])
    prefix = f'student.loss_{distiller["type"].lower()}_'
    losses = {key: value for key, value in losses_of(model, small_detectors.batch(objects=0)).items() if prefix in key}
    found = {key.removeprefix('student.loss_') for key, value in losses.items() if is_zero(model, value)}
    assert losses and found == zero
    learnt = [p for p in model.parameters() if p.requires_grad]
    for key, value in losses.items():
        assert 0 <= value < 1e3, key  # by one positive, not by none
        gradients = torch.autograd.grad(value, learnt, allow_unused=True, retain_graph=True)
        assert all(torch.isfinite(g).all() for g in gradients if g is not None), key
