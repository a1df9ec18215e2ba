"""Mean similarity by class, by hand-computed values."""

import pytest
import torch

from mmadm.bench.similarity import mean_by_class


def test_mean_by_class_leaves_ignored_pixels_out():
    similarity = torch.tensor([[[0.2, 0.4], [0.6, 1.0]]])
    labels = torch.tensor([[[0, 2], [0, 255]]])
    mean = mean_by_class(similarity, labels, 3)
    assert mean[[0, 2]].tolist() == pytest.approx([0.4, 0.4])
    assert mean[1].isnan()


def test_mean_by_class_resizes_the_map_to_the_labels():
    labels = torch.zeros(1, 2, 4, dtype=torch.long)
    labels[..., 2:] = 1
    # columns 0, 1/4, 3/4, 1 as above
    assert mean_by_class(torch.tensor([[[0.0, 1.0]]]), labels, 2).tolist() == pytest.approx([0.125, 0.875])
