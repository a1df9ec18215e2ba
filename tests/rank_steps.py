"""One training step of every method, by one of two ranks or by one process with the batches of both.

Spawned processes have to import this. GroupNorm in the roles, BatchNorm of methods in eval, and no dropout, because the
statistics of a batch and each rank's own draws differ by definition; MGD masks nothing and avatars drop nothing for the
same reason. Every label map has equally many ignored positions, because the losses are means over the others.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import small_detectors
import small_segmentors
import torch
from mmengine.model import BaseModel, MMDistributedDataParallel
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmadm.registry import MODELS

Config = dict[str, Any]
Tensors = dict[str, Tensor]

WIDTHS = dict(student=4, teacher=8)
PAIR = list(WIDTHS)
MUTUAL = dict(type='MutualLearning', roles=PAIR)
ADM = dict(type='ADM', at='feats', divergence=0.5)
MEMORIES = dict(pixel_queue=50, region_queue=10, pixel_entries=250, region_entries=50)
AVATARS = dict(num=2, perturbation=dict(type='Dropout', p=0.0))


def edge(at: str, loss: str, weight: float = 1.0, avatars: dict | None = None, **options) -> Config:
    """A frozen teacher and one edge."""
    transfer = dict(type='Transfer', source='teacher', learner='student', at=at, loss=dict(type=loss, **options))
    return dict(frozen=['teacher'], distillers=[dict(transfer, weight=weight, avatars=avatars)])


def taught(kind: str, **options) -> Config:
    """A frozen teacher and a method of its own."""
    return dict(frozen=['teacher'], distillers=[dict(type=kind, **options)])


def together(*distillers: Config) -> Config:
    """Roles that all learn."""
    return dict(distillers=list(distillers))


def bridge(*train: str) -> Config:
    """SOKD."""
    return dict(bridge=dict(like='teacher', train=list(train)), **taught('SOKD'))


def peers(**options) -> Config:
    """FFSD."""
    return dict(peers=True, deploy='leader', distillers=[dict(type='FFSD', students=['one', 'two'], **options)])


#: Of segmentors
SEGMENTATION: dict[str, Config] = dict(
    kd=edge('logits', 'KLDivergence'),
    cwd=edge('backbone.layer4', 'ChannelWiseDivergence'),
    pkd=edge('backbone.layer4', 'PearsonDistance'),
    mgd=edge('backbone.layer4', 'MaskedGeneration', 1e-3, mask_ratio=0.0),
    dist=edge('logits', 'DIST'),
    dkd=edge('logits', 'DecoupledKL'),
    at=edge('backbone.layer4', 'AttentionTransfer', 100.0),
    fitnet=edge('backbone.layer4', 'HintMSE'),
    maskd=edge('backbone.layer4', 'MaskedTokens', tokens='tokens.pth'),
    akd=edge('backbone.layer4', 'ChannelWiseDivergence', avatars=AVATARS),
    akd_batchnorm=edge('backbone.layer4', 'ChannelWiseDivergence', avatars=dict(AVATARS, weighting='batchnorm')),
    tokens=dict(type='TokenTraining', at='backbone.layer4', tokens=3),
    # pairs of images are those of a rank
    cirkd=taught('CIRKD', at='backbone.layer1', mini_batch=0.0, pixel=1.0, region=1.0, **MEMORIES),
    reviewkd=taught('ReviewKD', mid_channels=8),
    dml=together(MUTUAL),
    kdcl=together(dict(type='KDCL', roles=PAIR)),
    kdcl_minlogit=together(dict(type='KDCL', roles=PAIR, ensemble='minlogit')),
    switokd=together(dict(type='SwitOKD')),
    adm=together(ADM),
    adm_dml=together(MUTUAL, dict(ADM, region='topk')),
    switokd_adm=together(dict(type='SwitOKD'), ADM),
    kdcl_adm=together(dict(type='KDCL', roles=PAIR), ADM),
    sokd=bridge('backbone.layer4', 'decode_head'),
    ffsd=peers(shallow=['backbone.layer3', 'backbone.layer2']),
)
#: Of GFL, whose own losses are divided by what all ranks have
DETECTION: dict[str, Config] = dict(
    kd=edge('logits', 'KLDivergence', tau=1.0),
    cwd=edge('feats', 'ChannelWiseDivergence'),
    mgd=edge('feats', 'MaskedGeneration', 1e-3, mask_ratio=0.0),
    fgd=taught('FGD'),
    reviewkd=taught('ReviewKD', mid_channels=8),
    bckd=taught('BCKD'),
    ld=taught('LD', by_positives=True, classification=0.0),
    dml=together(MUTUAL),
    kdcl=together(dict(type='KDCL', roles=PAIR)),
    switokd=together(dict(type='SwitOKD')),
    adm_dml=together(MUTUAL, ADM),
    sokd=bridge('neck', 'bbox_head'),
    ffsd=peers(at='feats'),
    ld_published=taught('LD'),
)
#: Without their own losses, in which case parts of a role learn nothing
ALONE = dict(task_loss=False, **edge('feats', 'HintMSE'))
METHODS = {
    **{f'segmentation, {name}': method for name, method in SEGMENTATION.items()},
    **{f'gfl, {name}': method for name, method in DETECTION.items()},
    'retinanet, kd': DETECTION['kd'],
    'gfl, crosskd': taught('CrossKD', start=1),
    'fcos, crosskd': taught('CrossKD', start=1),
    'segmentation, alone': ALONE,
    'gfl, alone': ALONE,
    'generic, fitnet': edge('backbone', 'HintMSE'),
    'generic, alone': dict(ALONE, **edge('backbone', 'HintMSE')),
}


def registered_methods() -> set[str]:
    """Names of all distillers and losses, and of the training of tokens."""
    MODELS.import_from_location()
    places = ('mmadm.distillers.', 'mmadm.losses.', 'mmadm.algorithms.tokens')
    return {name for name, kind in MODELS.module_dict.items() if kind.__module__.startswith(places)}


def types_of(found: Any) -> set[str]:
    """Every ``type`` in configs, without its scope."""
    if isinstance(found, dict):
        own = {str(found['type']).removeprefix('mmadm.')} if 'type' in found else set()
        return own.union(*(types_of(value) for value in found.values()))
    return set().union(*map(types_of, found)) if isinstance(found, (list, tuple)) else set()


class Regressor(BaseModel):
    """A network of the user's own, which knows nothing of the toolboxes."""

    def __init__(self, width: int, data_preprocessor: Config) -> None:
        super().__init__(data_preprocessor)
        self.backbone = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1))
        self.head = nn.Linear(width, 1)

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """Guess one number for each image."""
        found = self.head(self.backbone(inputs).mean(dim=(2, 3)))
        return dict(loss_square=(found - 1).square().mean()) if mode == 'loss' else found


