"""Which losses, taps and weights ``mmadm distill`` chooses for a method, and where each number comes from.

A weight that is published for one level is written with :class:`EachLevel`: ``Transfer`` takes the mean over levels, so
that it is multiplied by their number. What fits a model is looked up from its finest family to its coarsest, see
:func:`~mmadm.cli.networks.families`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: What a teacher does: always learns; never does; learns unless ``--frozen``; stays as it is, but with ``--no-frozen``
#: learns by its task alone; there is none
LEARNS, FROZEN, JOINS, TEACHES, NONE = 'learns', 'frozen', 'joins', 'teaches', 'none'


class EachLevel(float):
    """A weight for each level of a tap."""


@dataclass(frozen=True)
class Recipe:
    """Distillers for a family of networks.

    Attributes:
        distillers: Their configs; ``at`` of the last one is the method's own tap.
        source: Where taps and numbers come from.
    """

    distillers: tuple[dict[str, Any], ...]
    source: str


@dataclass(frozen=True)
class Method:
    """A method of distillation.

    Attributes:
        title: What it does, in a few words.
        teacher: ``LEARNS``, ``FROZEN``, ``JOINS``, ``TEACHES`` or ``NONE``.
        recipes: By family of networks; None where the method makes no sense for one.
    """

    title: str
    teacher: str
    recipes: dict[str, Recipe | None]

    def recipe(self, kinds: Sequence[str]) -> Recipe | None:
        """The recipe for a network of these families, see :func:`~mmadm.cli.networks.families`."""
        return next((self.recipes[kind] for kind in kinds if kind in self.recipes), None)


def transfer(at: str, loss: str, weight: float = 1.0, **options: Any) -> dict[str, Any]:
    """A ``Transfer`` from teacher to student; ``avatars`` go to it, all other options to the loss."""
    avatars = {'avatars': options.pop('avatars')} if 'avatars' in options else {}
    scaled = {} if weight == 1.0 and not isinstance(weight, EachLevel) else {'weight': weight}
    return {
        'type': 'mmadm.Transfer',
        'source': 'teacher',
        'learner': 'student',
        'at': at,
        'loss': {'type': loss, **options},
        **avatars,
        **scaled,
    }


def together(kind: str, **options: Any) -> dict[str, Any]:
    """A distiller of roles that learn from each other's class scores."""
    return {'type': f'mmadm.{kind}', 'roles': ['student', 'teacher'], 'at': 'logits', **options}


def of_teacher(kind: str, **options: Any) -> dict[str, Any]:
    """A distiller from teacher to student."""
    return {'type': f'mmadm.{kind}', 'source': 'teacher', 'learner': 'student', **options}


def fgd(tau: float = 0.5, scale: float = 1.0) -> dict[str, Any]:
    """FGD with its weights for detectors with anchors, times a number."""
    weights = {'foreground': 1e-3, 'background': 5e-4, 'attention': 5e-4, 'relation': 5e-6}
    return of_teacher('FGD', at='feats', tau=tau, **{key: round(scale * value, 12) for key, value in weights.items()})


#: Dropout of 0.1 and four avatars; the paper publishes the dropout
AVATARS = {'num': 4, 'perturbation': {'type': 'Dropout', 'p': 0.1}}
KD = transfer('logits', 'KLDivergence', tau=1.0)
DML = together('MutualLearning')
ADM = {'type': 'mmadm.ADM', 'student': 'student', 'teacher': 'teacher'}
ADM_SEGMENTATION = {**ADM, 'at': 'backbone[-1]', 'consensus': 30.0, 'divergence': 0.1, 'tau': 0.5}
ADM_DETECTION = {**ADM, 'at': 'feats', 'consensus': 0.1, 'divergence': 0.01}
CWD = transfer('logits', 'ChannelWiseDivergence', 5.0, tau=1.0)
CWD_FEATURES = transfer('feats', 'ChannelWiseDivergence', EachLevel(10.0), tau=1.0)
MGD = transfer('backbone[-1]', 'MaskedGeneration', 2e-5, mask_ratio=0.75)
MGD_DENSE = transfer('feats', 'MaskedGeneration', EachLevel(2e-5), mask_ratio=0.65)
MGD_TWO_STAGE = transfer('feats', 'MaskedGeneration', EachLevel(5e-7), mask_ratio=0.45)
CIRKD = of_teacher('CIRKD', at='pre_logits')
REVIEWKD = of_teacher('ReviewKD', at='feats')
SOKD = {'type': 'mmadm.SOKD', 'student': 'student', 'teacher': 'teacher', 'bridge': 'bridge', 'at': 'logits'}
SWITOKD = {'type': 'mmadm.SwitOKD', 'student': 'student', 'teacher': 'teacher', 'at': 'logits'}
FFSD = {'type': 'mmadm.FFSD', 'students': ['first', 'second'], 'leader': 'leader', 'warmup': 2000}

