"""The figure of gains draws what the records say, and the committed one is drawn from the committed records."""

import json
import re
from pathlib import Path

import pytest

from mmadm.bench.gains import gain_figure, gains_of, needed_seeds, seeds_to_show, write_gains
from mmadm.bench.tables import paired
from mmadm.utils.errors import ConfigError
from tests.bench.test_tables import record

ROOT = Path(__file__).resolve().parents[2]
PANELS = [ROOT / 'benchmarks/camvid_small.jsonl', ROOT / 'benchmarks/bccd_small.jsonl']


def write(path, records):
    path.write_text(''.join(json.dumps({**r, 'suite': 'camvid'}) + '\n' for r in records), encoding='utf-8')
    return path


def scores(method, *values):
    return [record(method, seed, value) for seed, value in enumerate(values)]


def test_a_panel_has_the_paired_differences_of_every_method_with_two_seeds(tmp_path):
    records = scores('student', 20.0, 22.0) + scores('adm', 21.0, 25.0) + scores('kd', 50.0)
    title, gains = gains_of(write(tmp_path / 'a.jsonl', records))
    assert title == 'CamVid: mIoU'
    assert gains == {'adm': [1.0, 3.0]}  # kd has one seed: no interval


def test_another_method_can_be_what_all_are_compared_with(tmp_path):
    records = scores('student', 20.0, 22.0) + scores('dml', 21.0, 21.0) + scores('adm', 24.0, 25.0)
    assert gains_of(write(tmp_path / 'a.jsonl', records), 'dml')[1] == {'adm': [3.0, 4.0]}


def test_rows_go_from_the_largest_gain_down_and_tell_zero_by_colour():
    panel = gain_figure([('x', {'much': [1.0, 3.0], 'more': [5.0, 5.2]})]).axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ['much', 'more']  # from the bottom
    lines = [line for line in panel.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 2]
    assert list(lines[0].get_xdata()) == pytest.approx([2 - 12.7062, 2 + 12.7062], abs=1e-3)
    assert lines[0].get_color() != lines[1].get_color()  # the first one's interval holds zero


def test_the_noise_is_that_of_the_paired_differences(tmp_path):
    records = scores('student', 20.0, 22.0, 21.0) + scores('adm', 21.0, 25.0, 23.0)  # differences 1, 3, 2: spread 1
    lines = needed_seeds([write(tmp_path / 'a.jsonl', records)], 1.0)
    assert lines == ['CamVid: mIoU, adm: 10 seeds (spread 1.00)']


def test_seeds_that_could_show_a_gain():
    # the usual table of the paired t-test at 5 % two-sided and 80 %: 34 pairs for an effect of 0.5, 10 for 1, 6 for 1.6
    assert [seeds_to_show(gain, 1.0) for gain in (0.5, 1.0, 1.6)] == [34, 10, 6]
    with pytest.raises(ConfigError, match='must be positive'):
        seeds_to_show(0.0, 1.0)


def test_records_without_an_interval_are_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r'b\.jsonl: no method has two seeds'):
        gains_of(write(tmp_path / 'b.jsonl', scores('student', 20.0) + scores('adm', 21.0)))


def test_the_committed_figure_shows_the_committed_records(tmp_path):
    def words(file):
        return re.findall(r'<text[^>]*>([^<]+)</text>', file.read_text(encoding='utf-8'))

    write_gains(PANELS, tmp_path / 'gains.svg')
    shown = words(ROOT / 'docs/gains.svg')
    assert shown == words(tmp_path / 'gains.svg')
    for _, gains in map(gains_of, PANELS):
        assert {f'{paired(values)}, {len(values)} seeds' for values in gains.values()} < set(shown)
