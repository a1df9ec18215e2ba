"""The two observations that ADM rests on, measured by class: where agreement is high, and where features are strong."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace

import torch
from mmengine.config import Config
from rich.console import Console
from torch import Tensor

from mmadm.bench.adm_batches import AdmBatch, adm_batches
from mmadm.distillers.class_targets import class_targets
from mmadm.distillers.grids import moved_onto
from mmadm.distillers.pairs import levels_of, paired
from mmadm.functional import attention_map, region_weights, similarity_map
from mmadm.functional.foreground import chance_overlap, foreground_overlap, foreground_share
from mmadm.structures import Kind

COLUMNS = ('share of positions', 'consensus / chance', 'similar', 'student strong', 'teacher strong', 'chance')


def positions_by_class(cfg: Config, batches: int, checkpoint: str | None = None) -> dict[str, list[float]]:
    """Look at images of the val set, brought in as in training.

    Args:
        cfg: Config of a training with ADM.
        batches: How many batches of the training's size.
        checkpoint: Weights of that training; else the initial ones.

    Returns:
        By class the means over the images that have it: its share of the positions; its share of the consensus weight
        over that; the IoU of its positions with as many that are the most similar, where the student's and the
        teacher's features are strongest, and at random.
    """
    loader = deepcopy(cfg.train_dataloader)
    pipeline = loader.dataset.pipeline
    loader.dataset = dict(deepcopy(cfg.val_dataloader.dataset), pipeline=pipeline)
    found: dict[str, list[list[float]]] = defaultdict(list)
    for batch in adm_batches(cfg, batches, loader, checkpoint):
        for one in batch:
            for name, row in _rows(one):
                found[name].append(row)
    return {name: torch.tensor(rows).mean(dim=0).tolist() for name, rows in found.items()}


def _rows(one: AdmBatch) -> Iterator[tuple[str, list[float]]]:
    """A row for each image, level and class that the image has."""
    for edge in one.part.edges():
        mine, grids, _ = levels_of(edge, one.outputs)
        for pair, own, grid in zip(paired(edge, one.outputs, one.connectors), mine, grids, strict=True):
            scores = replace(grid, values=grid.values.new_zeros(len(grid.values), len(one.classes), *grid.cells))
            objects = class_targets(one.outputs[edge.learner.role], scores, Kind.SIGMOID_SCORES)
            if objects is None:
                continue
            mask = pair.context.mask
            similarity = similarity_map(pair.learner, pair.source, mask)
            strong = moved_onto(own, grid, attention_map(own.values)).squeeze(1), attention_map(grid.values).squeeze(1)
            ranked = torch.stack([similarity, *strong])
            weights = region_weights(similarity, **one.part.options, mask=mask)
            uniform = region_weights(similarity, tau=1.0, region='uniform', share=1.0, mask=mask)
            for image, number in objects.flatten(2).any(dim=2).nonzero().tolist():
                chosen = slice(image, image + 1)
                of_class, inside = objects[chosen, number], None if mask is None else mask[chosen]
                yield one.classes[number], _row(weights[chosen], uniform[chosen], ranked[:, chosen], of_class, inside)


def _row(weights: Tensor, uniform: Tensor, ranked: Tensor, objects: Tensor, mask: Tensor | None) -> list[float]:
    area = foreground_share(uniform, objects, mask)
    lift = foreground_share(weights, objects, mask) / area.clamp(min=1e-9)
    return [v.item() for v in (area, lift, *foreground_overlap(ranked, objects, mask), chance_overlap(objects, mask))]


def markdown(rows: dict[str, list[float]]) -> str:
    """A table of :func:`positions_by_class`."""
    lines = [f'| class | {" | ".join(COLUMNS)} |', '|---' * (len(COLUMNS) + 1) + '|']
    return '\n'.join([*lines, *(f'| {name} | {" | ".join(f"{v:.2f}" for v in row)} |' for name, row in rows.items())])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of a training with ADM')
    parser.add_argument('checkpoint', nargs='?', help='weights of that training; the initial ones by default')
    parser.add_argument('--batches', type=int, default=20)
    args = parser.parse_args(arguments)
    rows = positions_by_class(Config.fromfile(args.config), args.batches, args.checkpoint)
    Console().print(markdown(rows), markup=False, soft_wrap=True, highlight=False)


if __name__ == '__main__':
    main()
