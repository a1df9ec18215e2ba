"""The results table: seeds joined, methods compared."""

import pytest
from scipy.stats import ttest_rel

from mmadm.bench.records import by_metric, score_fields, scored_split
from mmadm.bench.tables import (
    baseline_of,
    comparisons,
    differences,
    interval,
    markdown_tables,
    paired,
    spread,
    summarise,
    table,
)


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


def test_table_of_detectors():
    titles, rows = table(DETECTORS)
    # nothing is compared with DML, which is not among them: no such column
    assert titles[:5] == ['method', 'AP (test)', 'AP50 (test)', 'to plain', 'other roles']
    assert [row[:5] for row in rows] == [
        ['student', '20.00', '40.00', '-', '-'],
        ['adm', '23.00 ± 1.41', '42.00 ± 1.41', '+2.0', 'teacher 30.00 ± 0.00'],
    ]


def test_detectors_without_a_test_split_show_validation():
    records = [{**r, 'test': {}} for r in DETECTORS]
    assert summarise(records)[0].scores == {'AP': {'student': [21.0]}, 'AP50': {'student': [41.0]}}


def test_tasks_have_a_table_each_and_old_records_are_segmentation():
    assert list(by_metric([*DETECTORS, *RECORDS])) == ['AP', 'mIoU']
    tables = markdown_tables([RECORDS[0], *DETECTORS])
    assert tables == '\n'.join(markdown_tables(group) for group in ([RECORDS[0]], DETECTORS))
    assert tables.count('\n\n') == 1


def test_table_of_two_methods_and_two_seeds():
    # sample standard deviations: sqrt(2), sqrt(8), sqrt(0.5); differences 1 and 3 have an interval of 12.7 times 1
    assert markdown_tables(RECORDS, [dict(method='adm', step=4.124)]).splitlines()[2:] == [
        '| student | 31.00 ± 1.41 | - | - | 2 | - | 0.150 | 150 | 1,000 |',
        '| adm | 33.00 ± 2.83 | +2.0 [-10.7, +14.7] | teacher 40.50 ± 0.71 | 2 | 4.12 | 0.150 | 150 | 1,000 |',
    ]


def test_a_column_without_any_value_is_left_out():
    with_cost, _ = table(RECORDS, [dict(method='adm', step=4.0)])
    without, _ = table(RECORDS)
    assert [title for title in with_cost if title not in without] == ['step / plain']
    assert {'to DML', 'GFLOPs'}.isdisjoint(with_cost)
    compared, _ = table([*RECORDS, record('dml', 0, 31.0, flops=1e9)])
    assert {'to DML', 'GFLOPs'} <= set(compared)


def test_flops_are_told_in_billions_where_a_record_has_them():
    titles, rows = table([record('student', 0, 30.0), record('adm', 0, 31.0, flops=205537920.0)])
    assert [row[titles.index('GFLOPs')] for row in rows] == ['-', '0.206']


def test_a_split_can_be_chosen():
    assert summarise(RECORDS, split='val')[0].scores == {'mIoU': {'student': [1.0, 1.0]}}


def test_every_row_fits_the_header():
    for records in (RECORDS, DETECTORS):
        titles, rows = table(records)
        assert {len(row) for row in rows} == {len(titles)}


def test_a_leader_is_what_its_row_is_about():
    leader = dict(record('ffsd', 0, 30.0), test={'first': 10.0, 'leader': 30.0}, deploy='leader')
    leader |= dict(val=leader['test'], parameters={'first': 5, 'leader': 7})
    _, rows = table([RECORDS[0], leader])
    assert rows[1][1:4] == ['30.00', '+0.0', 'first 10.00'] and rows[1][-1] == '7'


def test_the_validation_split_counts_where_a_test_is_missing():
    records = [*RECORDS, record('dml', 0, 50.0, test=False)]
    assert scored_split(records) == 'val'
    assert summarise(records)[0].scores == {'mIoU': {'student': [1.0, 1.0]}}


def test_spread():
    assert [spread([]), spread([1.234]), spread([1.0, 3.0], 1)] == ['-', '1.23', '2.0 ± 1.4']


METHODS = ['student', 'teacher', 'dml', 'adm', 'student_det', 'dml_det', 'adm_det', 'teacher_det']


@pytest.mark.parametrize(
    ('method', 'plain', 'dml'),
    [
        ('adm', 'student', 'dml'),
        ('dml', 'student', None),
        ('adm_det', 'student_det', 'dml_det'),
        ('student', None, None),
        ('teacher_det', None, None),
    ],
)
def test_methods_are_compared_within_their_pair(method, plain, dml):
    assert baseline_of(method, METHODS, 'student') == plain
    assert baseline_of(method, METHODS, 'dml') == dml


def test_a_method_without_its_baseline_is_not_compared():
    assert baseline_of('adm', ['adm', 'teacher'], 'student') is None
    assert comparisons(summarise(RECORDS[1::2])) == {'adm': ['-', '-']}


def test_differences_are_taken_by_seed():
    student = summarise([record('student', seed, score) for seed, score in ((2, 10.0), (0, 30.0), (1, 20.0))])[0]
    adm = summarise([record('adm', seed, score) for seed, score in ((0, 31.0), (2, 14.0), (3, 99.0))])[0]
    assert differences(adm, student) == [1.0, 4.0]


def test_the_interval_is_that_of_a_paired_t_test():
    ours, theirs = [33.1, 35.2, 31.7, 34.4], [32.0, 33.9, 31.5, 32.8]
    low, high = ttest_rel(ours, theirs).confidence_interval(0.95)
    gaps = [a - b for a, b in zip(ours, theirs, strict=True)]
    assert interval(gaps) == pytest.approx((low, high), rel=1e-12)
    # by hand: mean 1.05, standard deviation sqrt(1.13 / 3), t of three degrees of freedom 3.1824
    assert paired(gaps) == '+1.1 [+0.1, +2.0]'
    assert paired([1.0]) == '+1.0' and paired([]) == '-'
    assert paired([2.0, 2.0]) == '+2.0 [+2.0, +2.0]'
    assert paired([-1.0, 1.0]) == '+0.0 [-12.7, +12.7]'
