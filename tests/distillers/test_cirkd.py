"""CIRKD: the published figures, what its memories hold, what does not count, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import small_detectors
import small_segmentors
import torch
import torch.nn.functional as F
from role_outputs import role_outputs
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmadm.distillers import CIRKD, cirkd
from mmadm.functional import cross_image_divergence, memory_divergence
from mmadm.structures import BatchArea, GroundTruth, RoleFacts, Step
from mmadm.utils.errors import ConfigError

#: Two images in a batch of 32 x 48 pixels: maps of stride 8 are 4 x 6, of which 3 x 5 and 2 x 4 positions count
AREA = BatchArea((32, 48), ((24, 40), (16, 32)))
SHARES = ((3, 5), (2, 4))
CLASSES = 3
#: Memories that fill up in a few steps, and of which a part is drawn
SMALL = dict(pixel_queue=50, region_queue=5, pixel_entries=30, region_entries=9)


def maps(channels, seed=0, noise=0.0):
    """One map of two images; noise is what stands in the padding."""
    values = torch.randn(2, channels, 4, 6, generator=torch.Generator().manual_seed(seed))
    for image, (rows, columns) in zip(values, SHARES, strict=True):
        image[:, rows:] += noise
        image[:, :, columns:] -= noise
    return values.requires_grad_()


def labels():
    """Classes of 8 x 8 pixels each: by turns, with an ignored column."""
    cells = ((torch.arange(4)[:, None] + torch.arange(6)) % CLASSES).repeat(2, 1, 1)
    cells[:, :, 2] = 255
    return cells.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)


def outputs_of(student, teacher, truth=None, area=AREA):
    taps = dict(student=dict(pre_logits=[student]), teacher=dict(pre_logits=[teacher]))
    return role_outputs(taps, GroundTruth(labels() if truth is None else truth), area)


def bound(distiller, outputs):
    """The step with the connectors that a distiller asks for."""
    torch.manual_seed(0)
    found = distiller.bind({role: RoleFacts(out, classes=CLASSES) for role, out in outputs.items()}, ['student'])
    return Step(connectors={key: module for key, (_, module) in found.items()})


def small(**options):
    return CIRKD(**{**SMALL, **options})


def test_the_terms_are_those_of_the_functions():
    """By a projection that changes nothing: what the golden figures say of the functions holds of the distiller."""
    student, teacher = maps(4).abs().detach().requires_grad_(), maps(4, seed=1)
    outputs = outputs_of(student, teacher, area=None)
    distiller = small(mini_batch=2.0, pixel=3.0, region=5.0, pixel_entries=60)
    step = bound(distiller, outputs)
    projection = step.connectors['pre_logits'].eval()
    for convolution in (projection.expand, projection.project):
        convolution.weight.data = torch.eye(4)[:, :, None, None]
    found = distiller(outputs, step).losses
    known = labels()[:, ::8, ::8] != 255
    torch.testing.assert_close(found['student.loss_cirkd_mini_batch'], 2 * cross_image_divergence(student, teacher))
    for name, weight in (('pixel', 3), ('region', 5)):
        # fewer vectors than are drawn: all of the memory counts
        queue = distiller.queues[name]
        assert 0 < queue.filled.max() <= distiller.entries[name] // CLASSES + 1
        held = torch.cat([queue.entries[k, : int(queue.filled[k])] for k in range(CLASSES)])
        expected = weight * memory_divergence(student, teacher, held, mask=known)
        torch.testing.assert_close(found[f'student.loss_cirkd_{name}'], expected, rtol=1e-4, atol=1e-6)


def test_memories_hold_pixels_of_their_own_class_alone():
    """The published program takes the first positions of the map whatever they show."""
    teacher = torch.zeros(2, 3, 4, 6)
    cells = labels()[:, ::8, ::8]
    for label in range(CLASSES):  # each class points along an axis of its own; the ignored ones along none
        teacher[:, label][cells == label] = 1 + torch.rand(int((cells == label).sum()))
    teacher[:, :, :, 2] = 9.0
    distiller, outputs = small(), outputs_of(maps(4), teacher, area=None)
    step = bound(distiller, outputs)
    distiller(outputs, step)
    for queue, count in zip(distiller.queues.values(), (16, 2), strict=True):
        for label in range(CLASSES):
            held = queue.entries[label, : int(queue.filled[label])]
            assert torch.equal(held, F.one_hot(torch.tensor(label), 3).float().expand_as(held))
            assert len(held) == min(count, 2 if count == 2 else int((cells == label).sum()))


def test_a_full_ring_goes_on_at_its_start():
    distiller, outputs = (
        small(pixel_queue=5, pixel_entries=15, region_queue=3, pixels_per_image=2),
        outputs_of(maps(4), maps(4, 1)),
    )
    step = bound(distiller, outputs)
    distiller(outputs, step)
    first = distiller.queues['region'].entries.clone()
    assert distiller.queues['region'].filled.tolist() == [2] * 3
    distiller(outputs, step)
    queues = distiller.queues
    assert queues['region'].pointer.tolist() == [1] * 3 and queues['region'].filled.tolist() == [3] * 3
    # the second image shows one pixel of class 2
    assert queues['pixel'].pointer.tolist() == [3, 3, 1] and queues['pixel'].filled.tolist() == [5] * 3
    # two images a batch: the second batch's second image has replaced the first's first
    assert torch.equal(queues['region'].entries[:, 1], first[:, 1])
    assert torch.equal(queues['region'].entries[:, 0], first[:, 1])


def test_noise_in_padding_and_at_ignored_pixels_counts_nowhere():
    def computed(noise, at_ignored):
        values = [maps(4, 0, noise), maps(5, 1, noise)]
        for value in values:
            value.data[:, :, :, 2] += at_ignored
        distiller, outputs = small(mini_batch=float(not at_ignored)), outputs_of(*values)
        found = distiller(outputs, bound(distiller, outputs)).losses
        gradient = torch.autograd.grad(sum(found.values()), values[0])[0]
        return {key: value.item() for key, value in found.items()}, distiller.queues.state_dict(), gradient

    clean, held, _ = computed(0.0, 0.0)
    noisy, same, gradient = computed(100.0, 0.0)
    assert noisy == pytest.approx(clean, rel=1e-4) and len(clean) == 3
    for image, (rows, columns) in zip(gradient, SHARES, strict=True):
        assert not image[:, rows:].any() and not image[:, :, columns:].any() and image[:, :rows, :columns].any()
    _, unlabelled, gradient = computed(0.0, 50.0)
    for key, value in held.items():
        torch.testing.assert_close(same[key], value)
        torch.testing.assert_close(unlabelled[key], value)


def test_the_ignored_id_may_be_that_of_a_class():
    outputs = outputs_of(maps(4), maps(5, 1))
    outputs = {role: replace(output, truth=GroundTruth(labels(), ignore_index=1)) for role, output in outputs.items()}
    distiller = small()
    distiller(outputs, bound(distiller, outputs))
    for queue in distiller.queues.values():
        assert [count > 0 for count in queue.filled.tolist()] == [True, False, True]


def test_without_a_labelled_pixel_memories_stay_empty_and_teach_nothing():
    student = maps(4)
    outputs = outputs_of(student, maps(4, 1), torch.full((2, 32, 48), 255))
    distiller = small()
    found = distiller(outputs, bound(distiller, outputs)).losses
    assert not any(int(queue.filled.sum()) for queue in distiller.queues.values())
    for name in ('pixel', 'region'):
        gradient = torch.autograd.grad(found[f'student.loss_cirkd_{name}'], student, retain_graph=True)[0]
        assert found[f'student.loss_cirkd_{name}'].item() == 0 and not gradient.any()
    assert found['student.loss_cirkd_mini_batch'].item() > 0


def test_pooled_pixels_by_hand():
    feature = torch.arange(12.0).reshape(1, 1, 3, 4)
    assert cirkd._pooled(feature, None, 2)[0].flatten().tolist() == [2.5, 4.5, 8.5, 10.5]
    mask = torch.zeros(1, 3, 4, dtype=torch.bool)
    mask[0, :1, :3] = True
    values, shown = cirkd._pooled(feature, mask, 2)
    assert values.flatten().tolist() == [0.5, 2.0, 0.0, 0.0] and shown.flatten().tolist() == [True, True, False, False]


def test_memories_are_in_the_checkpoint_and_in_no_role():
    model = small_segmentors.distillation(distillers=[dict(type='CIRKD', **SMALL)])
    model(**model.data_preprocessor(small_segmentors.batch(), True), mode='loss')
    state = model.state_dict()
    held = {f'distillers.cirkd.queues.{n}.{b}' for n in ('pixel', 'region') for b in ('entries', 'pointer', 'filled')}
    assert {key for key in state if 'queues' in key} == held
    assert state['distillers.cirkd.queues.pixel.entries'].shape == (small_segmentors.CLASSES, 50, 8)
    assert all(int(state[f'distillers.cirkd.queues.{n}.filled'].sum()) > 0 for n in ('pixel', 'region'))
    assert {key.split('.')[1] for key in state if key.startswith('connectors')} == {'cirkd'}


def test_too_large_memories_are_refused_with_a_size_that_fits(monkeypatch, logged):
    monkeypatch.setattr(cirkd, 'free_bytes', lambda: 2 * 4 * small_segmentors.CLASSES * 8 * 1100)
    options = dict(type='CIRKD', pixel_queue=2000, region_queue=200, region_entries=500)
    with pytest.raises(
        ConfigError, match=r'CIRKD.pixel_queue=2000: .* take 352000 bytes, .* 352000 bytes are free'
    ) as e:
        small_segmentors.distillation(distillers=[options])
    fits = dict(word.split('=') for word in str(e.value).rpartition('fits is ')[2].split(', '))
    assert fits == dict(pixel_queue='1000', region_queue='100')
    small_segmentors.distillation(distillers=[{**options, **{key: int(size) for key, size in fits.items()}}])
    assert 'CIRKD: pixel and region memories take 0.2 MiB' in logged.text
    monkeypatch.setattr(cirkd, 'free_bytes', lambda: None)
    small_segmentors.distillation(distillers=[options])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(at='logits'), r"CIRKD.at: tap 'logits' of 'student' gives class scores"),
        (dict(at='feats'), r'CIRKD.at: tap .* a feature map at 4 levels; it needs one'),
        (dict(at=['pre_logits', 'feats[3]']), r'CIRKD.at=.*one memory needs one tap'),
        (dict(source='student'), "CIRKD.source='student': must differ from learner"),
        (dict(tau=0), 'CIRKD.tau=0: a temperature must be above 0'),
        (dict(region_queue=0), 'CIRKD.region_queue=0: must be at least 1'),
        (dict(pixel_entries=0), 'CIRKD.pixel_entries=0: must be at least 1'),
        (dict(pixel_queue=20, pixel_entries=101), 'CIRKD.pixel_entries=101: .* 20 of each of 5 classes .* at most 100'),
        (dict(region_queue=4), r'CIRKD.region_entries=1024: .* 4 of each of 5 classes \(region_queue\), so at most 20'),
    ],
)
def test_what_cannot_work_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        small_segmentors.distillation(distillers=[dict(type='CIRKD', **options)])


def test_a_detector_has_no_labels_of_pixels_but_pixels():
    with pytest.raises(ConfigError, match=r"CIRKD.learner='student': its memories hold classes of pixels"):
        small_detectors.distillation('retinanet', distillers=[dict(type='CIRKD', at='feats[1]')])
    model = small_detectors.distillation('retinanet', distillers=[dict(type='CIRKD', at='feats[1]', pixel=0, region=0)])
    losses = model(**model.data_preprocessor(small_detectors.batch(), True), mode='loss')
    assert {key for key in losses if 'cirkd' in key} == {'student.loss_cirkd_mini_batch'}
    assert 'cirkd' not in model.connectors


@pytest.mark.parametrize(('norm', 'expected'), [('BN', nn.BatchNorm2d), ('SyncBN', nn.SyncBatchNorm)])
def test_the_projection_normalises_over_all_ranks_where_the_roles_do(norm, expected):
    roles = {name: small_segmentors.segmentor(4, norm=norm) for name in ('student', 'teacher')}
    cfgs = [dict(type='CIRKD', **SMALL), dict(type='ReviewKD', mid_channels=4)]
    model = small_segmentors.distillation(roles=roles, distillers=cfgs)
    for part in model.connectors.values():
        assert {type(m) for m in part.modules() if isinstance(m, _BatchNorm)} == {expected}


def test_off_is_off():
    weights = dict(mini_batch=0.0, pixel=0.0, region=0.0)
    model = small_segmentors.distillation(frozen=['teacher'], distillers=[dict(type='CIRKD', **weights)])
    losses = model(**model.data_preprocessor(small_segmentors.batch(), True), mode='loss')
    assert not any('cirkd' in key for key in losses) and not list(model.distillers.buffers())
