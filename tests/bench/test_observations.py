"""Overlaps with objects, from logs that a test writes."""

import json

import pytest

from mmadm.bench.observations import observation_plots, overlap_curves, overlap_figure
from mmadm.bench.styles import INK


def write_run(work_dir, *entries):
    folder = work_dir / '20300101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(json.dumps(entry) for entry in entries))
    return work_dir


def step(number, similar, active, teacher, chance):
    return {
        'step': number, 'loss': 1.0, 'small.overlap_similar': similar, 'small.overlap_active': active,
        'large.overlap_active': teacher, 'small.overlap_chance': chance, 'small.similarity': 0.9,
    }  # fmt: skip


@pytest.fixture
def runs(tmp_path):
    first = write_run(tmp_path / 'adm/seed0', step(10, 0.2, 0.3, 0.4, 0.1), step(20, 0.4, 0.5, 0.6, 0.1))
    second = write_run(tmp_path / 'adm/seed1', step(10, 0.4, 0.5, 0.4, 0.1), step(20, 0.6, 0.5, 0.8, 0.3))
    plain = write_run(tmp_path / 'dml/seed0', {'step': 10, 'loss': 1.0, 'small.similarity': 0.9})
    return [first, second, plain]


def test_curves_are_found_by_the_end_of_their_keys(runs):
    curves = overlap_curves(runs[:2])
    assert set(curves) == {
        'small.overlap_similar', 'small.overlap_active', 'large.overlap_active', 'small.overlap_chance',
    }  # fmt: skip
    assert curves['small.overlap_similar'] == [[(10, 0.2), (20, 0.4)], [(10, 0.4), (20, 0.6)]]
    assert overlap_curves(runs[2:]) == {}


def test_each_panel_compares_the_mean_over_seeds_with_chance(runs):
    above, below = overlap_figure('adm', overlap_curves(runs[:2])).axes
    lines = [{line.get_label(): line for line in panel.lines} for panel in (above, below)]
    similar, chance = (lines[0][f'small: {name} positions'] for name in ('the most similar', 'random'))
    assert similar.get_ydata().tolist() == pytest.approx([0.3, 0.5])
    assert chance.get_ydata().tolist() == pytest.approx([0.1, 0.2])
    student, teacher = (lines[1][f'{role}: the strongest activations'] for role in ('small', 'large'))
    assert student.get_ydata().tolist() == pytest.approx([0.4, 0.5])
    assert teacher.get_ydata().tolist() == pytest.approx([0.4, 0.7])
    assert (student.get_linestyle(), teacher.get_linestyle()) == ('-', '--')
    assert student.get_color() == similar.get_color() != teacher.get_color()
    dotted = [line for line in below.lines if line.get_color() == INK]
    assert [line.get_ydata().tolist() for line in dotted] == [pytest.approx([0.1, 0.2])]
    assert [len(panel.lines) for panel in (above, below)] == [2, 3]


def test_only_methods_that_logged_them_have_a_plot(runs, tmp_path):
    records = [
        dict(method='adm', work_dir='adm/seed0'), dict(method='adm', work_dir='adm/seed1'),
        dict(method='dml', work_dir='dml/seed0'),
    ]  # fmt: skip
    assert [plot.caption for plot in observation_plots(tmp_path, records)] == ['overlap with objects, adm']
    assert observation_plots(tmp_path, records[2:]) == []
