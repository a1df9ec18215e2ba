"""Cross-Image Relational Distillation (Yang et al., CVPR 2022, arXiv 2204.06986; methods_more.md, section 2)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, get_rank
from mmengine.logging import MMLogger
from torch import Generator, Tensor, nn

from mmadm.distillers.base import Distiller, Facts
from mmadm.distillers.grids import moved_onto
from mmadm.distillers.pairs import Edge, Outputs, TapSpec, context_of, edges_between, level_key, levels_of
from mmadm.functional import class_means, class_samples, cross_image_divergence, memory_divergence
from mmadm.modules import ClassQueue, Projection
from mmadm.registry import MODELS
from mmadm.structures import DistillerOutput, Kind, PairContext, Step
from mmadm.utils.errors import ConfigError
from mmadm.utils.memory import free_bytes


@MODELS.register_module()
class CIRKD(Distiller):
    """A segmentor learns how a teacher's pixels resemble those of other images: of the batch, and of a memory.

    Three terms. The similarities of all pixels of this process's batch (paper, equation 4), and those of each labelled
    pixel to what two memories hold of each class: the teacher's pixels and the mean of a class in an image, a region
    (equations 9 and 12). There the student is brought to the teacher's channels by a :class:`Projection`. The memories
    are buffers of this distiller: in each checkpoint, equal on all ranks, and part of no role. Weights are as
    published; with them the program also has KD of the logits, weight 1.

    Args:
        source: Role that is looked at.
        learner: Role that learns; a segmentor.
        at: Tap name, or dict from role to tap name, of maps (N, C, h, w).
        mini_batch: Weight of the pixels of the batch.
        pixel: Weight of the memory of pixels; 0.01 for Pascal VOC.
        region: Weight of the memory of regions; likewise.
        tau: Temperature of the similarities.
        kd_tau: Temperature of the distillation from memories.
        pixel_queue: Pixels that are kept of each class.
        region_queue: Regions that are kept of each class.
        pixel_entries: Of all classes together, about how many pixels of the memory each pixel is compared with; at
            most ``pixel_queue`` of each class.
        region_entries: Likewise of the regions.
        pixels_per_image: Pixels of each class at most that an image adds to the memory.
        pool: Side of the squares of positions that are averaged before the pixels of the batch are compared; 2 for
            SegFormer, whose maps are of stride 4.
        schedule: See :class:`Distiller`.

    Raises:
        ConfigError: If source and learner are the same role, several taps are named, a temperature is not positive or
            a queue holds nothing.
    """

    def __init__(
        self,
        source: str = 'teacher',
        learner: str = 'student',
        at: TapSpec = 'pre_logits',
        mini_batch: float = 1.0,
        pixel: float = 0.1,
        region: float = 0.1,
        tau: float = 0.1,
        kd_tau: float = 1.0,
        pixel_queue: int = 20000,
        region_queue: int = 2000,
        pixel_entries: int = 4096,
        region_entries: int = 1024,
        pixels_per_image: int = 16,
        pool: int = 1,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(schedule)
        if source == learner:
            raise ConfigError(f'CIRKD.source={source!r}: must differ from learner')
        for key, value in (('tau', tau), ('kd_tau', kd_tau)):
            if value <= 0:
                raise ConfigError(f'CIRKD.{key}={value!r}: a temperature must be above 0')
        sizes = dict(pixel_queue=pixel_queue, region_queue=region_queue, pixels_per_image=pixels_per_image, pool=pool)
        sizes.update(pixel_entries=pixel_entries, region_entries=region_entries)
        for key, size in sizes.items():
            if size < 1:
                raise ConfigError(f'CIRKD.{key}={size!r}: must be at least 1; a weight of 0 leaves a term out')
        self.learner = learner
        self.mini_batch = mini_batch
        self.memories = {'pixel': pixel, 'region': region}
        self.tau, self.kd_tau = tau, kd_tau
        self.sizes = {'pixel': pixel_queue, 'region': region_queue}
        self.entries = {'pixel': pixel_entries, 'region': region_entries}
        self.pixels_per_image = pixels_per_image
        self.pool = pool
        self.queues: Any = nn.ModuleDict()
        edges = edges_between([(learner, source)], at, 'CIRKD')
        if len(edges) != 1:
            raise ConfigError(f'CIRKD.at={at!r}: one memory needs one tap, such as pre_logits')
        self._edge = edges[0]

    @property
    def weighted(self) -> bool:
        """Whether any weight is not 0 and the learner is trainable."""
        return any((self.mini_batch, *self.memories.values())) and self.learner in self.trainable

    def edges(self) -> list[Edge]:
        """The one edge."""
        return [self._edge]

    def bind(self, facts: Facts, trainable: Collection[str]) -> dict[str, tuple[str, nn.Module]]:
        """Make the projection, see :meth:`Distiller.bind`, and the memories.

        Raises:
            ConfigError: Also if a tap gives anything but one map, the learner has no labels or classes, more entries
                are to be drawn than a memory holds, or the memories do not fit into the machine's.
        """
        outputs = {role: known.output for role, known in facts.items()}
        levels, _, kind = levels_of(self._edge, outputs)
        if kind is not Kind.MAP or len(levels) != 1:
            raise ConfigError(
                f'CIRKD.at: tap {str(self._edge.learner)!r} of {self.learner!r} gives {kind.value} at {len(levels)} '
                'levels; it needs one feature map (N, C, h, w), such as pre_logits or backbone.layer4'
            )
        connectors = super().bind(facts, trainable)
        kept = [name for name, weight in self.memories.items() if weight and self.weighted]
        if not kept:
            return connectors
        if outputs[self.learner].truth.labels is None:
            raise ConfigError(
                f'CIRKD.learner={self.learner!r}: its memories hold classes of pixels, whose labels this role has none '
                'of; set pixel=0 and region=0, or take Transfer'
            )
        classes = facts[self.learner].classes
        if classes is None:
            raise ConfigError(
                f'CIRKD.learner={self.learner!r}: has no class for each pixel; set pixel=0 and region=0, or take '
                'Transfer'
            )
        self.classes = max(classes, 2)  # a single channel stands for two
        channels = levels_of(self._edge, outputs)[1][0].values.shape[1]
        self._check_memory(kept, channels)
        for name in kept:
            self.queues[name] = ClassQueue(self.classes, self.sizes[name], channels)
        return connectors

    def connector(self, edge: Edge, in_channels: int, out_channels: int) -> nn.Module | None:
        """The projection, where there is a memory."""
        return Projection(in_channels, out_channels) if any(self.memories.values()) else None

    def forward(self, outputs: Outputs, step: Step) -> DistillerOutput:
        """Return ``<learner>.loss_cirkd_<term>`` for each term with a weight; see :class:`Distiller`."""
        (mine,), (theirs,), kind = levels_of(self._edge, outputs)
        context = context_of(outputs[self.learner], theirs, kind, 0, 1)
        other, losses = theirs.values.detach(), {}
        if self.mini_batch:
            pooled = (_pooled(x, context.mask, self.pool) for x in (moved_onto(mine, theirs), other))
            (own, mask), (target, _) = pooled
            term = cross_image_divergence(own, target, self.tau, mask)
            losses[f'{self.learner}.loss_cirkd_mini_batch'] = self.mini_batch * term
        if not self.queues:
            return DistillerOutput(losses)
        labels = self._labels(context, outputs[self.learner].truth.ignore_index)
        self._remember(other, labels, step)
        projected = step.connectors[level_key(self._edge, 0, 1)](mine.values, mine.image_sizes())
        projected, generator = moved_onto(mine, theirs, projected), _generator(step)
        known = (labels >= 0) & (labels < self.classes)
        for name, queue in self.queues.items():
            entries, filled = queue.draw(self.entries[name] // self.classes + 1, generator)
            term = memory_divergence(projected, other, entries, self.tau, self.kd_tau, known, filled)
            losses[f'{self.learner}.loss_cirkd_{name}'] = self.memories[name] * term
        return DistillerOutput(losses)

    def _labels(self, context: PairContext, ignored: int) -> Tensor:
        """Class ids (N, h, w), -1 where none counts."""
        labels = context.labels()
        if labels is None:
            raise ConfigError(f'CIRKD.learner={self.learner!r}: the data samples of this role have no labels')
        outside = labels == ignored
        return labels.masked_fill(outside if context.mask is None else outside | ~context.mask, -1)

    @torch.no_grad()
    def _remember(self, feature: Tensor, labels: Tensor, step: Step) -> None:
        """Put the teacher's vectors of all ranks into the memories, image after image."""
        images = len(feature)
        for name, queue in self.queues.items():
            if name == 'region':
                vectors, valid = (x.unsqueeze(2) for x in class_means(feature, labels, self.classes))
            else:
                # by the number of the image among those of all ranks: the same pixels wherever it is
                noise = [
                    torch.rand(labels.shape[1:], generator=_generator(step, 1 + get_rank() * images + image))
                    for image in range(images)
                ]
                drawn = torch.stack(noise).to(feature.device, non_blocking=True)
                vectors, valid = class_samples(feature, labels, self.classes, drawn, self.pixels_per_image)
            classes = torch.arange(self.classes, device=feature.device)[:, None].expand(valid.shape)
            rows = torch.cat([vectors, valid.unsqueeze(3), classes.unsqueeze(3)], dim=3).flatten(0, 2)
            rows = torch.cat(all_gather(rows))
            queue.push(rows[:, :-2], rows[:, -1].long(), rows[:, -2] > 0)

    def _check_memory(self, kept: list[str], channels: int) -> None:
        """Tell the size of the memories; refuse what is beyond half of the free one: the guard of losses has a copy."""
        for name in kept:
            most = self.sizes[name] * self.classes
            if self.entries[name] > most:
                raise ConfigError(
                    f'CIRKD.{name}_entries={self.entries[name]}: the memory holds {self.sizes[name]} of each of '
                    f'{self.classes} classes ({name}_queue), so at most {most}'
                )
        row, free = self.classes * channels * 4, free_bytes()
        needed = sum(self.sizes[name] for name in kept) * row
        if free is None or needed <= free // 2:
            MMLogger.get_current_instance().info(
                f'CIRKD: {" and ".join(kept)} memories take {needed / 2**20:.1f} MiB, as much again for the copy of '
                'the last good state, and as much in each checkpoint.'
            )
            return
        fits = {name: max(1, int(self.sizes[name] * (free // 2) / needed)) for name in kept}
        largest = max(kept, key=lambda name: self.sizes[name])
        raise ConfigError(
            f'CIRKD.{largest}_queue={self.sizes[largest]}: {" and ".join(kept)} memories of {self.classes} classes and '
            f'{channels} channels take {needed} bytes, twice with the copy of the last good state, but {free} bytes '
            f'are free; what fits is {", ".join(f"{name}_queue={size}" for name, size in fits.items())}'
        )


def _pooled(feature: Tensor, mask: Tensor | None, side: int) -> tuple[Tensor, Tensor | None]:
    """Average the positions that count in each square, and say which squares have any."""
    if side == 1:
        return feature, mask
    valid = feature.new_ones(feature[:, :1].shape) if mask is None else mask.unsqueeze(1).to(feature.dtype)
    total, share = (F.avg_pool2d(x, side, ceil_mode=True, count_include_pad=False) for x in (feature * valid, valid))
    return total / share.clamp(min=1 / side**2), None if mask is None else share.squeeze(1) > 0


def _generator(step: Step, number: int = 0) -> Generator:
    """A generator that is the same on all ranks, and after a resume."""
    return Generator().manual_seed((step.iteration << 16) + number)
