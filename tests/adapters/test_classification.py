"""Classifiers of MMPretrain: what the taps give is what the stock loss is computed from; methods work on them."""

from __future__ import annotations

from copy import deepcopy
from itertools import product

import cv2
import extras
import numpy as np
import pytest
import small_classifiers
import small_segmentors
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import DATASETS
from small_trainings import runner_of
from tap_reader import TapReader

from mmadm.adapters.labels import check_labels
from mmadm.distillers.class_targets import class_targets
from mmadm.distillers.grids import grids_of
from mmadm.structures import Kind, Tap
from mmadm.utils.errors import ConfigError

extras.use('mmpretrain.models')
CLASSES = small_classifiers.CLASSES
BOTH = ['student', 'teacher']
KD = dict(type='Transfer', source='teacher', learner='student', loss=dict(type='KLDivergence', tau=2.0))
MULTI_LABEL = dict(type='MultiLabelLinearClsHead', loss=dict(type='CrossEntropyLoss', use_sigmoid=True))


def preprocessed(model, data=None):
    return model.data_preprocessor(deepcopy(data or small_classifiers.batch()), True)


def scores(model, data):
    """Logits of every role in training, by hand."""
    copied = deepcopy(model).train()
    for name in copied.frozen:
        copied.roles[name].eval()
    with torch.no_grad():
        return {name: role(data['inputs'][name]) for name, role in copied.roles.items()}


def test_logits_are_what_the_stock_loss_sees():
    model, seen = small_classifiers.build(small_classifiers.classifier()), []
    handle = model.head.loss_module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    data = preprocessed(model)
    output = TapReader('student', model).loss(model, **data, taps=['logits', 'feats'])
    handle.remove()
    (logits,), (feats,) = output.taps['logits'], output.taps['feats']
    assert torch.equal(logits, seen[0]) and logits.shape == (4, CLASSES)
    assert feats.shape == (4, 32, 2, 2) and output.kinds['logits'] is Kind.SOFTMAX_SCORES
    assert torch.equal(model.head(model.neck((feats,))), logits)
    labels = torch.cat([sample.gt_label for sample in data['data_samples']])
    torch.testing.assert_close(output.losses['loss'], F.cross_entropy(logits, labels))
    assert torch.equal(output.truth.image_labels, labels)


def test_kd_is_the_divergence_of_the_scores_and_reaches_the_student_alone():
    model = small_classifiers.distillation(distillers=[KD], frozen=['teacher'])
    data = preprocessed(model)
    by_hand = {name: F.log_softmax(z / 2.0, dim=1) for name, z in scores(model, data).items()}
    losses = model(**data, mode='loss')
    expected = 4.0 * (by_hand['teacher'].exp() * (by_hand['teacher'] - by_hand['student'])).sum(dim=1).mean()
    torch.testing.assert_close(losses['student.loss_transfer'], expected)
    losses['student.loss_transfer'].backward()
    assert model.roles.student.backbone.conv1.weight.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in model.roles.teacher.parameters())


@pytest.mark.parametrize('distiller', [
    dict(type='MutualLearning', roles=BOTH),
    dict(type='ADM', at='feats'),
    dict(type='SwitOKD'),
    dict(type='KDCL', roles=BOTH, ensemble='minlogit'),
    dict(KD, loss=dict(type='DIST')),
    dict(KD, loss=dict(type='DecoupledKL')),
], ids=lambda cfg: cfg.get('loss', cfg)['type'])  # fmt: skip
def test_methods_train_classifiers(distiller):
    model = small_classifiers.distillation(distillers=[distiller])
    before = deepcopy(model.state_dict())
    logs = model.train_step(small_classifiers.batch(), small_segmentors.plain_optimiser(model))
    own = [key for key, value in logs.items() if 'loss_' in key and value > 0]
    assert own and all(torch.isfinite(value) for value in logs.values())
    for role in BOTH:
        key = f'roles.{role}.head.fc.weight'
        # a pausing teacher stays as it is
        assert torch.equal(model.state_dict()[key], before[key]) == bool(logs.get(f'{role}.expert', 0))


