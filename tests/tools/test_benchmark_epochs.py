"""A suite whose trainings count in epochs, from the plan to the report."""

import pytest
from tiny_runs import load_tool, stock_config, write_images

from mmadm.utils.runs import read_json_lines, read_scalars


def test_a_training_by_epochs_is_trained_scored_and_reported(tmp_path):
    cfg = stock_config(write_images(tmp_path / 'data'), infinite=False)
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=1)
    cfg.default_hooks.checkpoint = dict(type='mmadm.RoleCheckpointHook', by_epoch=True, interval=1)
    cfg.default_hooks.logger.log_metric_by_epoch = True
    cfg.log_processor.by_epoch = True
    cfg.dump(tmp_path / 'epochs.py')
    tool, out = load_tool('benchmark'), tmp_path / 'out'
    tool.SUITES['epochs'] = {'student': str(tmp_path / 'epochs.py')}
    tool.NOTES['epochs'] = ('Epochs', 'A note.')
    assert tool.main(['run', 'epochs', '--out', str(out)]) == 0
    (record,) = read_json_lines(out / 'results.jsonl')
    assert record['epochs'] == 2 and 'iterations' not in record
    scores = [entry['mIoU'] for entry in read_scalars(out / 'student/seed0') if 'mIoU' in entry]
    assert len(scores) == 2 and record['val'] == {'student': pytest.approx(scores[-1])}
    assert tool.main(['report', str(out)]) == 0
    assert '2 epochs' in (out / 'report.html').read_text(encoding='utf-8')
