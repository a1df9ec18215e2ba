"""Run every role on a batch: frozen ones up to their taps, trainable ones with their task losses if they have any."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from mmadm.adapters import Adapter
from mmadm.algorithms.frozen import compile_around, lowered
from mmadm.algorithms.partly_trained import set_mode
from mmadm.algorithms.shared_prefix import Prefix, fed_from, recorded, replayed, shared_paths
from mmadm.distillers import Distiller
from mmadm.structures import GroundTruth, RoleFacts, RoleOutput, Tap
from mmadm.utils.eval_mode import as_in_training
from mmadm.utils.random import role_stream

#: Side of the square image of the dry run in pixels: enough for output stride 32 and pyramid pooling
DRY_RUN_SIZE = 128
Taps = Mapping[str, Sequence[Tap]]


def wanted_taps(distillers: Iterable[Distiller]) -> dict[str, list[Tap]]:
    """Taps that distillers need, by role."""
    wanted: dict[str, set[Tap]] = {}
    for distiller in distillers:
        for role, taps in distiller.taps().items():
            wanted.setdefault(role, set()).update(taps)
    return {role: sorted(taps, key=str) for role, taps in wanted.items()}


class RoleRunner:
    """Knows how each role of a model runs.

    Args:
        roles: The networks by name; their order names their random streams.
        adapters: By role.
        frozen: Roles that only teach.
        teacher_dtype: Precision in which these run; None leaves it.
        taught: Roles that learn from distillers alone, without their task loss.
    """

    def __init__(
        self, roles: nn.ModuleDict, adapters: Mapping[str, Adapter], frozen: Sequence[str],
        teacher_dtype: torch.dtype | None, taught: Collection[str] = (),
    ) -> None:  # fmt: skip
        self._roles = roles
        self._adapters = adapters
        self._frozen = frozen
        self._dtype = teacher_dtype
        self._taught = taught
        self._prefixes: dict[str, Prefix] = {}

    def dry_run(
        self, taps: Taps, parts: Mapping[str, Sequence[str]], copies: Mapping[str, str]
    ) -> dict[str, RoleFacts]:
        """Find out about the roles on a blank image, and what a role need not run that is a copy of a frozen one.

        Args:
            taps: What is read, by role.
            parts: Modules of each role that learn; all where none is named.
            copies: Roles that start as a frozen one and see the same images, by name, and that one.
        """
        facts = {}
        for name, wanted in taps.items():
            role = self._roles[name]
            set_mode(role, parts[name], name not in self._frozen)
            run = torch.no_grad()(partial(self._adapters[name].probe, role, DRY_RUN_SIZE, wanted))
            with as_in_training(role):
                facts[name] = run()
                if name in copies:
                    paths = shared_paths(role, run, self._adapters[name].paths(role, wanted))
                    source = copies[name]
                    self._prefixes[name] = Prefix(source, (self._roles[source], role), paths, parts[name])
            if name in self._taught:  # labels do not count for it
                facts[name] = replace(facts[name], output=replace(facts[name].output, truth=GroundTruth()))
        return facts

    def compile_frozen(self, taps: Taps) -> None:
        """Let ``torch.compile`` speed up the frozen roles, around what is read of them."""
        for name in (name for name in taps if name in self._frozen):
            tapped = self._adapters[name].paths(self._roles[name], taps[name])
            compile_around(self._roles[name], [*tapped, *fed_from(self._prefixes, name)])

    def run(
        self, inputs: Mapping[str, Tensor], data_samples: Mapping[str, Any], taps: Taps, iteration: int,
        regions: Iterable[tuple[str, Tap]] = (),
    ) -> dict[str, RoleOutput]:  # fmt: skip
        """Run every role for a training step; a frozen one without a tap has nothing to say.

        Args:
            inputs: Images (N, C, H, W) by role.
            data_samples: Stock data samples by role.
            taps: What is read, by role.
            iteration: Training iteration.
            regions: Learners and taps of other roles that are scored on the learner's regions.
        """
        outputs: dict[str, RoleOutput] = {}
        computed: dict[str, Any] = {}
        names = list(self._roles)
        # the frozen ones first: a bridge goes on from what they have computed
        for name in sorted(names, key=lambda name: name not in self._frozen):
            role, wanted = self._roles[name], taps.get(name, [])
            if name not in self._frozen:
                prefix = self._prefixes[name].given(computed) if name in self._prefixes else {}
                with (
                    role_stream(names.index(name), iteration),
                    replayed(role, prefix, self._dtype and torch.float32),
                ):
                    run = self._adapters[name].features if name in self._taught else self._adapters[name].loss
                    outputs[name] = run(role, inputs[name], taps=wanted, data_samples=data_samples[name])
            elif wanted:
                with (
                    torch.no_grad(),
                    lowered(self._dtype, inputs[name].device),
                    recorded(role, fed_from(self._prefixes, name)) as computed[name],
                ):
                    outputs[name] = self._adapters[name].features(role, inputs[name], wanted, data_samples[name])
        self._score_regions(outputs, regions)
        return outputs

    def look(self, item: Mapping[str, Any], taps: Taps) -> dict[str, RoleOutput]:
        """Taps of roles on one packed image of a stock data set, as they are in eval mode."""
        outputs = {}
        for name, wanted in taps.items():
            role: Any = self._roles[name]
            data = role.data_preprocessor(pseudo_collate([deepcopy(dict(item))]), False)
            for sample in data['data_samples']:
                sample.set_metainfo({'img_shape': tuple(item['inputs'].shape[1:])})
            outputs[name] = self._adapters[name].features(role, data['inputs'], wanted, data['data_samples'])
        return outputs

    def _score_regions(self, outputs: Mapping[str, RoleOutput], regions: Iterable[tuple[str, Tap]]) -> None:
        """Let two-stage roles score the regions that a learner sampled, now that these are known."""
        for learner, tap in regions:
            adapter, source = self._adapters[tap.role], outputs[tap.role]
            rois = outputs[learner].regions_of(tap.base)
            if not adapter.scores_regions(tap) or rois is None:
                continue
            rows, columns = outputs[learner].area.scale_to(source.area)
            if (rows, columns) != (1.0, 1.0):
                rois = rois.clone()
                rois[:, 1:5:2] *= columns
                rois[:, 2:5:2] *= rows
            precision = self._dtype if tap.role in self._frozen else None
            with lowered(precision, rois.device):
                source.regional[learner, tap] = adapter.score_regions(self._roles[tap.role], source, rois, tap)
