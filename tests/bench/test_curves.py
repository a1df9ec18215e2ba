"""What the lines and bars of the figures show."""

import pytest
from matplotlib.colors import to_hex

from mmadm.bench.curves import (
    class_figure,
    learning_figure,
    loss_figure,
    method_figure,
)
from mmadm.bench.styles import method_styles

STYLES = method_styles(['student', 'adm'])


def points(line):
    return list(zip(*(data.tolist() for data in line.get_data()), strict=True))


def test_a_line_is_the_mean_over_seeds_where_all_of_them_are():
    seeds = [[(10, 1.0), (20, 2.0), (30, 9.0)], [(20, 6.0), (10, 3.0)]]
    figure = learning_figure('student', 'AP', {'student': seeds, 'adm': [[(10, 5.0)]]}, STYLES)
    (panel,) = figure.axes
    assert panel.get_ylabel() == 'val AP (%)' and panel.get_xlim()[0] == 0
    assert {line.get_label(): points(line) for line in panel.lines} == {
        'student': [(10, 2.0), (20, 4.0)],
        'adm': [(10, 5.0)],
    }
    (band,) = panel.collections  # one seed has no spread
    corners = band.get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == pytest.approx((2 - 2**0.5, 4 + 8**0.5))


def test_a_kind_of_loss_has_one_colour_and_a_teacher_is_dashed():
    keys = ['student.loss_mutual', 'teacher.loss_mutual', 'student.decode.loss_ce']
    (panel,) = loss_figure('adm', {key: [(1, value)] for value, key in enumerate(keys)}).axes
    student, teacher, task = panel.lines
    assert points(teacher) == [(1.0, 1.0)]
    assert student.get_color() == teacher.get_color() != task.get_color()
    assert [line.get_linestyle() for line in panel.lines] == ['-', '--', '-']


def test_the_task_losses_of_a_detector_can_be_told_apart():
    keys = ['loss_cls', 'loss_bbox', 'loss_centerness', 'student.foreground', 'student.foreground_area']
    (panel,) = loss_figure('adm', {key: [(1, 1.0)] for key in keys}).axes
    assert len({line.get_color() for line in panel.lines}) == len(keys)


def test_lines_of_one_kind_and_role_can_be_told_apart():
    keys = ['student.decode.loss_ce', 'student.aux.loss_ce', 'teacher.decode.loss_ce']
    (panel,) = loss_figure('task', {key: [(1, 1.0)] for key in keys}).axes
    assert len({(line.get_color(), line.get_linestyle()) for line in panel.lines}) == 3


def test_lines_far_apart_and_below_zero_are_seen():
    (far,) = loss_figure('adm', {'a.loss_consensus': [(1, 30.0)], 'a.loss_divergence': [(1, 0.02)]}).axes
    assert far.get_yscale() == 'log' and far.get_ylim()[0] < 0.02
    (near,) = loss_figure('dml', {'a.loss_mutual': [(1, 3.0)], 'b.loss_mutual': [(1, 2.0)]}).axes
    assert near.get_yscale() == 'linear' and near.get_ylim()[0] == 0
    (below,) = loss_figure('watched', {'a.similarity': [(1, -0.2), (2, 0.3)]}).axes
    assert below.get_ylim()[0] < -0.2


def test_bars_are_sorted_and_absent_classes_left_out():
    (panel,) = class_figure(['car', 'sky', 'bus'], [0.2, 0.9, float('nan')], 'similarity').axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ['car', 'sky']
    assert [bar.get_width() for bar in panel.patches] == [0.2, 0.9]


def test_methods_stand_side_by_side_and_a_class_without_a_score_has_no_bar():
    scores = {'student': {'car': 30.0, 'sign': 10.0}, 'adm': {'sign': 20.0}}
    (panel,) = method_figure(scores, STYLES, 'AP (%)').axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ['car', 'sign']
    # rows 0 and 1 share 0.8 between the methods
    bars = [(bar.get_y() + bar.get_height() / 2, bar.get_width()) for bar in panel.patches]
    assert bars == [pytest.approx(bar) for bar in [(-0.2, 30.0), (0.8, 10.0), (1.2, 20.0)]]
    top, bottom = panel.transData.transform([(0, 0), (0, 1)])[:, 1]
    assert top > bottom  # the first class is on top


def test_lines_and_bars_of_a_method_have_its_style():
    names = [f'method{number}' for number in range(18)]
    styles = method_styles(names)
    (lines,) = learning_figure('student', 'AP', {name: [[(1, 2.0)]] for name in names}, styles).axes
    drawn = {line.get_label(): (line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines.lines}
    assert drawn == {name: (style.colour, style.marker, style.line) for name, style in styles.items()}
    assert len(set(drawn.values())) == 18
    (panel,) = method_figure({name: {'car': 1.0} for name in names}, styles, 'AP').axes
    bars = {
        bar.get_label(): (to_hex(bar.patches[0].get_facecolor()), bar.patches[0].get_hatch() or '')
        for bar in panel.containers
    }
    assert bars == {name: (style.colour, style.hatch) for name, style in styles.items()}
