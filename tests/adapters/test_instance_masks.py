"""Instance masks: both roles give masks of the regions that the learner's sampler made positive, of their classes."""

from __future__ import annotations

import pytest
import torch
from mmdet.structures.bbox import bbox2roi
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from small_detectors import CLASSES, WITH_MASKS, batch, batch_for, build, detector, distillation
from tap_reader import TapReader

from mmadm.functional import binary_kl_divergence
from mmadm.structures import Kind
from mmadm.utils.errors import ConfigError

KD = dict(type='Transfer', source='teacher', learner='student', at='masks', loss=dict(type='KLDivergence'))


@pytest.fixture(scope='module', params=WITH_MASKS)
def family(request) -> str:
    return request.param


@pytest.fixture(scope='module')
def model(family):
    return build(ConfigDict(detector(family)))


def last(heads):
    return heads[-1] if isinstance(heads, torch.nn.ModuleList) else heads


def masks_of(roi_head, levels, regions):
    """What a head predicts for regions of known classes, by stock parts; for a cascade the mean of its stages."""
    rois, rows = regions[:, :5].contiguous(), torch.arange(len(regions))
    semantic = roi_head.semantic_head(levels)[1] if hasattr(roi_head, 'semantic_head') else None
    if hasattr(roi_head, 'feat_relay_head'):  # SCNet
        context = dict(semantic_feat=semantic, glbctx_feat=roi_head.glbctx_head(levels)[1])
        relayed = roi_head.feat_relay_head(roi_head._bbox_forward(2, levels, rois, **context)['relayed_feat'])
        stages = [roi_head._mask_forward(levels, rois, **context, relayed_feat=relayed)['mask_preds']]
    elif semantic is not None:  # HTC: the last stage, which goes on from the others, predicts alone
        features, last = roi_head.mask_roi_extractor[-1](levels[:4], rois), None
        features = features + roi_head.semantic_roi_extractor([semantic], rois)
        for stage in roi_head.mask_head:
            masks, last = stage(features, last)
        stages = [masks]
    elif isinstance(roi_head.mask_head, torch.nn.ModuleList):
        stages = [roi_head._mask_forward(stage, levels, rois)['mask_preds'] for stage in range(roi_head.num_stages)]
    else:
        stages = [roi_head._mask_forward(levels, rois)['mask_preds']]
    if (len(stages) == 1 and semantic is None) or hasattr(roi_head, 'feat_relay_head'):
        return stages[0][rows, regions[:, 5].long()].unsqueeze(1)
    probability = sum(masks[rows, regions[:, 5].long()].sigmoid() for masks in stages) / len(stages)
    return (probability / (1 - probability)).log().unsqueeze(1)


def test_the_learner_taps_what_its_own_mask_loss_sees(model, family, monkeypatch):
    seen, sampled = [], []
    hook = last(model.roi_head.mask_head).loss_mask.register_forward_pre_hook(lambda _, args: seen.append(args))
    samplers = model.roi_head.bbox_sampler
    sampler = samplers[-1] if isinstance(samplers, list) else samplers
    sample = sampler.sample

    def noted(*args, **kwargs):
        sampled.append(sample(*args, **kwargs))
        return sampled[-1]

    monkeypatch.setattr(sampler, 'sample', noted)
    data = model.data_preprocessor(batch_for(family), True)
    output = TapReader('student', model).loss(model.train(), **data, taps=['masks', 'feats'])
    hook.remove()
    ((predicted, _, classes),), (masks,) = seen[-1:], output.taps['masks']
    rois = bbox2roi([result.pos_priors for result in sampled[-2:]])  # HTC samples twice in a stage
    assert len(set(classes.tolist())) > 1 and predicted.shape[1] == CLASSES
    assert torch.equal(masks[:, 0], torch.stack([mask[label] for mask, label in zip(predicted, classes, strict=True)]))
    assert torch.equal(output.mask_rois, torch.cat([rois, classes[:, None].float()], dim=1))
    # it lies in its region: nothing of it is padding of the batch
    assert output.kinds['masks'] is Kind.SIGMOID_SCORES and output.strides['masks'] == (None,)


def test_a_teacher_gives_masks_of_given_regions_from_its_own_neck(model, family):
    regions = torch.tensor([[0, 0, 0, 40, 50, 2], [0, 20, 10, 90, 90, 0], [1, 5, 5, 60, 60, 1]]).float()
    data = model.data_preprocessor(batch_for(family), True)
    with torch.no_grad():
        found = TapReader('teacher', model).features(model.eval(), data['inputs'], ['masks'], data['data_samples'])
        expected = masks_of(model.roi_head, model.extract_feat(data['inputs']), regions)
    torch.testing.assert_close(found.on_rois(regions, 'masks'), expected)
    side = 14 if family == 'mask_c4' else 28
    assert expected.shape == (3, 1, side, side) and expected.std(dim=0).min() > 0
    assert found.on_rois(regions[:0], 'masks').shape == (0, 1, side, side)
    assert not found.on_rois(regions, 'masks').requires_grad


