"""Networks that predict a set of masks with a class each are compared by what all queries say of each pixel."""

from __future__ import annotations

from copy import deepcopy

import pytest
import small_detectors
import small_segmentors
import torch
from mmengine.structures import PixelData
from tap_reader import TapReader

from mmadm.adapters import MaskQueryAdapter, build_adapter
from mmadm.functional import binary_kl_divergence, kl_divergence
from mmadm.structures import Kind
from mmadm.utils.config import role_model_cfg, without_pretrained
from mmadm.utils.errors import ConfigError

THINGS, STUFF, QUERIES = small_detectors.CLASSES, 2, 6
KD = dict(type='Transfer', source='teacher', learner='student', loss=dict(type='KLDivergence', tau=1.0))
STOCK = dict(
    panoptic='mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py',
    instance='mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
    maskformer='mmdet::maskformer/maskformer_r50_ms-16xb1-75e_coco.py',
    semantic='mmseg::mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py',
)


def network(family, width=4):
    """A stock config with a narrow ResNet-18, 16 channels and one layer of each kind in its head."""
    cfg = without_pretrained(role_model_cfg(dict(cfg=STOCK[family])))
    cfg['backbone'].update(depth=18, base_channels=width, stem_channels=width, norm_cfg=dict(type='BN'))
    cfg['data_preprocessor'].pop('batch_augments', None)
    head = cfg['decode_head' if family == 'semantic' else 'panoptic_head']
    head.update(
        in_channels=[width * 2**level for level in range(4)], feat_channels=16, out_channels=16, num_queries=QUERIES
    )
    if family == 'semantic':
        cfg['data_preprocessor']['size'] = small_segmentors.SIZE
        head['num_classes'] = classes = small_segmentors.CLASSES
    else:
        stuff = 0 if family == 'instance' else STUFF
        classes = THINGS + stuff
        for part in (head, cfg['panoptic_fusion_head']):
            part.update(num_things_classes=THINGS, num_stuff_classes=stuff)
    for points in (cfg.get('train_cfg'), head.get('train_cfg')):
        if points and 'num_points' in points:
            points['num_points'] = 64
    head['loss_cls']['class_weight'] = [1.0] * classes + [0.1]
    pixels, decoder = head['pixel_decoder'], head['transformer_decoder']
    pixels['norm_cfg'] = dict(type='GN', num_groups=4)
    for part in (pixels['encoder'], decoder):
        part['num_layers'] = 1
        for name, layer in part['layer_cfg'].items():
            if name.endswith('attn_cfg'):
                layer.update(embed_dims=16, num_heads=2)
        part['layer_cfg']['ffn_cfg'].update(embed_dims=16, feedforward_channels=16)
    for part in (pixels, head):
        part['positional_encoding'].update(num_feats=8)
    return cfg


def batch(family):
    if family == 'semantic':
        return small_segmentors.batch(2)
    data = small_detectors.batch(2, masks=True, size=(64, 96))
    for sample in data['data_samples'] if family != 'instance' else ():
        labels = torch.full((1, *sample.img_shape), THINGS)  # stuff, and a strip of another and of none
        labels[:, :9], labels[:, 9:12] = THINGS + 1, 255
        sample.gt_sem_seg = PixelData(sem_seg=labels)
    return data


def pair(family, *distillers, **kwargs):
    helpers = small_segmentors if family == 'semantic' else small_detectors
    roles = dict(student=network(family), teacher=network(family, 8))
    return helpers.distillation(roles=roles, distillers=list(distillers), **kwargs)


@pytest.fixture(scope='module', params=STOCK)
def family(request):
    return request.param


@pytest.fixture(scope='module')
def model(family):
    return pair(family, KD, frozen=['teacher'])


def expected_maps(output):
    """Class maps of the last decoder layer, from what the stock head itself returned."""
    classes, masks = output[0][-1], output[1][-1]
    weights = classes.softmax(dim=2)[:, :, :-1]
    return sum(weights[:, query, :, None, None] * masks[:, query, None].sigmoid() for query in range(QUERIES))