def build(name: str, folder: Path) -> nn.Module:
    """The model of a method; ``tokens.pth`` of the folder holds receptive tokens."""
    family, _, _ = name.partition(',')
    cfg = {'type': 'Distillation', **METHODS[name]}
    if family == 'segmentation':
        kit, roles = (
            small_segmentors,
            {role: small_segmentors.segmentor(width, 0.0, norm='GN') for role, width in WIDTHS.items()},
        )
    elif family == 'generic':
        own = dict(type=Regressor, data_preprocessor=dict(type='ImgDataPreprocessor', mean=[120.0] * 3, std=[58.0] * 3))
        kit, roles = small_segmentors, {role: dict(own, width=width) for role, width in WIDTHS.items()}
    else:
        kit, roles = small_detectors, {role: small_detectors.detector(family, width) for role, width in WIDTHS.items()}
        for role in roles.values():
            role['backbone']['norm_cfg'] = dict(type='GN', num_groups=2)
    if not cfg.pop('task_loss', True):
        roles['student'] = dict(cfg=roles['student'], task_loss=False)
    if cfg.pop('peers', False):
        roles = dict.fromkeys(('one', 'two', 'leader'), roles['student'])
    if cfg['type'] == 'TokenTraining':
        del roles['student']
    if 'bridge' in cfg:
        roles['bridge'] = cfg.pop('bridge')
    with contextlib.chdir(folder):
        model = kit.build({**cfg, 'type': f'mmadm.{cfg["type"]}', 'roles': roles})
    for path, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            module.eval()
        if path.endswith('gfl_cls'):  # GFL divides the losses of boxes by the sum of scores, but by 1 at least
            nn.init.zeros_(module.bias)
    return model


def batches(name: str) -> list[Config]:
    """What each rank sees: of images with boxes three on each of two images, and none at all."""
    if name.startswith(('segmentation', 'generic')):
        return [small_segmentors.batch(2, seed=3), small_segmentors.batch(2, seed=4)]
    return [small_detectors.batch(2, seed=3, objects=3), small_detectors.batch(2, seed=4, objects=0)]


def joined(parts: list[Config]) -> Config:
    """One batch of all parts."""
    return {key: [value for part in parts for value in part[key]] for key in parts[0]}


def step(model: nn.Module, batch: Config, wrapped: nn.Module | None = None) -> dict[str, Tensors]:
    """Losses and gradients of one step."""
    model.zero_grad(set_to_none=True)
    data = model.data_preprocessor(batch, True)
    losses = (wrapped or model)(**data, mode='loss')
    total, log = model.parse_losses(losses)
    total.backward()
    gradients = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    return dict(losses={key: value.detach().clone() for key, value in log.items()}, gradients=gradients)


def run_rank(rank: int, folder: Path) -> None:
    """Be one of two processes; writes ``rank<rank>.pth``: the step of each method."""
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    found = {}
    for name in METHODS:
        model, batch = build(name, folder), batches(name)[rank]
        wrapped = MMDistributedDataParallel(model, find_unused_parameters=bool(getattr(model, 'may_pause', ())))
        found[name] = step(model, batch, wrapped)
    torch.save(found, folder / f'rank{rank}.pth')
    torch.distributed.destroy_process_group()
