"""How much of ADM's weight would lie on padding if padding counted."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from itertools import islice

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import nn

from mmadm.algorithms.role_runner import wanted_taps
from mmadm.distillers import ADM
from mmadm.distillers.pairs import Outputs, levels_of, paired
from mmadm.functional import region_weights, similarity_map
from mmadm.registry import MODELS


def padding_shares(cfg: Config, batches: int) -> dict[str, float]:
    """Look at training batches without learning.

    Args:
        cfg: Config of a training with ADM.
        batches: How many.

    Returns:
        Means over batches, images and levels: the share of the positions that is padding (``positions``), and of the
        consensus' and the divergence's weights if all positions counted. ``batches``: the share of the batches that
        have padding.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    loader = dict(cfg.train_dataloader, num_workers=0, persistent_workers=False)
    found: dict[str, list[float]] = {'positions': [], 'consensus': [], 'divergence': []}
    padded = []
    for data in islice(Runner.build_dataloader(loader, seed=0), batches):
        made = model.data_preprocessor(data, True)
        with torch.no_grad():
            outputs = model._runner.run(made['inputs'], made['data_samples'], wanted_taps(model.distillers.values()), 0)
        for name, part in model.distillers.items():
            if isinstance(part, ADM):
                padded.append(_add(part, outputs, model.step_of(name).connectors, found))
    shares = {key: sum(values) / max(1, len(values)) for key, values in found.items()}
    return {**shares, 'batches': sum(padded) / max(1, len(padded))}


def _add(part: ADM, outputs: Outputs, connectors: Mapping[str, nn.Module], found: dict[str, list[float]]) -> bool:
    """Add the shares of every level of a batch; returns whether it has any padding."""
    any_padding = False
    for edge in part.edges():
        for pair, grid in zip(paired(edge, outputs, connectors), levels_of(edge, outputs)[1], strict=True):
            mask = grid.image_mask()
            any_padding |= mask is not None
            inside = torch.ones(pair.source.shape[0], *grid.cells).bool() if mask is None else mask
            outside = (~inside).flatten(1).float()
            found['positions'].append(outside.mean().item())
            similarity = similarity_map(pair.learner, pair.source)
            for key, sign in (('consensus', 1), ('divergence', -1)):
                weights = region_weights(sign * similarity, **part.options)
                found[key].append((weights * outside).sum(dim=1).mean().item())
    return any_padding


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of a training with ADM')
    parser.add_argument('--batches', type=int, default=20)
    args = parser.parse_args(arguments)
    for key, value in padding_shares(Config.fromfile(args.config), args.batches).items():
        print(f'{key}: {100 * value:.1f} %')


if __name__ == '__main__':
    main()
