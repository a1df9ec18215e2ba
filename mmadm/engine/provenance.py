"""What a checkpoint says of its training: on which classes, and on images that were normalised how."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from math import isclose
from typing import Any

from mmadm.utils.config import role_model_cfg
from mmadm.utils.errors import ConfigError
from mmadm.utils.recorded import assignments, literal, member

#: Values of an image normalisation by key of a stock ``data_preprocessor``
Normalisation = dict[str, tuple[float, ...] | bool | None]


def recorded_classes(meta: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Class names of the training data.

    Args:
        meta: Entry ``meta`` of a checkpoint, also of one made before mmengine.

    Returns:
        The names in order; None if they were not recorded.
    """
    dataset_meta = meta.get('dataset_meta')
    dataset_meta = dataset_meta if isinstance(dataset_meta, Mapping) else {}
    found = {str(key).lower(): value for key, value in {**meta, **dataset_meta}.items()}.get('classes')
    if isinstance(found, str):
        return (found,)
    return tuple(map(str, found)) if isinstance(found, list | tuple) else None


def recorded_normalisation(meta: Mapping[str, Any]) -> Normalisation | None:
    """How images were normalised in training.

    Args:
        meta: Entry ``meta`` of a stock checkpoint, or of one that mmadm made of a role.

    Returns:
        See :func:`normalisation`; None if it was not recorded in a way that can be read.
    """
    try:
        names = assignments(meta.get('cfg', ''))
    except (SyntaxError, TypeError, ValueError):
        return None
    model, shared = names.get('model'), names.get('data_preprocessor')
    if 'role' in meta:
        shared = member(model, 'data_preprocessor') or shared
        model = member(member(model, 'roles'), meta['role'])
    try:
        while (inner := member(model, 'cfg')) is not None:
            if isinstance(inner, ast.Constant):
                return normalisation(role_model_cfg({'cfg': inner.value})['data_preprocessor'])
            model = inner
        return normalisation(literal(member(model, 'data_preprocessor') or shared))
    except (ConfigError, KeyError, TypeError, ValueError):
        return None


def normalisation(preprocessor: Mapping[str, Any]) -> Normalisation:
    """What a preprocessor does to the values of an image.

    Args:
        preprocessor: Config of a stock ``data_preprocessor``.

    Returns:
        ``mean`` and ``std`` by channel, None if there is none, and ``bgr_to_rgb``: whether the channels are swapped.
    """
    values: Normalisation = {
        key: None if preprocessor.get(key) is None else tuple(float(value) for value in preprocessor[key])
        for key in ('mean', 'std')
    }
    # all of the toolboxes' names mean that the order is reversed
    swapped = any(preprocessor.get(key) for key in ('bgr_to_rgb', 'rgb_to_bgr', 'to_rgb'))
    return {**values, 'bgr_to_rgb': swapped}


def same_values(one: tuple[float, ...] | bool | None, other: tuple[float, ...] | bool | None) -> bool:
    """Whether two entries of normalisations are equal within a percent: 103.53 and 103.5 mean the same images."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(isclose(*pair, rel_tol=0.01) for pair in zip(one, other, strict=True))
    return one == other
