"""Law 1 over everything that is registered: a loss moves its learner and nothing else, whoever else could learn."""

from __future__ import annotations

import pytest
import small_detectors
import torch
from reached_weights import reached
from small_segmentors import batch, distillation, segmentor

from mmadm.distillers import Distiller
from mmadm.losses import DistillationLoss
from mmadm.registry import MODELS

DEEP = 'backbone.layer4'
#: Options of a Transfer for each registered loss; every source is trainable
TRANSFERS = {
    'AttentionTransfer': dict(at=DEEP),
    'ChannelWiseDivergence': dict(at=DEEP),
    'DIST': dict(at='logits'),
    'DecoupledKL': dict(at='logits'),
    'HintMSE': dict(at=DEEP),
    'KLDivergence': dict(at='logits'),
    'MaskedGeneration': dict(at=DEEP),
    'MaskedTokens': dict(at=DEEP),
    'PearsonDistance': dict(at=DEEP),
}
ROLES = ['student', 'teacher']
AVATARS = dict(num=2, perturbation=dict(type='Dropout', p=0.1))
PAIR = dict(student=segmentor(4), teacher=segmentor(8))
DISTILLERS = {
    'ADM': [dict(type='ADM', at=DEEP, consensus=1.0, divergence=1.0)],
    'ADM of three': [dict(type='ADM', student=ROLES, teacher='third', at=DEEP, consensus=1.0, divergence=1.0)],
    'ADM with avatars': [dict(type='ADM', at=DEEP, divergence=1.0, avatars=AVATARS)],
    'AKD': [dict(type='Transfer', source='teacher', learner='student', at=DEEP, avatars=AVATARS,
                 loss=dict(type='ChannelWiseDivergence'))],
    'CIRKD': [dict(type='CIRKD', pixel_queue=40, pixel_entries=60, region_queue=4, region_entries=20)],
    'KDCL': [dict(type='KDCL', roles=ROLES)],
    'KDCL minlogit': [dict(type='KDCL', roles=ROLES, ensemble='minlogit')],
    'MutualLearning': [dict(type='MutualLearning', roles=ROLES)],
    'SwitOKD': [dict(type='SwitOKD')],
    'SOKD': [dict(type='SOKD', teacher='third', bridge='teacher')],
    'FFSD': [dict(type='FFSD', students=['student', 'teacher'], leader='third', shallow=['backbone.layer3'],
                  diversity=1.0)],
    'stock loss': [dict(type='Transfer', source='teacher', learner='student', at='logits',
                        loss=dict(type='mmdet.SmoothL1Loss'))],
}  # fmt: skip
#: Methods of detectors, by name: the family of both roles and the distillers; every source but CrossKD's is trainable
DETECTORS = {
    'BCKD': ('gfl', [dict(type='BCKD')]),
    'BCKD of deltas': ('retinanet', [dict(type='BCKD')]),
    'CrossKD': ('atss', [dict(type='CrossKD', start=1)]),
    'CrossKD with connectors': ('fcos', [dict(type='CrossKD', start=1, connector=dict(type='Connector'))]),
    'LD': ('gfl', [dict(type='LD')]),
    'FGD': ('retinanet', [dict(type='FGD')]),
    'ReviewKD': ('retinanet', [dict(type='ReviewKD', mid_channels=8)]),
}
#: What an entry of `optim_wrapper` that is no role owns
OWN = {'fusion': ('ffsd.head', 'ffsd.fuse'), 'self_distillation': ('ffsd.chain',)}


#: What task losses of detectors are called
STOCK = ('.loss_cls', '.loss_bbox', '.loss_centerness', '.loss_dfl')


def registered(base):
    """Names of the registered classes below one, a user's own apart."""
    found = {n for n, kind in MODELS.module_dict.items() if issubclass(kind, base)}
    return {name for name in found if MODELS.module_dict[name].__module__.startswith('mmadm.')}


def test_every_registered_loss_and_distiller_is_looked_at():
    assert registered(DistillationLoss) == set(TRANSFERS)
    every = [*DISTILLERS.values(), *(parts for _, parts in DETECTORS.values())]
    kinds = {part['type'] for parts in every for part in parts} | {'Transfer'}
    assert registered(Distiller) == kinds


def check(model, data, least=1):
    """Every loss of a distiller moves its learner, its connectors, and nobody else."""
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    stock = {key for key in losses if '.decode.' in key or '.aux' in key or key.endswith(STOCK)}
    looked = 0
    for key in set(losses) - stock:
        learner, _, name = key.partition('.')
        if 'loss' not in name:
            assert not losses[key].requires_grad, key
            continue
        moved, looked = reached(model, losses[key]), looked + 1
        assert moved, f'{key} moves nothing'
        owned = model._connector_owner.items()
        own = [f'roles.{learner}.', *(f'connectors.{d}.{k}.' for (d, k), owner in owned if owner == learner)]
        strangers = sorted(part for part in moved if not part.startswith(tuple(own)))
        assert not strangers, f'{key} moves {strangers[:3]}'
    assert looked >= least


@pytest.mark.parametrize('loss', sorted(TRANSFERS))
def test_a_transfer_from_a_role_that_learns_moves_the_learner_alone(loss, tmp_path):
    options, cfg = TRANSFERS[loss], dict(type=loss)
    if loss == 'MaskedTokens':
        torch.save({'0': torch.randn(2, 64)}, tmp_path / 'tokens.pth')
        cfg['tokens'] = str(tmp_path / 'tokens.pth')
    check(distillation(roles=PAIR, distillers=[dict(type='Transfer', source='teacher', learner='student', loss=cfg,
                                                    **options)]), batch())  # fmt: skip


@pytest.mark.parametrize('name', sorted(DISTILLERS))
def test_each_loss_of_a_distiller_moves_its_learner_alone(name):
    roles, frozen = dict(PAIR), []
    if name == 'FFSD':
        roles = dict(student=segmentor(4), teacher=segmentor(4), third=segmentor(4))
    elif 'three' in name or name == 'SOKD':
        roles['third'] = segmentor(8)
        frozen = ['third'] if name == 'SOKD' else []
    check(distillation(roles=roles, frozen=frozen, distillers=DISTILLERS[name]), batch())


@pytest.mark.parametrize('name', sorted(DETECTORS))
def test_each_loss_of_a_distiller_of_detectors_moves_its_learner_alone(name):
    family, distillers = DETECTORS[name]
    frozen = ['teacher'] if 'CrossKD' in name else []
    check(small_detectors.distillation(family, frozen=frozen, distillers=distillers), small_detectors.batch())
