"""Segmentation data sets that MMSegmentation lacks."""

from __future__ import annotations

import os.path as osp
from typing import Any, ClassVar

from mmengine import fileio
from mmseg.datasets import BaseSegDataset

from mmadm.registry import DATASETS
from mmadm.utils.errors import ConfigError


class CheckedSegDataset(BaseSegDataset):
    """A stock data set that says what is wrong when it finds no data.

    Without the check a missing split is a bare assertion, a missing image an error in some worker process, and an
    empty folder a NumPy error or, with ``serialize_data=False``, a training that waits forever, since mmengine's
    ``InfiniteSampler`` draws from nothing.

    Args:
        **kwargs: As for ``BaseSegDataset``.

    Raises:
        ConfigError: When the data set is first read (at construction, unless ``lazy_init``): the image folder or the
            split file is missing, a file that it lists is missing, or there is no image.
    """

    ADVICE: ClassVar[str] = ''

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images of the split and make sure that they are there.

        Raises:
            ConfigError: See the class.
        """
        folder = self.data_prefix['img_path']
        if self.ann_file and not self._exists(self.ann_file):
            self._fail(f'the split file {self.ann_file!r} does not exist')
        if not self._exists(folder):
            self._fail(f'the image folder {folder!r} does not exist')
        # an empty line in a split file is no image
        found = [data for data in super().load_data_list() if osp.basename(data['img_path']) != self.img_suffix]
        for key, what in (('img_path', 'images'), ('seg_map_path', 'label maps')):
            missing = [data[key] for data in found if key in data and not self._exists(data[key])]
            if missing:
                self._fail(f'{len(missing)} of {len(found)} {what} are missing, first {missing[0]!r}')
        if not found:
            self._fail('no image was found')
        return found

    def _exists(self, path: str) -> bool:
        return fileio.exists(path, backend_args=self.backend_args)

    def _fail(self, found: str) -> None:
        asked = f'data_root={self.data_root!r}, ann_file={self.ann_file!r}, data_prefix={self.data_prefix!r}'
        raise ConfigError(f'{type(self).__name__}: {found}; asked for {asked}. {self.ADVICE}')


@DATASETS.register_module()
class CamVidDataset(CheckedSegDataset):
    """CamVid with the 11 classes of SegNet, void as 255 (Brostow et al., PRL 2009; Badrinarayanan et al., PAMI 2017).

    Args:
        **kwargs: As for :class:`CheckedSegDataset`. ``ann_file`` may list ``split/stem`` lines relative to the
            prefixes ``images`` and ``annotations``, or stems relative to ``images/train`` and so on.
    """

    METAINFO: ClassVar[dict[str, Any]] = dict(
        classes=(
            'Sky', 'Building', 'Pole', 'Road', 'Pavement', 'Tree', 'SignSymbol', 'Fence', 'Car', 'Pedestrian',
            'Bicyclist',
        ),
        palette=[
            [128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222], [128, 128, 0],
            [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192],
        ],
    )  # fmt: skip
    ADVICE = (
        'Set the environment variable MMADM_DATA to the folder that holds `camvid` (with images, annotations and '
        'splits inside), or data_root to that folder itself.'
    )
