"""How much of ADM's weight would lie on padding if padding counted."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import torch
from mmengine.config import Config
from torch import nn

from mmadm.bench.adm_batches import adm_batches
from mmadm.distillers import ADM
from mmadm.distillers.pairs import Outputs, levels_of, paired
from mmadm.functional import region_weights, similarity_map


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
    found: dict[str, list[float]] = {'positions': [], 'consensus': [], 'divergence': []}
    padded = [
        _add(one.part, one.outputs, one.connectors, found)
        for batch in adm_batches(cfg, batches, cfg.train_dataloader)
        for one in batch
    ]
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
