"""Scores as the evaluators of mmseg and mmdet leave them."""

import pytest

from mmadm.bench.metrics import METRICS, TASKS, class_scores, role_scores


def test_scores_of_segmentors_by_role():
    stock = {'aAcc': 80.0, 'mIoU': 40.5, 'step': 8}
    assert role_scores(stock) == {'mIoU': {'student': 40.5}}
    assert role_scores(stock, 'teacher') == {'mIoU': {'teacher': 40.5}}
    assert role_scores({'student/mIoU': 1.0, 'teacher/mIoU': 2.0, 'teacher/mAcc': 3.0}) == {
        'mIoU': {'student': 1.0, 'teacher': 2.0}
    }


def test_scores_of_detectors_are_told_in_percent():
    stock = {'coco/bbox_mAP_50': 0.5, 'coco/bbox_mAP': 0.25, 'coco/bbox_mAP_75': 0.1, 'coco/segm_mAP': 0.3}
    assert role_scores(stock) == {'AP': {'student': 25.0}, 'AP50': {'student': 50.0}}
    assert next(iter(role_scores(stock))) == 'AP'  # the main one
    by_role = role_scores({f'{role}/{key}': value for role in ('a', 'b') for key, value in stock.items()}, 'teacher')
    assert by_role == {'AP': {'a': 25.0, 'b': 25.0}, 'AP50': {'a': 50.0, 'b': 50.0}}


def test_a_training_step_has_no_scores():
    assert role_scores({'loss': 1.0, 'student.loss_bbox': 2.0, 'step': 3}) == {}


def test_every_main_metric_has_a_task():
    assert set(TASKS) < {metric.name for metric in METRICS}


TABLE = """11/21 23:00:00 - mmengine - INFO - per class results:
11/21 23:00:00 - mmengine - INFO -
+---------------+-------+-------+
|     Class     |  IoU  |  Acc  |
+---------------+-------+-------+
|      road     | 93.12 | 97.31 |
| traffic light |  {}  |  10.0 |
|      sky      |  {}  |  nan  |
+---------------+-------+-------+
11/21 23:00:00 - mmengine - INFO - Iter(test) [2/2]    aAcc: 87.3100  mIoU: 18.9000
"""


def test_class_scores_of_segmentors_are_those_of_the_last_table():
    # the sky was seen in the first table only
    log = TABLE.format(1.0, 2.0) + TABLE.format(4.5, 'nan')
    assert class_scores({'mIoU': 18.9}, log) == {'student': {'road': 93.12, 'traffic light': 4.5}}
    assert class_scores({'mIoU': 18.9}, 'no table here') == {}


def test_class_scores_of_detectors_are_among_the_metrics():
    metrics = {'coco/car_precision': 0.5, 'coco/traffic sign_precision': 0.25, 'coco/bus_precision': float('nan')}
    expected = {'car': 50.0, 'traffic sign': 25.0}
    assert class_scores({**metrics, 'coco/bbox_mAP': 0.375}, '', 'teacher') == {'teacher': expected}
    roles = {f'{role}/{key}': value for role in ('student', 'teacher') for key, value in metrics.items()}
    assert class_scores(roles, '') == {'student': pytest.approx(expected), 'teacher': pytest.approx(expected)}