def test_kdcl_takes_the_role_that_knows_each_image_best():
    model = small_classifiers.distillation(distillers=[dict(type='KDCL', roles=BOTH, tau=1.0)])
    data = preprocessed(model)
    labels = torch.cat([sample.gt_label for sample in data['data_samples']['student']])
    both = torch.stack([scores(model, data)[role] for role in BOTH])
    best = torch.stack([F.cross_entropy(z, labels, reduction='none') for z in both]).argmin(dim=0)
    chosen, mine = F.log_softmax(both[best, range(4)], dim=1), F.log_softmax(both[0], dim=1)
    losses = model(**data, mode='loss')
    torch.testing.assert_close(losses['student.loss_kdcl'], (chosen.exp() * (chosen - mine)).sum(dim=1).mean())


def test_ffsd_and_sokd_train_classifiers():
    roles = dict.fromkeys(('leader', 'peer0', 'peer1'), small_classifiers.classifier())
    ffsd = dict(type='FFSD', students=['peer0', 'peer1'], at='feats', shallow=['backbone.layer3'])
    model = small_classifiers.distillation(roles=roles, deploy='leader', distillers=[ffsd])
    logs = model.train_step(small_classifiers.batch(), small_segmentors.plain_optimiser(model))
    assert logs['fusion.loss'] > 0 and logs['leader.loss_fused'] > 0
    head = model.connectors['ffsd']['head'].head.fc.weight
    assert head.shape == (CLASSES, 32) and not torch.equal(head, model.roles.leader.head.fc.weight)
    roles = dict(
        student=small_classifiers.classifier(), teacher=small_classifiers.classifier(8),
        bridge=dict(like='teacher', train=['backbone.layer4', 'head']),
    )  # fmt: skip
    model = small_classifiers.distillation(roles=roles, frozen=['teacher'], distillers=[dict(type='SOKD')])
    logs = model.train_step(small_classifiers.batch(), small_segmentors.plain_optimiser(model))
    assert logs['bridge.loss_from_student'] > 0 and logs['student.loss_from_bridge'] > 0


def test_tokens_and_vectors_of_a_transformer():
    roles = dict(student=small_classifiers.vision_transformer(16), teacher=small_classifiers.vision_transformer(32))
    at = ['logits', 'feats', 'backbone.layers.1']
    distillers = [dict(KD, at=at[0]), dict(KD, at=at[1:], loss=dict(type='HintMSE'))]
    model = small_classifiers.distillation(roles=roles, frozen=['teacher'], distillers=distillers)
    logs = model.train_step(small_classifiers.batch(), small_segmentors.plain_optimiser(model))
    assert logs['student.loss_transfer'] > 0 and logs['student.loss_transfer_transfer_1'] > 0
    kinds = TapReader('student', model.roles.student.eval()).probe(model.roles.student, 64, at).kinds
    assert list(kinds.values()) == [Kind.SOFTMAX_SCORES, Kind.VECTORS, Kind.TOKENS]


def test_heads_of_several_labels_score_each_class_by_itself():
    model = small_classifiers.build(small_classifiers.classifier(**MULTI_LABEL))
    data = small_classifiers.batch()
    for sample in data['data_samples']:
        sample.set_gt_score(F.one_hot(sample.pop('gt_label')[0], CLASSES).float())
    output = TapReader('student', model).loss(model, **preprocessed(model, data), taps=['logits'])
    tap = Tap('student', 'logits')
    assert output.by_sigmoid
    targets = class_targets(output.output, grids_of(output.output, tap)[0], Kind.SIGMOID_SCORES)
    assert torch.equal(targets, torch.stack([sample.gt_score > 0.5 for sample in data['data_samples']]))


def test_mixed_images_are_the_same_for_all_roles_or_refused():
    mixing = dict(augments=[dict(type='Mixup', alpha=0.8)])
    mixed = [dict(small_classifiers.classifier(width), train_cfg=deepcopy(mixing)) for width in (4, 8)]
    model = small_classifiers.distillation(
        roles=dict(zip(BOTH, mixed, strict=True)), frozen=['teacher'], distillers=[KD]
    )
    data = preprocessed(model)
    assert torch.equal(data['inputs']['student'], data['inputs']['teacher'])
    logs = model.train_step(small_classifiers.batch(), small_segmentors.plain_optimiser(model))
    assert logs['student.loss_transfer'] > 0
    with pytest.raises(
        ConfigError, match=r'roles\.teacher: its data_preprocessor\.batch_augments .* see different mix'
    ):
        small_classifiers.distillation(roles=dict(student=mixed[0], teacher=small_classifiers.classifier(8)))


