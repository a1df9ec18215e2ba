"""``task_loss=False``: a role learns from the teacher alone, and an image needs no label for that."""

from __future__ import annotations

import re
from copy import deepcopy

import pytest
import small_detectors
import small_segmentors
import torch
from small_trainings import role_config, runner_of, write_images

from mmadm.algorithms.role_runner import wanted_taps
from mmadm.functional import kl_divergence
from mmadm.utils.errors import ConfigError

KD = dict(type='Transfer', source='teacher', learner='student', at='logits', loss=dict(type='KLDivergence'))
FEATURES = dict(KD, at='backbone.layer3', loss=dict(type='ChannelWiseDivergence'))


def taught(distillers=(KD,), student=None, toolbox=small_segmentors, **options):
    cfgs = (
        [small_segmentors.segmentor(4, dropout=0.0), small_segmentors.segmentor(8)]
        if toolbox is small_segmentors
        else []
    )
    cfgs = cfgs or [small_detectors.detector('retinanet', width) for width in (4, 8)]
    roles = dict(student=dict(cfg=student or cfgs[0], task_loss=False), teacher=cfgs[1])
    return toolbox.distillation(**{**dict(roles=roles, frozen=['teacher'], distillers=distillers), **options})


def losses_of(model, batch):
    return model(**model.data_preprocessor(deepcopy(batch), True), mode='loss')


def labelled_as(batch, label):
    """The same images with one class id everywhere."""
    for sample in batch['data_samples']:
        sample.gt_sem_seg.data[:] = label
    return batch


def test_the_distillation_is_that_of_a_role_with_its_task_loss():
    alone = taught()
    beside = small_segmentors.distillation(
        roles=dict(student=small_segmentors.segmentor(4, dropout=0.0), teacher=small_segmentors.segmentor(8)),
        frozen=['teacher'],
        distillers=[KD],
    )
    batch = small_segmentors.batch(ignored_rows=0)
    losses, expected = losses_of(alone, batch), losses_of(beside, batch)
    assert set(losses) == {'student.loss_transfer'}
    torch.testing.assert_close(losses['student.loss_transfer'], expected['student.loss_transfer'], rtol=0, atol=0)
    for found in (losses, expected):
        found['student.loss_transfer'].backward()
    theirs = dict(beside.named_parameters())
    for name, parameter in alone.named_parameters():
        if name.startswith('roles.student'):
            torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=0, atol=0)
    # statistics move as in any training step
    assert all(torch.equal(mine, other) for mine, other in zip(alone.buffers(), beside.buffers(), strict=True))


def test_labels_do_not_matter():
    model = taught()
    found = [losses_of(deepcopy(model), labelled_as(small_segmentors.batch(), label)) for label in (255, 0)]
    bare = small_segmentors.batch()
    for sample in bare['data_samples']:
        del sample.gt_sem_seg
    found.append(losses_of(model, bare))
    first, *others = (losses['student.loss_transfer'] for losses in found)
    assert first > 0
    assert all(torch.equal(first, other) for other in others)


def test_padding_still_does_not_count():
    model = taught()
    small = small_segmentors.batch(1, size=(16, 32))  # padded below to twice its height
    model.roles.teacher.requires_grad_(True)  # that it has no gradient is not for want of weights that learn
    data = model.data_preprocessor(deepcopy(small), True)
    outputs = model._runner.run(data['inputs'], data['data_samples'], wanted_taps(model.distillers.values()), 0)
    (tap,), (source,) = outputs['student'].taps, outputs['teacher'].taps
    mine, theirs = outputs['student'].taps[tap].levels[0], outputs['teacher'].taps[source].levels[0]
    assert mine.requires_grad and not theirs.requires_grad
    # two positions of stride 16 show the image, of four
    expected = kl_divergence(mine[:, :, :1], theirs[:, :, :1], tau=4.0)
    torch.testing.assert_close(losses_of(model, small)['student.loss_transfer'], expected, rtol=1e-5, atol=0)


@pytest.fixture
def said(logged):
    return lambda: [record.getMessage() for record in logged.records]


