"""Every method on a small pair, for segmentation and for detection."""

from __future__ import annotations

from typing import Any

from mmadm.bench.gpu_check.detectors import DETRS, detector
from mmadm.bench.gpu_check.networks import Config, segmentor

EDGE = dict(type='mmadm.Transfer', source='teacher', learner='student')
MUTUAL = dict(type='mmadm.MutualLearning', roles=['student', 'teacher'], at='logits')
AVATARS = dict(num=4, perturbation=dict(type='Dropout', p=0.1))
#: Losses of one edge: tap of segmentors, tap of detectors, loss, weight
LOSSES: dict[str, tuple[str, str, Config, float]] = dict(
    kd=('logits', 'logits', dict(type='KLDivergence', tau=1.0), 1.0),
    dkd=('logits', '', dict(type='DecoupledKL', tau=4.0), 1.0),
    cwd=('logits', 'feats', dict(type='ChannelWiseDivergence', tau=1.0), 5.0),
    dist=('logits', 'logits', dict(type='DIST', tau=1.0), 1.0),
    pkd=('', 'feats', dict(type='PearsonDistance'), 1.0),
    mgd=('backbone.layer4', 'feats', dict(type='MaskedGeneration', mask_ratio=0.65), 2e-5),
    at=('pre_logits', 'feats', dict(type='AttentionTransfer'), 1.0),
    fitnet=('backbone.layer3', 'feats', dict(type='HintMSE'), 1.0),
)
#: Methods with a frozen teacher that only detectors have: family of the detectors, distiller
OF_DETECTORS: dict[str, tuple[str, Config]] = dict(
    fgd=('retinanet', dict(type='mmadm.FGD', at='feats')),
    bckd=('gfl', dict(type='mmadm.BCKD')),
    ld=('gfl', dict(type='mmadm.LD')),
    crosskd=('gfl', dict(type='mmadm.CrossKD', start=1)),
)
FFSD_PARTS = ('first', 'second', 'leader')


def method(name: str, detection: bool = False, norm: str = 'BN', dropout: float = 0.1) -> Config | None:
    """Config of an ``mmadm.Distillation``.

    Args:
        name: One of :data:`METHODS`.
        detection: Whether the roles are detectors instead of segmentors, RetinaNets for most methods.
        norm: Normalisation of segmentors.
        dropout: Of segmentors.

    Returns:
        The config; None if the method is not for this task.
    """
    if name in OF_DETECTORS:
        kind, distiller = OF_DETECTORS[name]
        roles = dict(student=detector(kind, 4), teacher=detector(kind, 8))
        return dict(type='mmadm.Distillation', roles=roles, **frozen(distiller)) if detection else None
    student = detector(width=4) if detection else segmentor(4, norm, dropout)
    teacher = detector(width=8) if detection else segmentor(8, norm, dropout)
    model: Config = dict(type='mmadm.Distillation', roles=dict(student=student, teacher=teacher))
    if name in LOSSES or name == 'akd':
        on_segmentors, on_detectors, loss, weight = LOSSES['cwd' if name == 'akd' else name]
        tap = on_detectors if detection else on_segmentors
        avatars = dict(avatars=AVATARS) if name == 'akd' else {}
        return {**model, **frozen(dict(EDGE, at=tap, loss=loss, weight=weight, **avatars))} if tap else None
    if name == 'cirkd' and detection:
        return None
    return {**model, **_together(name, detection, **model['roles'])}


def frozen(distiller: Config) -> Config:
    """Entries of a model whose teacher only teaches."""
    return dict(frozen=['teacher'], distillers=[distiller])


def _together(name: str, detection: bool, student: Config, teacher: Config) -> Config:
    """What differs in the config of an online method."""
    place = 'feats' if detection else 'backbone.layer4'
    switching = dict(type='mmadm.SwitOKD', student='student', teacher='teacher', at='logits')
    adm = dict(type='mmadm.ADM', student='student', teacher='teacher', at=place, divergence=0.1)
    kdcl = dict(type='mmadm.KDCL', roles=['student', 'teacher'], at='logits')
    cirkd = dict(type='mmadm.CIRKD', pixel_queue=200, region_queue=20, pixel_entries=256, region_entries=32)
    review = dict(type='mmadm.ReviewKD', at='feats', mid_channels=32)
    ffsd: dict[str, Any] = dict(type='mmadm.FFSD', students=['first', 'second'], leader='leader', warmup=0)
    ffsd |= dict(at='feats') if detection else dict(at='pre_logits', shallow=['backbone.layer3', 'backbone.layer2'])
    bridge = dict(like='teacher', train=['neck', 'bbox_head'] if detection else ['backbone.layer4', 'decode_head'])
    sokd = dict(type='mmadm.SOKD', student='student', teacher='teacher', bridge='bridge', at='logits')
    return {
        'plain': lambda: dict(roles=dict(student=student)),
        'side_by_side': lambda: {},
        'dml': lambda: dict(distillers=[MUTUAL]),
        'adm': lambda: dict(distillers=[MUTUAL, adm]),
        'kdcl': lambda: dict(distillers=[kdcl]),
        'switokd': lambda: dict(distillers=[switching]),
        'cirkd': lambda: frozen(cirkd),
        'reviewkd': lambda: frozen(review),
        'sokd': lambda: dict(roles=dict(student=student, teacher=teacher, bridge=bridge), **frozen(sokd)),
        'ffsd': lambda: dict(roles=dict.fromkeys(FFSD_PARTS, student), deploy='leader', distillers=[ffsd]),
    }[name]()


ONLINE = ('plain', 'side_by_side', 'dml', 'adm', 'kdcl', 'switokd', 'sokd', 'ffsd')
#: Most valuable first
METHODS = (
    'adm',
    'akd',
    'sokd',
    'ffsd',
    'dml',
    'cwd',
    'mgd',
    'kd',
    'dkd',
    'dist',
    'pkd',
    'at',
    'fitnet',
    'reviewkd',
    'cirkd',
    *OF_DETECTORS,
)
METHODS += tuple(name for name in ONLINE if name not in METHODS)


def family(name: str) -> Config:
    """Config of a pair of detectors of a family that learns by ADM, with mutual learning where logits correspond."""
    roles = dict(student=detector(name, 4), teacher=detector(name, 8))
    taps = ['feats', 'encoder'] if name in DETRS else 'feats'
    adm = dict(type='mmadm.ADM', at=taps, divergence=0.5)
    return dict(type='mmadm.Distillation', roles=roles, distillers=[adm] if name in DETRS else [MUTUAL, adm])
