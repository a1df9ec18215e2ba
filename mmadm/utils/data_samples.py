"""The data samples in what a data loader or a data set gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def data_samples(item: Any) -> Iterator[Any]:
    """Data samples of a packed item or a batch; semi-supervised pipelines pack several by name.

    Args:
        item: A data sample, or a dict, list or tuple with some at any depth.
    """
    if hasattr(item, 'metainfo'):
        yield item
    elif isinstance(item, Mapping | list | tuple):
        for value in item.values() if isinstance(item, Mapping) else item:
            yield from data_samples(value)


def image_files(item: Any) -> list[str]:
    """Files of the images of a packed item or a batch, as far as its data samples name them."""
    paths = (sample.metainfo.get('img_path') for sample in data_samples(item))
    return list(dict.fromkeys(str(path) for path in paths if path))
