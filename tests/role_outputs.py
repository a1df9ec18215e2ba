"""RoleOutputs made by hand, so that a distiller can be tested without a network."""

from __future__ import annotations

from mmadm.algorithms.role_runner import wanted_taps
from mmadm.structures import BatchArea, GroundTruth, Kind, RoleFacts, RoleOutput, Tap, TapOutput


def role_outputs(taps, truth=None, area=None, sigmoid=False):
    """Make outputs.

    Args:
        taps: By role, then by name: the levels.
        truth: What every role knows.
        area: Where the images lie; by default maps are of stride 1 of the largest one without padding.
        sigmoid: Whether `logits` score each class by itself.
    """
    scores = Kind.SIGMOID_SCORES if sigmoid else Kind.SOFTMAX_SCORES
    found = {}
    for role, by_name in taps.items():
        maps = [level for levels in by_name.values() for level in levels if level.dim() == 4]
        sides = [tuple(level.shape[2:]) for level in maps]
        if truth is not None and truth.labels is not None:
            sides.append(tuple(truth.labels.shape[1:]))
        padded = max(sides, default=(1, 1))
        count = maps[0].shape[0] if maps else 1
        where = area or BatchArea(padded, (padded,) * count)
        read = {}
        for name, levels in by_name.items():
            strides = tuple(
                (where.padded[0] / level.shape[2], where.padded[1] / level.shape[3]) if level.dim() == 4 else None
                for level in levels
            )
            kind = scores if name == 'logits' else Kind.MAP
            read[Tap.parse(role, name)] = TapOutput(kind, levels, strides)
        found[role] = RoleOutput(taps=read, area=where, truth=truth or GroundTruth())
    return found


def levels(outputs, role, name):
    """The levels of a tap."""
    return outputs[role].taps[Tap.parse(role, name)].levels


def as_facts(outputs):
    """What a dry run would tell."""
    return {role: RoleFacts(output) for role, output in outputs.items()}


def logged(found):
    """Losses and monitors of a distiller's output, as a log has them."""
    return {**found.losses, **found.monitors}


def run_roles(model, data):
    """What every role of a model gives for a preprocessed batch, as its first training step reads it."""
    return model._runner.run(data['inputs'], data['data_samples'], wanted_taps(model.distillers.values()), 0)