BCKD = of_teacher('BCKD', classification=1.0, boxes=4.0)
TWO_STAGE_FGD = fgd() | {'foreground': 5e-5, 'background': 2.5e-5, 'attention': 5e-5, 'relation': 5e-7}
RTMDET = ('rtmdethead', 'rtmdetsepbnhead')
FGD_SOURCE = "FGD's config for {} (arXiv 2111.11837)"

OURS = "this repository's choice, not tuned"
ON_CAMVID = 'weights chosen on CamVid by this repository (docs/adm.md)'
ON_BCCD = 'weights chosen on BCCD by this repository, where they gained nothing (docs/adm.md)'
FFSD_SOURCE = "FFSD's program (arXiv 2103.14473); the warm-up is ours"
UNWEIGHTED = 'weight 1, as in the paper'


#: The queries of two networks do not correspond, nor do their class scores
NO_QUERIES: dict[str, Recipe | None] = {'mask_queries': None, 'detr': None}


def both(first: dict[str, Any], source: str) -> dict[str, Recipe | None]:
    """One distiller of class scores that serves both tasks."""
    return {**NO_QUERIES, 'segmentation': Recipe((first,), source), 'detection': Recipe((first,), source)}


def with_avatars(recipes: dict[str, Recipe]) -> dict[str, Recipe | None]:
    """The same distillers on avatars of the teacher's features."""
    source = '{}; dropout 0.1 as in AKD (arXiv 2305.02722)'
    return {
        family: Recipe(tuple({**cfg, 'avatars': AVATARS} for cfg in recipe.distillers), source.format(recipe.source))
        for family, recipe in recipes.items()
    }


CWD_RECIPES = {
    'mask_queries': Recipe((CWD_FEATURES,), OURS),
    'segmentation': Recipe((CWD,), "MMRazor's config for PSPNet R101 and R18 on Cityscapes"),
    'reppoints': Recipe((transfer('feats', 'ChannelWiseDivergence', EachLevel(7.5), tau=1.0),), "AKD's config"),
    'detection': Recipe((CWD_FEATURES,), "MMRazor's configs for RetinaNet and GFL on COCO"),
}
MGD_RECIPES = {
    'segmentation': Recipe((MGD,), "MGD's config for PSPNet on Cityscapes (arXiv 2205.01529)"),
    'two_stage': Recipe((MGD_TWO_STAGE,), "MGD's config for Faster R-CNN on COCO (arXiv 2205.01529)"),
    'detection': Recipe((MGD_DENSE,), "MGD's config for RetinaNet on COCO (arXiv 2205.01529)"),
}

