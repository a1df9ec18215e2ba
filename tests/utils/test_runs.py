"""Reading what runs leave behind, and the table made of it."""

import json

import pytest

from mmadm.utils.runs import (
    by_metric,
    cells,
    header,
    markdown_table,
    markdown_tables,
    read_json_lines,
    read_scalars,
    score_fields,
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


def test_validation_curves_leave_training_steps_out():
    scalars = [step(1), {'student/mIoU': 1.0, 'teacher/mIoU': 2.0, 'step': 2}, {'student/mIoU': 3.0, 'step': 4}]
    assert validation_curves(scalars) == {'mIoU': {'student': [(2, 1.0), (4, 3.0)], 'teacher': [(2, 2.0)]}}


def test_validation_curves_of_a_detector_start_with_the_main_metric():
    scalars = [{'coco/bbox_mAP_50': 0.5, 'coco/bbox_mAP': 0.25, 'step': 2}]
    curves = validation_curves(scalars, 'teacher')
    assert list(curves.items()) == [('AP', {'teacher': [(2, 25.0)]}), ('AP50', {'teacher': [(2, 50.0)]})]


def test_seconds_are_the_median_without_the_start():
    scalars = [step(n, time=time) for n, time in enumerate([90.0, 1.0, 5.0, 2.0])] + [dict(mIoU=1.0, time=70.0, step=4)]
    assert seconds_per_iteration(scalars) == 2.0
    assert seconds_per_iteration(scalars[:1]) == 90.0
    with pytest.raises(ValueError, match=r'logger\.interval'):
        seconds_per_iteration(scalars[-1:])


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


def detector(method, seed, **scores):
    """Record of a detector from (AP, AP50) by role; in validation each is 1 more."""
    test = {name: {role: pair[i] for role, pair in scores.items()} for i, name in enumerate(('AP', 'AP50'))}
    val = {name: {role: score + 1 for role, score in by_role.items()} for name, by_role in test.items()}
    return record(method, seed, 0.0) | score_fields(val, test)


DETECTORS = [
    detector('student', 0, student=(20.0, 40.0)),
    detector('adm', 0, student=(22.0, 41.0), teacher=(30.0, 50.0)),
    detector('adm', 1, student=(24.0, 43.0), teacher=(30.0, 51.0)),
]


def test_score_fields():
    assert score_fields({'mIoU': {'student': 1.0}}, {}) == {
        'metric': 'mIoU', 'val': {'student': 1.0}, 'test': {}, 'further': {}
    }  # fmt: skip
    fields = score_fields({'AP': {'teacher': 1.0}, 'AP50': {'teacher': 2.0}}, {'AP': {'teacher': 3.0}})
    assert fields == {
        'metric': 'AP',
        'val': {'teacher': 1.0},
        'test': {'teacher': 3.0},
        'further': {'AP50': {'val': {'teacher': 2.0}, 'test': {}}},
    }


def test_table_of_detectors():
    titles, _, *rows = markdown_table(summarise(DETECTORS), scored_split(DETECTORS)).splitlines()
    assert titles.startswith(
        '| method | student AP (test) | student AP50 (test) | teacher AP (test) | teacher AP50 (te'
    )
    assert [row.split(' | 0.')[0] for row in rows] == [
        '| student | 20.00 | 40.00 | - | - | 1',
        '| adm | 23.00 ± 1.41 | 42.00 ± 1.41 | 30.00 ± 0.00 | 50.50 ± 0.71 | 2',
    ]


def test_detectors_without_a_test_split_show_validation():
    records = [{**r, 'test': {}} for r in DETECTORS]
    assert summarise(records)[0].scores == {'AP': {'student': [21.0]}, 'AP50': {'student': [41.0]}}


def test_tasks_have_a_table_each_and_old_records_are_segmentation():
    assert list(by_metric([*DETECTORS, *RECORDS])) == ['AP', 'mIoU']
    tables = markdown_tables([RECORDS[0], *DETECTORS])
    assert tables == '\n'.join(markdown_table(summarise(group), 'test') for group in ([RECORDS[0]], DETECTORS))
    assert tables.count('\n\n') == 1


def test_table_of_two_methods_and_two_seeds():
    # sample standard deviations: sqrt(2), sqrt(8), sqrt(0.5)
    assert markdown_table(summarise(RECORDS), scored_split(RECORDS)).splitlines()[2:] == [
        '| student | 31.00 ± 1.41 | - | 2 | 0.150 | 150 | 1,000 | - |',
        '| adm | 33.00 ± 2.83 | 40.50 ± 0.71 | 2 | 0.150 | 150 | 1,000 | 2,000 |',
    ]


def test_every_row_fits_the_header():
    for records, metrics in ((RECORDS, ['mIoU']), (DETECTORS, ['AP', 'AP50'])):
        assert {len(cells(row)) for row in summarise(records)} == {len(header('test', metrics))}
    assert header('test', ['mIoU'])[1] == 'student mIoU (test)'


def test_the_validation_split_counts_where_a_test_is_missing():
    records = [*RECORDS, record('dml', 0, 50.0, test=False)]
    assert scored_split(records) == 'val'
    assert summarise(records)[0].scores == {'mIoU': {'student': [1.0, 1.0]}}


def test_spread():
    assert [spread([]), spread([1.234]), spread([1.0, 3.0], 1)] == ['-', '1.23', '2.0 ± 1.4']
