"""A suite whose trainings count in epochs, from the plan to the report."""

import pytest
from small_trainings import stock_config, write_images

from mmadm.bench.command import main
from mmadm.bench.records import read_json_lines, read_scalars
from mmadm.bench.suites import NOTES, SUITES


def test_a_training_by_epochs_is_trained_scored_and_reported(tmp_path):
    cfg = stock_config(write_images(tmp_path / 'data'), infinite=False)
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=1)
    cfg.default_hooks.checkpoint = dict(type='mmadm.RoleCheckpointHook', by_epoch=True, interval=1)
    cfg.default_hooks.logger.log_metric_by_epoch = True
    cfg.log_processor.by_epoch = True
    cfg.dump(tmp_path / 'epochs.py')
    out = tmp_path / 'out'
    SUITES['epochs'] = {'student': str(tmp_path / 'epochs.py')}
    NOTES['epochs'] = ('Epochs', 'A note.')
    assert main(['run', 'epochs', '--out', str(out)]) == 0
    (record,) = read_json_lines(out / 'results.jsonl')
    assert record['epochs'] == 2 and 'iterations' not in record
    scores = [entry['mIoU'] for entry in read_scalars(out / 'student/seed0') if 'mIoU' in entry]
    assert len(scores) == 2 and record['val'] == {'student': pytest.approx(scores[-1])}
    assert main(['report', str(out)]) == 0
    assert '2 epochs' in (out / 'report.html').read_text(encoding='utf-8')
