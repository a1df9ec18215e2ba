"""The divergence of class scores, of KD and of every distiller of logits, and the KL divergence as a module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from torch import Tensor

from mmadm.functional import binary_kl_divergence, focal_binary_divergence, kl_divergence
from mmadm.losses.base import DistillationLoss
from mmadm.losses.checks import checked_tau
from mmadm.registry import MODELS
from mmadm.structures import Kind, PairContext
from mmadm.utils.errors import ConfigError

Normaliser = Literal['positives', 'mean']


@dataclass(frozen=True)
class ClassDivergence:
    """How two maps of class scores are compared.

    One softmax: ``tau^2 KL(p_teacher || p_student)``, the mean over positions. A sigmoid for each class: the mean of
    the classes' own divergences over positions too, but of a single-stage detector, most of whose positions are
    background, ``tau^2 |p_t - p_s| BCE(p_s, p_t)`` summed and divided by the learner's positive priors, as published
    dense detectors are distilled (BCKD, CrossKD; methods_more.md, section 5).

    Attributes:
        owner: Name for errors.
        tau: Temperature. None is 1 for sigmoids, since a higher one lifts the scores of all the background, and
            ``usual_tau`` for everything else.
        normaliser: ``mean`` takes the mean over positions of single-stage detectors with sigmoids, too. It is the
            default where roles learn from each other: divided by positives, what two detectors predict before they
            know anything throws both back (docs/results.md).
        usual_tau: See ``tau``.

    Raises:
        ConfigError: If the temperature is not positive or the normaliser unknown.
    """

    owner: str
    tau: float | None = None
    normaliser: Normaliser = 'positives'
    usual_tau: float = 1.0

    def __post_init__(self) -> None:
        if self.tau is not None:
            checked_tau(self.owner, self.tau)
        if self.normaliser not in get_args(Normaliser):
            raise ConfigError(f'{self.owner}.normaliser={self.normaliser!r}: must be one of {get_args(Normaliser)}')

    def __call__(self, student: Tensor, teacher: Tensor, context: PairContext) -> Tensor:
        """Compare scores (N, K, ...), or any other tensors by one softmax over channels; nothing is detached."""
        if context.kind is not Kind.SIGMOID_SCORES:
            tau = self.usual_tau if self.tau is None else self.tau
            return kl_divergence(student, teacher, tau, context.mask)
        tau = 1.0 if self.tau is None else self.tau
        positives = None if self.normaliser == 'mean' else context.positives()
        if positives is None:
            return binary_kl_divergence(student, teacher, tau, context.mask)
        soft = (student, teacher) if tau == 1 else (student.float() / tau, teacher.float() / tau)
        return tau**2 * focal_binary_divergence(*soft, context.mask, normalizer=positives)


@MODELS.register_module()
class KLDivergence(DistillationLoss):
    """``tau^2 KL(p_teacher || p_student)`` (Hinton et al. 2015; methods.md, section 5), see :class:`ClassDivergence`.

    Args:
        tau: Temperature; by default 4, and 1 where each class has a sigmoid.
        normaliser: ``positives`` or ``mean``, of class scores with sigmoids of a single-stage detector.

    Raises:
        ConfigError: If tau is not positive or the normaliser unknown.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset(Kind) - {Kind.BOXES}
    instead: ClassVar[str] = 'mmdet.SmoothL1Loss'

    def __init__(self, tau: float | None = None, normaliser: Normaliser = 'positives') -> None:
        super().__init__()
        self.divergence = ClassDivergence('KLDivergence', tau, normaliser, usual_tau=4.0)

    def forward(self, student: Tensor, teacher: Tensor, context: PairContext = PairContext()) -> Tensor:
        """Compare logits (N, K, ...): by one softmax over K, or each class by itself where the tap's kind says so."""
        return self.divergence(student, teacher, context)