METHODS: dict[str, Method] = {
    'adm': Method(
        'asymmetric decision-making, beside mutual learning where class scores correspond',
        JOINS,
        {
            'mask_queries': Recipe((ADM_SEGMENTATION,), ON_CAMVID),
            'segmentation': Recipe((DML, ADM_SEGMENTATION), ON_CAMVID),
            'detr': Recipe((ADM_DETECTION,), ON_BCCD),
            'detection': Recipe((DML, ADM_DETECTION), ON_BCCD),
        },
    ),
    'dml': Method('deep mutual learning of class scores', LEARNS, both(DML, UNWEIGHTED)),
    'kdcl': Method('an ensemble of all networks teaches each', LEARNS, both(together('KDCL'), UNWEIGHTED)),
    'switokd': Method('mutual learning with a teacher that waits', LEARNS, both(SWITOKD, UNWEIGHTED)),
    'kd': Method(
        'class scores of the teacher',
        TEACHES,
        {
            **NO_QUERIES,
            'segmentation': Recipe((KD,), "CIRKD's program for Cityscapes"),
            'two_stage': Recipe((KD,), OURS),
            'detection': Recipe((KD,), OURS),
        },
    ),
    'dkd': Method(
        'decoupled KD: the true class and the others by themselves',
        TEACHES,
        {
            **NO_QUERIES,
            'segmentation': Recipe(
                (transfer('logits', 'DecoupledKL', tau=4.0, alpha=1.0, beta=8.0),),
                'the paper, which gives them for image classification (arXiv 2203.08679)',
            ),
        },
    ),
    'dist': Method(
        'correlations between classes and between positions',
        TEACHES,
        {
            **NO_QUERIES,
            'segmentation': Recipe(
                (transfer('logits', 'DIST', tau=1.0, inter=1.0, intra=1.0),), "DIST's program for Cityscapes"
            ),
            'two_stage': Recipe((transfer('logits', 'DIST'),), "AKD's config for Faster R-CNN"),
            'detection': Recipe((transfer('logits', 'DIST', EachLevel(1.0), tau=1.0),), OURS),
        },
    ),
    'cwd': Method('channel-wise distributions over positions', TEACHES, CWD_RECIPES),
    'mgd': Method("masked features must generate the teacher's", TEACHES, MGD_RECIPES),
    'akd': Method("CWD on perturbed copies of the teacher's features", TEACHES, with_avatars(CWD_RECIPES)),
    'akd_mgd': Method("MGD on perturbed copies of the teacher's features", TEACHES, with_avatars(MGD_RECIPES)),
    'pkd': Method(
        'Pearson correlation of features',
        TEACHES,
        {
            'segmentation': Recipe((transfer('backbone[-1]', 'PearsonDistance', 10.0),), OURS),
            'two_stage': Recipe(
                (transfer('feats[:4]', 'PearsonDistance', EachLevel(6.0)),), 'PKD (arXiv 2207.02039), two-stage'
            ),
            'detection': Recipe(
                (transfer('feats[:4]', 'PearsonDistance', EachLevel(10.0)),), "MMRazor's config for RetinaNet"
            ),
        },
    ),
    'at': Method(
        'maps of attention',
        TEACHES,
        {
            'mask_queries': Recipe((transfer('backbone[-1]', 'AttentionTransfer', 10000.0),), OURS),
            'segmentation': Recipe(
                (transfer('pre_logits', 'AttentionTransfer', 10000.0),), "CIRKD's program for Cityscapes"
            ),
            'detection': Recipe(
                (transfer('feats', 'AttentionTransfer', EachLevel(1000.0)),),
                'the paper, which gives it for image classification (arXiv 1612.03928)',
            ),
        },
    ),
    'fitnet': Method(
        'squared distance of features',
        TEACHES,
        {
            'segmentation': Recipe((transfer('backbone[-2]', 'HintMSE'),), OURS),
            'detection': Recipe((transfer('feats', 'HintMSE', EachLevel(1.0)),), OURS),
        },
    ),
    'cirkd': Method(
        'similarities of pixels of several images, beside their class scores',
        TEACHES,
        {**NO_QUERIES, 'segmentation': Recipe((KD, CIRKD), "CIRKD's program for Cityscapes (arXiv 2204.06986)")},
    ),
    'reviewkd': Method(
        'every level from all deeper ones of the student',
        TEACHES,
        {
            'segmentation': Recipe((REVIEWKD,), OURS),
            'detection': Recipe((REVIEWKD,), 'ReviewKD for RetinaNet and Faster R-CNN (arXiv 2104.09044)'),
        },
    ),
    'fgd': Method(
        'features inside and outside of objects, their attention and context',
        TEACHES,
        {
            'fcos': Recipe((fgd(tau=0.8, scale=1.6),), FGD_SOURCE.format('FCOS')),
            'two_stage': Recipe((TWO_STAGE_FGD,), FGD_SOURCE.format('two-stage detectors')),
            'detr': Recipe((fgd(),), OURS),
            'mask_queries': None,
            'detection': Recipe((fgd(),), FGD_SOURCE.format('RetinaNet')),
        },
    ),
    'bckd': Method(
        'class scores one by one, and boxes where these differ',
        TEACHES,
        {
            'gflhead': Recipe((BCKD,), 'BCKD for GFL (arXiv 2308.14286)'),
            **dict.fromkeys(('retinahead', 'fcoshead', 'atsshead', *RTMDET), Recipe((BCKD,), OURS)),
        },
    ),
    'ld': Method(
        'distributions of boxes, and classes where objects are',
        TEACHES,
        {'gflhead': Recipe((of_teacher('LD'),), 'LD for GFL (arXiv 2102.12252)')},
    ),
    'crosskd': Method(
        "the student's features go on through the teacher's head",
        FROZEN,
        dict.fromkeys(
            ('retinahead', 'fcoshead', 'atsshead', 'gflhead'),
            Recipe((of_teacher('CrossKD'),), "CrossKD's weights for the teacher's head (arXiv 2306.11369)"),
        ),
    ),
    'sokd': Method('a trainable tail of a frozen teacher mediates', FROZEN, both(SOKD, 'SOKD (arXiv 2111.11747)')),
    'ffsd': Method(
        'two students teach a leader through fused features',
        NONE,
        {
            **NO_QUERIES,
            'segmentation': Recipe((FFSD | {'at': 'pre_logits'},), FFSD_SOURCE),
            'two_stage': None,
            'detection': Recipe((FFSD | {'at': 'feats'},), FFSD_SOURCE),
        },
    ),
}
