"""Reading what runs leave behind, and the table made of it."""

import json

import pytest

from mmadm.utils.runs import (
    cells,
    class_scores,
    header,
    markdown_table,
    read_json_lines,
    read_scalars,
    role_scores,
    scored_split,
    seconds_per_iteration,
    spread,
    summarise,
    validation_curves,
)


def write_log(work_dir, stamp, *lines):
    folder = work_dir / stamp / 'vis_data'
    folder.mkdir(parents=True)
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / 'scalars.json').write_text('\n'.join(text))


def step(number, **values):
    return dict(step=number, iter=number, loss=1.0, **values)


def test_a_resumed_training_replaces_what_was_logged_after_its_checkpoint(tmp_path):
    # killed after 40, in the middle of a line; the next process went on from the checkpoint at 20
    write_log(tmp_path, '20300101_000000', *(step(n, who='a') for n in (10, 20, 30, 40)), '{"step": 50, "lo')
    write_log(tmp_path, '20300101_000100', step(30, who='b'), dict(mIoU=5.0, step=30), step(40, who='b'))
    entries = read_scalars(tmp_path)
    assert [(entry['step'], entry.get('who')) for entry in entries] == [
        (10, 'a'), (20, 'a'), (30, 'b'), (30, None), (40, 'b'),
    ]  # fmt: skip


def test_no_log_is_no_entries(tmp_path):
    assert read_scalars(tmp_path) == []
    assert read_json_lines(tmp_path / 'results.jsonl') == []


def test_scores_by_role():
    stock = {'aAcc': 80.0, 'mIoU': 40.5, 'step': 8}
    assert role_scores(stock) == {'student': 40.5}
    assert role_scores(stock, 'teacher') == {'teacher': 40.5}
    assert role_scores({'student/mIoU': 1.0, 'teacher/mIoU': 2.0, 'teacher/mAcc': 3.0}) == {
        'student': 1.0,
        'teacher': 2.0,
    }


def test_validation_curves_leave_training_steps_out():
    scalars = [step(1), {'student/mIoU': 1.0, 'teacher/mIoU': 2.0, 'step': 2}, {'student/mIoU': 3.0, 'step': 4}]
    assert validation_curves(scalars) == {'student': [(2, 1.0), (4, 3.0)], 'teacher': [(2, 2.0)]}


def test_seconds_are_the_median_without_the_start():
    scalars = [step(n, time=time) for n, time in enumerate([90.0, 1.0, 5.0, 2.0])] + [dict(mIoU=1.0, time=70.0, step=4)]
    assert seconds_per_iteration(scalars) == 2.0
    assert seconds_per_iteration(scalars[:1]) == 90.0
    with pytest.raises(ValueError, match=r'logger\.interval'):
        seconds_per_iteration(scalars[-1:])


def test_class_scores_are_those_of_the_last_table():
    table = """11/21 23:00:00 - mmengine - INFO - per class results:
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
    # the sky was seen in the first table only
    assert class_scores(table.format(1.0, 2.0) + table.format(4.5, 'nan')) == {'road': 93.12, 'traffic light': 4.5}
    assert class_scores('no table here') == {}


def record(method, seed, student, teacher=None, test=True, **changes):
    scores = {'student': student} | ({} if teacher is None else {'teacher': teacher})
    sizes = {role: 1000 * (number + 1) for number, role in enumerate(scores)}
    return dict(
        method=method, seed=seed, val=dict.fromkeys(scores, 1.0), test=scores if test else {},
        time=0.1 * (seed + 1), memory=100.0 * (seed + 1), parameters=sizes, **changes,
    )  # fmt: skip


RECORDS = [
    record('student', 0, 30.0),
    record('adm', 0, 31.0, 40.0),
    record('student', 1, 32.0),
    record('adm', 1, 35.0, 41.0),
]


def test_table_of_two_methods_and_two_seeds():
    # sample standard deviations: sqrt(2), sqrt(8), sqrt(0.5)
    assert markdown_table(summarise(RECORDS), scored_split(RECORDS)).splitlines()[2:] == [
        '| student | 31.00 ± 1.41 | - | 2 | 0.150 | 150 | 1,000 | - |',
        '| adm | 33.00 ± 2.83 | 40.50 ± 0.71 | 2 | 0.150 | 150 | 1,000 | 2,000 |',
    ]


def test_every_row_fits_the_header():
    assert {len(cells(row)) for row in summarise(RECORDS)} == {len(header('test'))}
    assert header('test')[1] == 'student mIoU (test)'


def test_the_validation_split_counts_where_a_test_is_missing():
    records = [*RECORDS, record('dml', 0, 50.0, test=False)]
    assert scored_split(records) == 'val'
    assert summarise(records)[0].scores == {'student': [1.0, 1.0]}


def test_spread():
    assert [spread([]), spread([1.234]), spread([1.0, 3.0], 1)] == ['-', '1.23', '2.0 ± 1.4']
