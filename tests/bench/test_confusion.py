"""Confusion matrices and their changes, by hand-computed values."""

import math

import numpy as np
import pytest
import torch

from mmadm.bench.boxes import Boxes
from mmadm.bench.confusion import chosen, confusion_figures, count_boxes, count_pixels, percentages, shown_classes
from mmadm.bench.styles import FAINT
from mmadm.bench.tables import summarise


def boxes(*rows):
    """Boxes from (left, top, right, bottom, class)."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    return Boxes(table[:, :4], table[:, 4].long())


def test_pixels_are_counted_by_true_and_predicted_class():
    labels = torch.tensor([[0, 0, 1], [2, 255, 0]])
    prediction = torch.tensor([[0, 1, 1], [0, 2, 0]])
    assert count_pixels(labels, prediction, 4).tolist() == [[2, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_rows_are_percent_of_a_class_and_an_absent_one_has_none():
    found = percentages(torch.tensor([[3, 1], [0, 0]]), 'segmentation')
    assert found.ravel().tolist() == pytest.approx([75, 25, math.nan, math.nan], nan_ok=True)


def test_classes_that_nobody_sees_are_not_shown():
    student, teacher = torch.zeros(2, 4, 4, dtype=torch.long)
    student[0, 0], teacher[0, 3] = 5, 5  # of the first class, which the teacher takes for the last
    assert shown_classes([student], 4) == [0]
    assert shown_classes([student, teacher], 4) == [0, 3]
    assert shown_classes([torch.zeros(2, 2)], 2) == [0, 1]


def test_boxes_are_right_mistaken_missed_or_false():
    truth = boxes((0, 0, 10, 10, 0), (20, 0, 30, 10, 1), (40, 0, 50, 10, 1), (60, 0, 70, 10, 0))
    predicted = boxes(
        (0, 0, 10, 9, 0),  # right
        (0, 0, 10, 10, 1),  # too late: that box is taken, so false
        (20, 0, 30, 10, 0),  # the wrong class
        (40, 0, 50, 5, 1),  # half is enough
        (60, 0, 70, 4, 0),  # too little: false, and the box is missed
    )
    assert count_boxes(truth, predicted, 2).tolist() == [[1, 0, 1], [1, 1, 0], [1, 1, 0]]


def test_a_prediction_takes_the_free_box_that_it_overlaps_most():
    truth = boxes((0, 0, 10, 8, 0), (0, 0, 10, 10, 1))
    predicted = boxes((0, 0, 10, 10, 1), (0, 0, 10, 10, 1))
    assert count_boxes(truth, predicted, 2).tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_without_truth_all_is_false_and_without_predictions_all_is_missed():
    one = boxes((0, 0, 10, 10, 1))
    assert count_boxes(boxes(), one, 2).tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert count_boxes(one, boxes(), 2).tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_false_boxes_are_told_by_hundred_true_ones():
    found = percentages(torch.tensor([[3, 0, 1], [0, 4, 0], [1, 3, 0]]), 'detection')
    assert found.tolist() == [[75, 0, 25], [0, 100, 0], [12.5, 37.5, 0]]


def record(method, seed, score):
    role = 'teacher' if method == 'teacher' else 'student'
    return dict(
        method=method, seed=seed, val={role: score}, test={role: -score}, time=1.0, memory=1.0, parameters={role: 1}
    )


@pytest.mark.parametrize(
    ('scores', 'expected'),
    [
        (dict(student=1, teacher=9, dml=3, adm=2, kd=5, cwd=4), ['dml', 'adm', 'kd']),
        (dict(student=1, dml=3, adm=6, kd=5), ['dml', 'adm']),
        (dict(student=9, kd=5, cwd=6), ['cwd']),
        (dict(student=1, teacher=2), []),
        (dict(dml=1, adm=2), []),
    ],
)
def test_mutual_learning_adm_and_the_best_on_val_are_chosen_once(scores, expected):
    # two seeds: the mean counts, not the best one
    records = [record(m, seed, score + (seed if m == 'cwd' else 0)) for m, score in scores.items() for seed in (0, 1)]
    assert chosen(summarise(records, split='val')) == dict.fromkeys(expected, 'student')


def test_detectors_are_compared_with_theirs():
    rows = summarise([record(method, 0, 1.0) for method in ('student_det', 'dml_det', 'adm_det')], split='val')
    assert chosen(rows) == {'dml_det': 'student_det', 'adm_det': 'student_det'}


def test_figures_share_a_scale_around_no_change_and_write_what_is_not_zero():
    changes = {'one': np.array([[0.4, -0.4], [np.nan, np.nan]]), 'other': np.array([[-7.6, 7.6], [2.0, -2.0]])}
    figures = confusion_figures(changes, ['car', 'bus'], 'segmentation')
    panels = [figure.axes[0] for figure in figures.values()]
    assert [[text.get_text() for text in panel.texts] for panel in panels] == [
        ['', ''], ['-8', '+8', '+2', '-2'],
    ]  # fmt: skip
    assert {panel.images[0].get_clim() for panel in panels} == {(-7.6, 7.6)}
    absent = panels[0].images[0].cmap(np.ma.masked_invalid([np.nan]))[0]
    assert absent == pytest.approx([int(FAINT[i : i + 2], 16) / 255 for i in (1, 3, 5)] + [1])
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ['car', 'bus']


def test_a_detector_has_a_column_for_missed_and_a_row_for_false_boxes():
    (figure,) = confusion_figures({'adm': np.eye(3)}, ['car', 'bus'], 'detection').values()
    panel = figure.axes[0]
    assert [label.get_text() for label in panel.get_xticklabels()] == ['car', 'bus', 'missed']
    assert [label.get_text() for label in panel.get_yticklabels()] == ['car', 'bus', 'false']