@pytest.mark.parametrize(
    ('distiller', 'parts'), [(KD, ['auxiliary_head']), (FEATURES, ['auxiliary_head', 'backbone', 'decode_head'])]
)
def test_what_no_distiller_reaches_stays_as_it_is(distiller, parts, said):
    model = taught([distiller], small_segmentors.segmentor(4, auxiliary=True))
    assert any(f'no distiller reaches all of {", ".join(parts)}; ' in text for text in said())
    before = {name: value.clone() for name, value in model.roles.student.named_parameters()}
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.5)
    losses_of(model, small_segmentors.batch())['student.loss_transfer'].backward()
    # DDP waits for whatever has a gradient to come
    assert all((p.grad is not None) == p.requires_grad for p in model.roles.student.parameters())
    optimiser.step()
    alone = ('auxiliary_head', 'decode_head', 'backbone.layer4') if distiller is FEATURES else ('auxiliary_head',)
    for name, value in model.roles.student.named_parameters():
        assert value.requires_grad != name.startswith(alone)
        assert value.requires_grad or torch.equal(value, before[name])


@pytest.mark.parametrize('at', ['logits', 'feats'])
def test_detectors_learn_without_objects_too(at):
    loss = dict(type='KLDivergence' if at == 'logits' else 'PearsonDistance')
    model = taught([dict(KD, at=at, loss=loss)], toolbox=small_detectors)
    batch = small_detectors.batch()
    with_objects = losses_of(deepcopy(model), batch)
    for sample in batch['data_samples']:
        del sample.gt_instances, sample.ignored_instances
    losses = losses_of(model, batch)
    assert set(losses) == {'student.loss_transfer'}
    assert losses['student.loss_transfer'] > 0
    assert torch.equal(losses['student.loss_transfer'], with_objects['student.loss_transfer'])


@pytest.mark.parametrize('labels', ['none', 'wrong'])
def test_images_with_no_or_with_other_labels_train_by_a_config(labels, tmp_path):
    data = write_images(tmp_path / 'data', wrong_label=9)
    cfg = role_config(data, iterations=2, val_interval=9, save_interval=9)
    pipeline = cfg.train_dataloader.dataset.pipeline
    if labels == 'none':
        pipeline[:] = [step for step in pipeline if step['type'] != 'LoadAnnotations']
    cfg.model.roles.student = dict(cfg=cfg.model.roles.student, task_loss=False)
    cfg.model.roles.teacher = cfg.model.roles.teacher.cfg
    cfg.model.frozen = ['teacher']
    cfg.optim_wrapper.pop('teacher')
    cfg.param_scheduler.pop('teacher')
    runner = runner_of(cfg, tmp_path / 'work')
    before = {name: value.clone() for name, value in runner.model.roles.student.named_parameters()}
    runner.train()
    assert runner.iter == 2
    assert all(not torch.equal(value, before[name]) for name, value in runner.model.roles.student.named_parameters())


REFUSED = [
    (dict(distillers=[]), 'student.task_loss=False: no distiller teaches this role until the end'),
    (dict(distillers=[dict(KD, weight=0.0)]), 'student.task_loss=False: no distiller teaches this role until'),
    (
        dict(distillers=[dict(KD, schedule=dict(stop=5))]),
        'student.task_loss=False: no distiller teaches this role until',
    ),
    (dict(distillers=[dict(KD, loss=dict(type='DecoupledKL'))]), 'DecoupledKL: needs the label of each position'),
]


@pytest.mark.parametrize(('options', 'message'), REFUSED)
def test_what_cannot_work_is_refused(options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        taught(**options)


def test_a_frozen_role_and_sampled_regions_are_refused():
    roles = dict(
        student=small_segmentors.segmentor(4), teacher=dict(cfg=small_segmentors.segmentor(8), task_loss=False)
    )
    with pytest.raises(ConfigError, match=r'^model\.roles\.teacher\.task_loss: a frozen role has no task loss'):
        small_segmentors.distillation(roles=roles, frozen=['teacher'], distillers=[KD])
    roles = dict(
        student=dict(cfg=small_detectors.detector('faster'), task_loss=False),
        teacher=small_detectors.detector('faster', 8),
    )
    with pytest.raises(ConfigError, match=r"student\.task_loss=False: what 'logits' scores are regions that the task"):
        small_detectors.distillation(roles=roles, frozen=['teacher'], distillers=[KD])