def test_a_head_that_scores_nothing_or_needs_labels_refuses_logits():
    arcface = small_classifiers.classifier(type='ArcFaceClsHead')
    with pytest.raises(ConfigError, match=r'ArcFaceClsHead puts out no class scores \(N, K\); tap `feats`'):
        small_classifiers.distillation(roles=dict(student=arcface, teacher=arcface), distillers=[KD])
    with pytest.raises(ConfigError, match='a classifier has no tap `boxes`'):
        small_classifiers.distillation(distillers=[dict(KD, at='boxes', loss=dict(type='HintMSE'))])
    with pytest.raises(ConfigError, match=r'ADM\.at: tap .logits. of .student. gives no maps'):
        small_classifiers.distillation(distillers=[dict(type='ADM', at='logits')])


# ---- whole trainings ------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Two iterations on files, with a validation of both roles: the work dir and what was logged."""
    folder, work_dir = tmp_path_factory.mktemp('data'), tmp_path_factory.mktemp('run')
    generator = np.random.default_rng(0)
    for split, label, number in product(('train', 'val'), range(CLASSES), range(2)):
        (folder / split / str(label)).mkdir(parents=True, exist_ok=True)
        image = generator.integers(0, 256, (*small_classifiers.SIZE, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / split / str(label) / f'{number}.png'), image)
    cfg = Config(dict(
        default_scope='mmpretrain',
        model=dict(
            type='mmadm.Distillation', distillers=[dict(KD, type='mmadm.Transfer', loss=dict(type='KLDivergence'))],
            roles=dict(student=small_classifiers.classifier(4), teacher=small_classifiers.classifier(8)),
        ),
        train_dataloader=loader(folder / 'train'), val_dataloader=loader(folder / 'val'),
        val_evaluator=dict(type='Accuracy', topk=1),
        optim_wrapper=dict(constructor='mmadm.RoleOptimWrapperConstructor', optimizer=dict(type='SGD', lr=0.1)),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2),
        val_cfg=dict(type='mmadm.RoleValLoop', role_val=True),
        default_hooks=dict(
            checkpoint=dict(type='mmadm.RoleCheckpointHook', by_epoch=False, interval=2),
            guard=dict(type='mmadm.NonFiniteGuardHook'),
        ),
        randomness=dict(seed=0),
    ))  # fmt: skip
    runner = runner_of(cfg, work_dir)
    runner.train()
    return work_dir, folder, runner.message_hub.log_scalars


def loader(folder):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    dataset = dict(type='CustomDataset', data_prefix=str(folder), pipeline=pipeline)
    return dict(
        batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dataset,
        collate_fn=dict(type='default_collate'),
    )  # fmt: skip


def test_a_training_logs_both_roles_and_leaves_a_stock_classifier(trained):
    work_dir, _, logged = trained
    assert {'train/student.loss_transfer', 'val/student/accuracy/top1', 'val/teacher/accuracy/top1'} <= set(logged)
    state = torch.load(work_dir / 'iter_2_student.pth', weights_only=False)['state_dict']
    model = small_classifiers.build(small_classifiers.classifier(4), seed=9)
    model.load_state_dict(state, strict=True)
    whole = torch.load(work_dir / 'iter_2.pth', weights_only=False)['state_dict']
    assert torch.equal(model.head.fc.weight, whole['roles.student.head.fc.weight'])


def test_a_label_that_is_no_class_stops_before_training(trained):
    _, folder, _ = trained
    dataset = DATASETS.build(dict(type='mmpretrain.CustomDataset', data_prefix=str(folder / 'train'), pipeline=[
        dict(type='mmpretrain.LoadImageFromFile'), dict(type='mmpretrain.PackInputs'),
    ]))  # fmt: skip
    check_labels(dict(student=small_classifiers.build(small_classifiers.classifier())), dataset)
    with pytest.raises(ConfigError, match=r'label ids \[3\] are outside 0\.\.2 \(head\.num_classes=3\)'):
        check_labels(dict(student=small_classifiers.build(small_classifiers.classifier(classes=3))), dataset)