def test_the_loss_is_that_of_the_positive_regions_and_moves_the_learner_alone():
    roles = dict(student=detector('mask'), teacher=detector('cascade_mask', 8))
    model = distillation(roles=roles, distillers=[dict(KD, weight=2.0)])
    data = model.data_preprocessor(batch(masks=True), True)
    seen = {}
    student, teacher = model.roles.student, model.roles.teacher
    hooks = [
        student.roi_head.mask_roi_extractor.register_forward_pre_hook(lambda _, args: seen.update(rois=args[1])),
        student.roi_head.mask_head.loss_mask.register_forward_pre_hook(lambda _, args: seen.update(loss=args)),
        teacher.neck.register_forward_hook(lambda *args: seen.update(levels=args[2])),
    ]
    losses = model(**data, mode='loss')
    for hook in hooks:
        hook.remove()
    predicted, _, classes = seen['loss']
    regions = torch.cat([seen['rois'], classes[:, None].float()], dim=1)
    mine = predicted[torch.arange(len(classes)), classes].unsqueeze(1)
    with torch.no_grad():
        theirs = masks_of(teacher.roi_head, seen['levels'], regions)
    expected = 2.0 * binary_kl_divergence(mine, theirs)
    assert expected > 0
    torch.testing.assert_close(losses['student.loss_transfer'], expected)
    losses['student.loss_transfer'].backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    moved = {name.split('.')[0] for name, p in student.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {'backbone', 'neck', 'roi_head'}
    assert not [
        name for name, p in student.roi_head.bbox_head.named_parameters() if p.grad is not None and p.grad.any()
    ]


@pytest.mark.parametrize('family', ['mask', 'mask_c4', 'scnet'])
def test_images_without_objects_teach_nothing(family):
    model = distillation(roles=dict(student=detector(family), teacher=detector(family, 8)), distillers=[KD])
    losses = model(**model.data_preprocessor(batch_for(family, objects=0), True), mode='loss')
    assert losses['student.loss_transfer'] == 0
    sum(value for key, value in model.parse_losses(losses)[1].items() if key == 'loss').backward()


def test_a_head_on_one_level_learns_from_one_on_a_pyramid():
    roles = dict(student=detector('mask_c4'), teacher=detector('htc'))
    model = distillation(roles=roles, distillers=[KD], frozen=['teacher'])
    assert model(**model.data_preprocessor(batch_for('htc'), True), mode='loss')['student.loss_transfer'] > 0


@pytest.mark.parametrize(
    ('roles', 'message'),
    [
        (dict(student=detector('mask'), teacher=detector('mask', classes=5)), 'predicts 3 classes and .* 5'),
        (dict(student=detector('faster'), teacher=detector('mask')), 'StandardRoIHead has no tap `masks`: only Mask'),
        (dict(student=detector('retinanet'), teacher=detector('mask')), 'RetinaHead has no tap `masks`'),
    ],
)
def test_what_cannot_be_compared_is_refused(roles, message):
    with pytest.raises(ConfigError, match=message):
        distillation(roles=roles, distillers=[KD])


def test_htc_scores_given_regions_with_what_its_semantic_head_adds():
    """Stock HTC fuses a semantic map with the features of each region; scores without it are those of no network."""
    model = build(ConfigDict(detector('htc')))
    rois = torch.tensor([[0, 0, 0, 40, 50], [0, 20, 10, 90, 90], [1, 5, 5, 60, 60]]).float()
    data = model.data_preprocessor(batch(), True)
    head = model.roi_head
    with torch.no_grad():
        found = TapReader('teacher', model).features(model.eval(), data['inputs'], ['boxes'], data['data_samples'])
        levels = model.extract_feat(data['inputs'])
        fused = head._bbox_forward(2, levels, rois, semantic_feat=head.semantic_head(levels)[1])['bbox_pred']
    torch.testing.assert_close(found.on_rois(rois, 'boxes'), fused)
    metas = [sample.metainfo for sample in data['data_samples']]
    with torch.no_grad():
        semantic = head.semantic_head(levels)[1]
        nothing = torch.zeros_like(semantic)
        assert not torch.allclose(fused, head._bbox_forward(2, levels, rois, semantic_feat=nothing)['bbox_pred'])
        refined = torch.cat(head._refine_roi(levels, rois, metas, [2, 1], semantic_feat=semantic)[1])
    torch.testing.assert_close(found.on_rois(rois, 'logits'), refined)


def test_a_panoptic_network_teaches_boxes_masks_and_its_map_of_stuff():
    edges = [dict(KD, at=at) for at in ('logits', 'masks', 'semantic_head.conv_logits')]
    roles = dict(student=detector('panoptic_fpn'), teacher=detector('panoptic_fpn', 8))
    model = distillation(roles=roles, distillers=edges)
    data = batch(masks=True)
    for sample in data['data_samples']:
        sample.gt_sem_seg = PixelData(sem_seg=torch.zeros(1, *sample.img_shape, dtype=torch.long))
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    taught = [value for key, value in losses.items() if 'loss_transfer' in key]
    assert len(taught) == 3 and all(value > 0 for value in taught)
