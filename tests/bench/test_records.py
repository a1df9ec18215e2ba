"""Reading what runs leave behind."""

import json

import pytest

from mmadm.bench.records import (
    add_json_line,
    deployed_role,
    read_json_lines,
    read_scalars,
    score_fields,
    seconds_per_iteration,
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


def test_validations_that_count_epochs_are_replaced_too(tmp_path):
    # four iterations an epoch; a checkpoint after every second: killed in the fourth, resumed from the second
    write_log(tmp_path, '20300101_000000', step(4), dict(AP=1, step=1), step(8), dict(AP=2, step=2), step(12),
              dict(AP=3, step=3), step(14))  # fmt: skip
    write_log(tmp_path, '20300101_000100', step(12), dict(AP=4, step=3))
    entries = read_scalars(tmp_path)
    assert [(entry['step'], entry.get('AP')) for entry in entries] == [
        (4, None), (1, 1), (8, None), (2, 2), (12, None), (3, 4),
    ]  # fmt: skip


def test_a_validation_without_a_step_belongs_to_the_last_iteration(tmp_path):
    # mmengine's default in a loop by iterations: the number of the epoch, which is 0
    write_log(tmp_path, '20300101_000000', step(10), dict(mIoU=1.0, step=0), step(20), dict(mIoU=2.0, step=0))
    assert [entry['step'] for entry in read_scalars(tmp_path)] == [10, 10, 20, 20]


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


def test_the_deployed_role_is_noted_or_the_student():
    scores = {'first': 1.0, 'leader': 2.0}
    assert deployed_role({'val': scores, 'deploy': 'leader'}) == 'leader'
    # records of earlier versions
    assert deployed_role({'val': {'teacher': 1.0, 'student': 2.0}}) == 'student'
    assert deployed_role({'val': {'teacher': 1.0}}) == 'teacher'


def test_a_record_after_a_torn_line_is_not_lost_with_it(tmp_path):
    file = tmp_path / 'out' / 'results.jsonl'
    add_json_line({'a': 1}, file)
    with file.open('a') as torn:
        torn.write('{"b": ')
    add_json_line({'c': 3}, file)
    add_json_line({'d': 4}, file)
    assert read_json_lines(file) == [{'a': 1}, {'c': 3}, {'d': 4}]


def test_a_full_disk_leaves_the_records(tmp_path, monkeypatch):
    file = tmp_path / 'results.jsonl'
    add_json_line({'a': 1}, file)
    monkeypatch.setattr('os.fsync', lambda descriptor: (_ for _ in ()).throw(OSError(28, 'full')))
    with pytest.raises(OSError, match='full'):
        add_json_line({'b': 2}, file)
    assert read_json_lines(file) == [{'a': 1}]
