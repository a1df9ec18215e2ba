"""Avatars: perturbed copies of a teacher's features (AKD, ACM MM 2023, arXiv 2305.02722; methods.md, section 2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Generator, Tensor, nn

from mmadm.functional import batch_standardise, channel_statistics, uncertainty_between, weights_from_uncertainty
from mmadm.registry import MODELS
from mmadm.utils.errors import ConfigError, near_matches, require_dict, require_numbers

Weighting = Literal['uncertainty', 'uniform', 'batchnorm']
Loss = Callable[[Tensor, Tensor], Tensor]


def dropout(feature: Tensor, generator: Generator, mask: Tensor | None = None, p: float = 0.1) -> Tensor:
    """Drop single elements of a map (N, C, H, W) with probability p and scale the others up."""
    return _drop(feature, feature.shape, p, generator)


def channel_dropout(feature: Tensor, generator: Generator, mask: Tensor | None = None, p: float = 0.1) -> Tensor:
    """Drop whole channels of a map (N, C, H, W) with probability p and scale the others up."""
    return _drop(feature, (*feature.shape[:2], 1, 1), p, generator)


def gaussian_noise(feature: Tensor, generator: Generator, mask: Tensor | None = None, std: float = 0.1) -> Tensor:
    """Add noise to a map (N, C, H, W); std is a share of each channel's own standard deviation.

    It is the deviation over the positions that count in the whole batch, mask (N, H, W); all by default.
    """
    if std < 0:
        raise ValueError(f'std must not be negative, found {std}')
    spread = channel_statistics(feature, mask)[1].view(-1, 1, 1).to(feature.dtype)
    noise = torch.randn(feature.shape, generator=generator, device=feature.device, dtype=feature.dtype)
    return feature + std * spread * noise


def block_mask(
    feature: Tensor, generator: Generator, mask: Tensor | None = None, p: float = 0.1, size: int = 4
) -> Tensor:
    """Drop squares of ``size`` by ``size`` positions of a map (N, C, H, W) with probability p; scale the rest up."""
    if size < 1:
        raise ValueError(f'size must be at least 1, found {size}')
    height, width = feature.shape[2:]
    coarse = torch.ones(feature.shape[0], 1, -(-height // size), -(-width // size), device=feature.device)
    kept = _drop(coarse, coarse.shape, p, generator).repeat_interleave(size, 2).repeat_interleave(size, 3)
    return feature * kept[..., :height, :width].to(feature.dtype)


def _drop(feature: Tensor, shape: Sequence[int], p: float, generator: Generator) -> Tensor:
    if not 0 <= p < 1:
        raise ValueError(f'p must be at least 0 and below 1, found {p}')
    # four numbers of 16 bits from each draw, so p is a multiple of 2^-16: drawing takes longer than all else here
    count = math.prod(shape)
    words = torch.empty(-(-count // 4), dtype=torch.int64, device=feature.device)
    bits = words.random_(-(2**63), None, generator=generator).view(torch.int16)[:count].view(*shape)
    dropped = min(round(p * 2**16), 2**16 - 1)
    # 0 or 1 in the feature's type: a product takes a third of the time that filling by a bool mask takes
    kept = bits.ge_(dropped - 2**15).to(feature.dtype)
    return (feature * kept).mul_(2**16 / (2**16 - dropped))


PERTURBATIONS: dict[str, Callable[..., Tensor]] = {
    'Dropout': dropout,
    'ChannelDropout': channel_dropout,
    'GaussianNoise': gaussian_noise,
    'BlockMask': block_mask,
}


@MODELS.register_module()
class AvatarEnsemble(nn.Module):
    """``L_akd = (1 / M) * sum_m lambda_m * L_base(F_s, A_m)`` with avatars drawn afresh at every call.

    M avatars cost M evaluations of the loss and no network forward. One avatar is in memory at a time: the gradient of
    each term with respect to the learner's map is taken at once and only their sum is kept for the backward pass.

    Args:
        num: Number of avatars M.
        perturbation: ``dict(type='Dropout' | 'ChannelDropout' | 'GaussianNoise' | 'BlockMask', ...)``, or a list of M.
        weighting: ``uncertainty`` (an avatar whose statistics depart unevenly from the teacher's weighs less),
            ``uniform``, or ``batchnorm``: equal weights and standardised channels, what AKD's program does.
        include_teacher: Whether the teacher's own map is one more member of the ensemble.
        temperature: ``T_u`` of the uncertainty weights; high makes them equal.

    Raises:
        ConfigError: If an option is out of range.
    """

    def __init__(
        self,
        num: int = 1,
        perturbation: Mapping[str, Any] | Sequence[Mapping[str, Any]] = {'type': 'Dropout', 'p': 0.1},
        weighting: Weighting = 'uncertainty',
        include_teacher: bool = False,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if num < 1:
            raise ConfigError(f'avatars.num={num}: needs at least one avatar')
        if weighting not in get_args(Weighting):
            raise ConfigError(f'avatars.weighting={weighting!r}: must be one of {get_args(Weighting)}')
        if temperature <= 0:
            raise ConfigError(f'avatars.temperature={temperature}: must be above 0')
        listed = [perturbation] * num if isinstance(perturbation, Mapping) else list(perturbation)
        if len(listed) != num:
            raise ConfigError(f'avatars.perturbation lists {len(listed)} for num={num} avatars; give one, or {num}')
        self.perturbations = [_perturbation(cfg) for cfg in listed]
        self.weighting = weighting
        self.include_teacher = include_teacher
        self.temperature = temperature

    @classmethod
    def from_cfg(cls, cfg: Mapping[str, Any]) -> AvatarEnsemble:
        """Build from ``avatars=dict(...)``, whose ``type`` may be left out."""
        require_dict('avatars', cfg, "dict(num=4, perturbation=dict(type='Dropout', p=0.1))")
        require_numbers('avatars', cls, cfg)
        return cls(**{key: value for key, value in cfg.items() if key != 'type'})

    def forward(
        self,
        loss: Loss,
        student: Tensor,
        teacher: Tensor,
        standardise_teacher: bool = True,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Compare the learner with every avatar.

        Args:
            loss: Of the learner's and an avatar's map a scalar; without parameters. It knows of the mask by itself.
            student: The learner's map (N, C, H, W).
            teacher: The source's map, same shape; the caller detaches it.
            standardise_teacher: With ``batchnorm``, whether avatars are standardised too; AKD's CWD leaves them.
            mask: True where a position counts, shape (N, H, W), in the statistics of weights, noise and
                standardisation; all positions by default.

        Returns:
            The weighted loss, whose gradient reaches the learner alone, and the weights of the members.

        Raises:
            ValueError: If the source's map has a gradient: only the learner's is kept of each term.
        """
        # float32: gradients are taken here, before the gradient scaler's factor, and would vanish in half precision
        # contiguous: avatars are made from it, and each loss and statistic over positions would copy channels_last maps
        student, teacher = student.float().contiguous(), teacher.float().contiguous()
        draws = self._draws(teacher, mask)
        compared = batch_standardise(student, mask) if self.weighting == 'batchnorm' else student
        known = channel_statistics(teacher, mask) if self.weighting == 'uncertainty' and len(draws) > 1 else None
        uncertainties: list[Tensor] = []
        log_total, found = None, []
        for draw in draws:
            avatar = draw()
            uncertain = known and uncertainty_between(known, channel_statistics(avatar, mask))
            uncertainties.append(teacher.new_zeros(()) if uncertain is None else uncertain)
            if self.weighting == 'batchnorm' and standardise_teacher:
                avatar = batch_standardise(avatar, mask)
            evaluated, log_weight = _evaluate(loss, compared, avatar), -uncertainties[-1] / self.temperature
            if log_total is None:
                log_total, found = log_weight, evaluated
                continue
            # the softmax of all weights so far: drawing an avatar again, once all are known, costs more than its loss
            log_total = torch.logaddexp(log_total, log_weight)
            share = (log_weight - log_total).exp()
            found = [mean.lerp_(new, share) for mean, new in zip(found, evaluated, strict=True)]
        value, *gradient = found
        weights = weights_from_uncertainty(torch.stack(uncertainties), self.temperature)
        return (_with_gradient(value, compared, *gradient) if gradient else value), weights

    def variance(self, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
        """Variance over freshly drawn members of the ensemble at each position, the mean over channels.

        Args:
            teacher: The source's map (N, C, H, W).
            mask: True where a position counts, shape (N, H, W); all positions by default.

        Returns:
            Map (N, H, W) without gradient. A single avatar is compared with the teacher's own map.
        """
        members = [draw() for draw in self._draws(teacher.float(), mask)]
        if len(members) == 1:
            members.append(teacher.float())
        with torch.no_grad():
            return torch.stack(members).var(dim=0, correction=0).mean(dim=1)

    def _draws(self, teacher: Tensor, mask: Tensor | None) -> list[Callable[[], Tensor]]:
        """What makes each member of the ensemble, so that one is in memory at a time."""
        if teacher.requires_grad:
            raise ValueError("AvatarEnsemble: the source's map must be detached")
        # a seed for each from torch's generator: an avatar does not depend on the device or on the others' order
        seeds = torch.randint(2**62, (len(self.perturbations),)).tolist()
        draws: list[Callable[[], Tensor]] = [
            partial(self._draw, teacher, index, seed, mask) for index, seed in enumerate(seeds)
        ]
        return [*draws, lambda: teacher] if self.include_teacher else draws

    def _draw(self, teacher: Tensor, index: int, seed: int, mask: Tensor | None) -> Tensor:
        generator = Generator(device=teacher.device).manual_seed(seed)
        with torch.no_grad():
            return self.perturbations[index](teacher, generator, mask)


def _evaluate(loss: Loss, student: Tensor, avatar: Tensor) -> list[Tensor]:
    """The loss, and with gradients enabled its gradient with respect to the learner's map."""
    term = loss(student, avatar)
    wanted = student.requires_grad and torch.is_grad_enabled()
    gradient = torch.autograd.grad(term, student) if wanted else ()
    with torch.no_grad():
        return [term.clone(), *gradient]


def _with_gradient(value: Tensor, feature: Tensor, gradient: Tensor) -> Tensor:
    """A scalar whose gradient with respect to a feature is known already."""
    product = (feature * gradient).sum()
    with torch.no_grad():
        same = product.clone()
    return value + (product - same)


def _perturbation(cfg: Mapping[str, Any]) -> Callable[[Tensor, Generator, Tensor | None], Tensor]:
    options = dict(cfg)
    kind = options.pop('type', None)
    if kind not in PERTURBATIONS:
        raise ConfigError(f'avatars.perturbation.type={kind!r}; {near_matches(str(kind), PERTURBATIONS)}')
    chosen = partial(PERTURBATIONS[kind], **options)
    try:
        chosen(torch.zeros(1, 1, 1, 1), Generator(), None)
    except (TypeError, ValueError) as error:
        raise ConfigError(f'avatars.perturbation={dict(cfg)}: {error}') from error
    return chosen
