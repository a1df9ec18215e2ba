"""Settings of ADM, read from method names and compared by hand-computed values."""

import math

import pytest

from mmadm.bench.ablation import ablation_figure, ablation_section, facts, grids, settings
from mmadm.bench.tables import summarise


def record(method, seed, score):
    return dict(
        method=method, seed=seed, val={'student': score, 'teacher': 50.0}, test={'student': 99.0, 'teacher': 99.0},
        time=1.0, memory=1.0, parameters={'student': 1},
    )  # fmt: skip


SCORES = {
    'student': (10.0, 10.0),
    'dml': (20.0, 30.0),
    'adm_a10_b0.1_t0.1_softmax': (21.0, 32.0),  # +1, +2
    'adm_a2_b0.1_t0.1_softmax': (20.0, 30.0),  # 0, 0
    'adm_a10_b1_t0.1_softmax': (19.0, 30.0),  # -1, 0
    'adm_a10_b0.1_t0.05_topk': (23.0, 32.0),  # +3, +2
    'adm': (90.0, 90.0),
}
ROWS = summarise([record(m, seed, score) for m, pair in SCORES.items() for seed, score in enumerate(pair)], split='val')


def test_names_tell_the_settings_and_gains_are_paired_with_dml_on_val():
    found = settings(ROWS)
    assert [(s.alpha, s.beta, s.tau, s.region) for s in found] == [
        (10, 0.1, 0.1, 'softmax'), (2, 0.1, 0.1, 'softmax'), (10, 1, 0.1, 'softmax'), (10, 0.1, 0.05, 'topk'),
    ]  # fmt: skip
    assert [s.gains for s in found] == [[1, 2], [0, 0], [-1, 0], [3, 2]]


def test_a_panel_for_each_tau_and_region_with_ascending_axes():
    tables = grids(settings(ROWS))
    assert list(tables) == [(0.1, 'softmax'), (0.05, 'topk')]
    gap = math.nan
    assert tables[0.1, 'softmax'].ravel().tolist() == pytest.approx([0.0, gap, 1.5, -0.5], nan_ok=True)
    assert tables[0.05, 'topk'].ravel().tolist() == pytest.approx([gap, gap, 2.5, gap], nan_ok=True)


def test_the_figure_shows_each_gain_on_one_scale_around_no_change():
    *panels, bar = ablation_figure(settings(ROWS), 'mIoU').axes
    assert [panel.get_title(loc='left') for panel in panels] == ['softmax, tau 0.1', 'topk, tau 0.05']
    assert [[text.get_text() for text in panel.texts] for panel in panels] == [['+0.0', '+1.5', '-0.5'], ['+2.5']]
    assert {panel.images[0].get_clim() for panel in panels} == {(-2.5, 2.5)}
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ['2', '10']
    assert [label.get_text() for label in panels[0].get_xticklabels()] == ['0.1', '1']
    assert 'mIoU' in bar.get_xlabel()


def test_facts_say_how_far_settings_and_seeds_are_apart():
    # gains 1.5, 0, -0.5, 2.5: mean 0.875, squared distances 0.390625 + 0.765625 + 1.890625 + 2.640625
    found = dict(facts(settings(ROWS)))
    assert found['min'] == '-0.50 (adm_a10_b1_t0.1_softmax)' and found['max'] == '+2.50 (adm_a10_b0.1_t0.05_topk)'
    assert found['std over settings'] == f'{(5.6875 / 3) ** 0.5:.2f}'
    # of two values d apart: d / sqrt(2)
    assert found['std over the seeds of a setting, mean'] == f'{(1 + 0 + 1 + 1) / 4 / 2**0.5:.2f}'
    assert (found['settings'], found['seeds'], found['mean']) == ('4', '2', '+0.88')


def test_few_settings_or_no_mutual_learning_is_no_section():
    assert ablation_section(ROWS, 'mIoU') is not None
    assert ablation_section([row for row in ROWS if 'topk' not in row.method], 'mIoU') is None
    assert ablation_section([row for row in ROWS if row.method != 'dml'], 'mIoU') is None
