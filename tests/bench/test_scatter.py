"""Cost and gain of methods, from records with known scores and times."""

import itertools

import pytest

from mmadm.bench.scatter import Point, gain_figure, gain_points, gain_section
from mmadm.bench.styles import method_styles
from mmadm.bench.tables import summarise


def record(method, seed, score, time=1.0):
    return dict(
        method=method, seed=seed, val={'student': 0.0}, test={'student': score}, time=time, memory=1.0,
        parameters={'student': 1},
    )  # fmt: skip


RECORDS = [
    record('student', 0, 30.0, 0.1), record('student', 1, 32.0, 0.2), record('student', 2, 31.0, 0.4),
    record('dml', 0, 31.0, 0.8), record('dml', 1, 35.0, 0.6),
    record('adm', 2, 30.5, 0.5),
    record('kd', 3, 90.0),
]  # fmt: skip
STYLES = method_styles(['student', 'dml', 'adm', 'kd'])


def test_gains_are_paired_by_seed_and_costs_come_from_the_logs():
    # medians: 0.2 s for the plain student, 0.7 for DML; `kd` shares no seed with the plain student
    assert gain_points(summarise(RECORDS)) == [
        Point('dml', pytest.approx(3.5), False, [1.0, 3.0]),
        Point('adm', pytest.approx(2.5), False, [-0.5]),
    ]


def test_a_measured_cost_counts_and_the_sentence_says_which():
    rows = summarise(RECORDS, [dict(method='dml', step=4.25)])
    assert [(point.cost, point.measured) for point in gain_points(rows)] == [(4.25, True), (pytest.approx(2.5), False)]
    assert gain_section(rows, 'mIoU', STYLES)['source'].startswith('Cost of dml (filled): both steps measured')
    logged = gain_section(summarise(RECORDS), 'mIoU', STYLES)
    assert logged['source'].startswith('Cost: median seconds') and 'filled' not in logged['source']
    both = [dict(method=method, step=2.0) for method in ('dml', 'adm')]
    assert gain_section(summarise(RECORDS, both), 'mIoU', STYLES)['source'] == 'Cost: both steps measured side by side.'


def test_nothing_to_compare_is_no_plot():
    assert gain_section(summarise(RECORDS[:3]), 'mIoU', STYLES) is None


def test_a_point_stands_at_cost_and_mean_gain_with_a_bar_of_one_deviation():
    points = [Point('dml', 4.0, True, [1.0, 3.0]), Point('adm', 2.0, False, [-0.5])]
    (panel,) = gain_figure(points, 'AP', STYLES).axes
    dml, adm = panel.containers
    assert [line.get_xydata().tolist() for line in (dml.lines[0], adm.lines[0])] == [[[4.0, 2.0]], [[2.0, -0.5]]]
    (bar,) = dml.lines[2]
    assert bar.get_segments()[0][:, 1].tolist() == pytest.approx([2 - 2**0.5, 2 + 2**0.5])
    assert not adm.has_yerr
    assert dml.lines[0].get_color() == STYLES['dml'].colour and dml.lines[0].get_marker() == STYLES['dml'].marker
    assert (dml.lines[0].get_markerfacecolor(), adm.lines[0].get_markerfacecolor()) == (STYLES['dml'].colour, 'white')
    assert 'hollow' in panel.get_xlabel() and 'AP' in panel.get_ylabel()


def test_the_axis_tells_where_all_costs_come_from():
    labels = [
        gain_figure([Point('dml', 4.0, measured, [1.0])], 'AP', STYLES).axes[0].get_xlabel()
        for measured in (True, False)
    ]
    assert 'measured side by side' in labels[0] and 'logs' in labels[1]
    assert not any('hollow' in label for label in labels)


def test_the_numbers_of_crowded_points_do_not_cover_each_other():
    names = [f'method{number}' for number in range(18)]
    points = [Point(name, 1.4 + 0.005 * number, True, [3.0 + 0.01 * number]) for number, name in enumerate(names)]
    points[-1] = Point(names[-1], 4.0, True, [9.0])  # so that the others lie within a few pixels
    figure = gain_figure(points, 'mIoU', method_styles(names))
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert [text.get_text() for text in figure.axes[0].texts] == [str(number) for number in range(1, 19)]
    for one, other in itertools.combinations(boxes, 2):
        middle = [((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2) for box in (one, other)]
        assert not one.contains(*middle[1]) and not other.contains(*middle[0])


@pytest.mark.parametrize('name', ['two_teachers_adm', 'adm_a100_b0.01_t0.5_softmax'])
def test_the_legend_lies_inside_of_the_figure(name):
    names = [f'{name}{letter}' for letter in 'abcdef']
    points = [Point(method, 2.0 + place, True, [place]) for place, method in enumerate(names)]
    figure = gain_figure(points, 'AP', method_styles(names))
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert 0 <= box.x0 and box.x1 <= figure.bbox.x1
