"""Boxes on pictures, by hand-computed values."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, DefaultScope
from mmengine.structures import InstanceData

from mmadm.bench.boxes import (
    Boxes,
    box_map,
    count_found,
    draw_boxes,
    overlaps,
    sure_boxes,
    true_boxes,
)


def boxes(*rows):
    """Boxes from (left, top, right, bottom, class)."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    return Boxes(table[:, :4], table[:, 4].long())


def test_overlap_is_intersection_over_union():
    found = overlaps(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2], [2, 0, 4, 2]]))
    assert found.tolist() == [[1.0, pytest.approx(1 / 3), 0.0]]


def test_a_true_box_is_found_once_and_only_by_its_class():
    truth = boxes((0, 0, 10, 10, 0), (20, 0, 30, 10, 1))
    hit, again, half, wrong = (0, 0, 10, 10, 0), (0, 0, 10, 9, 0), (20, 0, 30, 5, 1), (20, 0, 30, 10, 0)
    assert count_found(boxes(hit, again), truth) == 1
    assert count_found(boxes(hit, half), truth) == 2  # an overlap of one half is enough
    assert count_found(boxes((20, 0, 30, 4.9, 1)), truth) == 0
    assert count_found(boxes(wrong), truth) == 0
    assert count_found(boxes(), truth) == count_found(boxes(hit), boxes()) == 0


def test_the_surer_box_takes_what_both_could_find():
    truth = boxes((0, 0, 10, 10, 0), (0, 0, 10, 8, 0))
    assert count_found(boxes((0, 0, 10, 8, 0), (0, 0, 10, 9, 0)), truth) == 2


def test_outlines_are_drawn_inside_the_enlarged_box():
    image = np.zeros((4, 240, 3), dtype=np.uint8)
    drawn = draw_boxes(image, boxes((10, 0, 60, 4, 1)), [[9, 9, 9], [10, 20, 30]])
    assert drawn.shape == (8, 480, 3)
    assert drawn[4, 20].tolist() == drawn[4, 119].tolist() == [10, 20, 30]
    assert drawn[4, 60].tolist() == drawn[4, 130].tolist() == [0, 0, 0]
    assert not image.any()


def test_a_pixel_counts_for_the_smallest_box_around_it():
    small, large = (1, 0, 2, 1, 0), (-3, 0, 3, 1, 1)
    expected = [[1, 0, 1, 2], [2, 2, 2, 2]]
    assert box_map(boxes(small, large), (2, 4), 2).tolist() == expected
    assert box_map(boxes(large, small), (2, 4), 2).tolist() == expected
    assert box_map(boxes(), (1, 2), 5).tolist() == [[5, 5]]


@pytest.mark.parametrize('late', [True, False])
def test_the_truth_has_the_size_of_the_packed_image_wherever_boxes_are_loaded(tmp_path, late):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((20, 40, 3), np.uint8))
    shared = dict(image_id=1, area=50)
    notes = dict(
        images=[dict(id=1, file_name='a.png', width=40, height=20)],
        categories=[dict(id=7, name='car'), dict(id=9, name='sign')],
        annotations=[
            dict(shared, id=1, category_id=9, bbox=[4, 2, 10, 5], iscrowd=0),
            dict(shared, id=2, category_id=7, bbox=[0, 0, 10, 5], iscrowd=1),
        ],
    )
    (tmp_path / 'a.json').write_text(json.dumps(notes))
    load, resize = dict(type='LoadAnnotations', with_bbox=True), dict(type='Resize', scale=(80, 40))
    pipeline = [dict(type='LoadImageFromFile'), *([resize, load] if late else [load, resize])]
    cfg = dict(type='CocoDataset', data_root=str(tmp_path), ann_file='a.json', data_prefix=dict(img=''), test_mode=True)
    pack = dict(type='PackDetInputs', meta_keys=('img_path', 'ori_shape', 'img_shape', 'scale_factor'))
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(dict(cfg, metainfo=dict(classes=('car', 'sign')), pipeline=[*pipeline, pack]))
    truth = true_boxes(dataset, 0)
    assert truth.corners.tolist() == [[8.0, 4.0, 28.0, 14.0]]
    assert truth.labels.tolist() == [1]


def test_unsure_boxes_are_left_out_and_the_surest_comes_first():
    instances = InstanceData(
        scores=torch.tensor([0.29, 0.3, 0.9]),
        labels=torch.tensor([0, 1, 2]),
        bboxes=torch.tensor([[0.0, 0, 1, 1], [1, 1, 2, 2], [2, 2, 3, 4]]),
    )
    found = sure_boxes(instances, torch.tensor([2.0, 3.0, 2.0, 3.0]))
    assert found.labels.tolist() == [2, 1]
    assert found.corners.tolist() == [[4.0, 6.0, 6.0, 12.0], [2.0, 3.0, 4.0, 6.0]]
