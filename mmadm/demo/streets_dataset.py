"""The generated streets as a data set of MMSegmentation."""

from __future__ import annotations

import os.path as osp
from typing import Any, ClassVar

from mmseg.datasets import CityscapesDataset

from mmadm.datasets.segmentation import CheckedSegDataset
from mmadm.demo.streets import IMAGE_SUFFIX, LABEL_SUFFIX
from mmadm.registry import DATASETS


@DATASETS.register_module()
class StreetsDataset(CheckedSegDataset):
    """The streets of :func:`mmadm.demo.streets.make_streets`, in Cityscapes' folders, with its ids and colours.

    Args:
        img_suffix: Suffix of the images.
        seg_map_suffix: Suffix of the label maps.
        **kwargs: As for :class:`CheckedSegDataset`.
    """

    METAINFO: ClassVar[dict[str, Any]] = CityscapesDataset.METAINFO
    ADVICE = 'Make the data with `python tools/make_streets.py`, and point data_root or MMADM_DATA to it.'

    def __init__(self, img_suffix: str = IMAGE_SUFFIX, seg_map_suffix: str = LABEL_SUFFIX, **kwargs: Any) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images, of a generation that was finished.

        Raises:
            ConfigError: See :class:`CheckedSegDataset`; also if the generation was cut off.
        """
        if self.data_root is not None and self._exists(self.data_prefix['img_path']):
            manifest = osp.join(self.data_root, 'meta.json')
            if not self._exists(manifest):
                self._fail(f'{manifest!r} does not exist, so the generation was not finished')
        return super().load_data_list()
