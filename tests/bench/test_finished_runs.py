"""What is read from a finished run and its data."""

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmadm.bench.finished_runs import open_run, right_pixels, truth
from mmadm.visualization.overlay import rgb_image


def test_a_packed_item_gives_image_and_labels():
    labels = torch.tensor([[[1, 2]]])
    item = dict(
        inputs=torch.tensor([[[1, 4]], [[2, 5]], [[3, 6]]], dtype=torch.uint8),  # blue, green, red
        data_samples=SegDataSample(gt_sem_seg=PixelData(data=labels)),
    )
    assert rgb_image(item).tolist() == [[[3, 2, 1], [6, 5, 4]]]
    assert truth(item).tolist() == [[1, 2]]


def test_right_pixels_leave_the_ignored_out():
    assert right_pixels(torch.tensor([[0, 1, 2, 0]]), torch.tensor([[0, 1, 1, 255]])) == pytest.approx(200 / 3)


def test_a_folder_without_a_training_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=tmp_path.name):
        open_run(tmp_path)