def test_learner_and_frozen_teacher_are_compared_by_what_they_say_of_each_pixel(model, family):
    seen = {}
    hooks = [
        (role.decode_head if family == 'semantic' else role.panoptic_head).register_forward_hook(
            lambda _, __, output, name=name: seen.update({name: output})
        )
        for name, role in model.roles.items()
    ]
    data = model.data_preprocessor(deepcopy(batch(family)), True)
    model.zero_grad()
    losses = model(**data, mode='loss')
    for hook in hooks:
        hook.remove()
    assert set(seen) == {'student', 'teacher'}
    mine, theirs = (expected_maps(seen[name]) for name in ('student', 'teacher'))
    labels = {
        'semantic': lambda: torch.stack([s.gt_sem_seg.data[0] for s in data['data_samples']['student']]),
        'instance': lambda: None,
    }.get(family, lambda: torch.stack([s.gt_sem_seg.sem_seg[0] for s in data['data_samples']['student']]))()
    if family == 'instance':
        shown = torch.zeros(mine.shape[0], *mine.shape[2:], dtype=torch.bool)
        for mask, sample in zip(shown, data['data_samples']['student'], strict=True):
            mask[: -(-sample.img_shape[0] // 4), : -(-sample.img_shape[1] // 4)] = True
        wanted = binary_kl_divergence(mine.logit(eps=1e-6), theirs.logit(eps=1e-6), 1.0, shown)
    else:  # of a panoptic or semantic network one class is true at each pixel, and some pixels have none
        size = mine.shape[2:]
        at = torch.nn.functional.interpolate(labels[:, None].float(), size=size, mode='nearest')[:, 0]
        assert (at == 255).any() and (at != 255).any()
        wanted = kl_divergence(mine.log(), theirs.log(), 1.0, at != 255)
    assert wanted > 0
    torch.testing.assert_close(losses['student.loss_transfer'], wanted)
    losses['student.loss_transfer'].backward()
    head = model.roles.student.decode_head if family == 'semantic' else model.roles.student.panoptic_head
    for part in (head.cls_embed, head.mask_embed, head.pixel_decoder):
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in part.parameters())
    assert all(parameter.grad is None for parameter in model.roles.teacher.parameters())


def test_the_softmax_of_the_logits_is_the_distribution_that_stock_mmseg_takes_the_best_of():
    model = pair('semantic', KD)
    role = model.roles.student.eval()
    data = model.data_preprocessor(batch('semantic'), True)
    inputs, samples = data['inputs']['student'], data['data_samples']['student']
    with torch.no_grad():
        found = TapReader('student', role).features(role, inputs, ['logits'], samples)
        metas = [dict(sample.metainfo, pad_shape=found.taps['logits'][0].shape[2:]) for sample in samples]
        stock = role.decode_head.predict(role.extract_feat(inputs), metas, role.test_cfg)
    torch.testing.assert_close(found.taps['logits'][0].softmax(1), stock / stock.sum(dim=1, keepdim=True))


def test_an_adapter_of_mmdet_knows_things_stuff_and_what_has_no_class():
    model = pair('panoptic', KD)
    adapter = build_adapter('student', model.roles.student)
    assert isinstance(adapter, MaskQueryAdapter)
    samples = model.data_preprocessor(batch('panoptic'), True)['data_samples']['student']
    truth = adapter.truth(model.roles.student, samples)
    assert truth.labels.shape == (2, 64, 96) and set(truth.labels.unique().tolist()) == {THINGS, THINGS + 1, 255}
    assert truth.ignore_index == 255 and [len(boxes) for boxes in truth.boxes] == [3, 3]
    instances = pair('instance', KD)
    adapter = build_adapter('student', instances.roles.student)
    assert adapter.truth(None, samples).labels is None  # its classes are things alone
    kinds = TapReader('student', instances.roles.student).probe(instances.roles.student, 128, ['logits']).kinds
    assert kinds['logits'] is Kind.SIGMOID_SCORES


def test_a_semantic_network_of_pixels_learns_from_one_of_masks():
    roles = dict(student=small_segmentors.segmentor(), teacher=network('semantic'))
    model = small_segmentors.distillation(roles=roles, distillers=[KD], frozen=['teacher'])
    logs = model.train_step(small_segmentors.batch(2), small_segmentors.plain_optimiser(model))
    assert logs['student.loss_transfer'] > 0 and torch.isfinite(logs['loss'])


@pytest.mark.parametrize(('tap', 'why'), [('boxes', 'queries of two decoders'), ('masks', 'queries of two decoders')])
def test_queries_are_refused(tap, why):
    with pytest.raises(ConfigError, match=f'has no tap `{tap}`: the {why} do not correspond. Tap `logits`'):
        pair('panoptic', dict(KD, at=tap))


def test_modules_inside_the_head_can_be_tapped():
    model = pair('maskformer', dict(KD, at='panoptic_head.pixel_decoder[0]', loss=dict(type='HintMSE')))
    losses = model(**model.data_preprocessor(batch('maskformer'), True), mode='loss')
    assert losses['student.loss_transfer'] > 0
