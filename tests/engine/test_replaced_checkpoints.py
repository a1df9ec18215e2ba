"""A crash between a save and the removal of what it replaces leaves no stray file behind for good."""

import mmengine.runner.runner as runner_module
import pytest
from small_trainings import role_config, runner_of, write_images

from mmadm.engine import RoleCheckpointHook


def names(folder):
    return sorted(path.name for path in folder.glob('*.pth'))


def test_what_a_crash_kept_from_being_removed_goes_on_resume(tmp_path, monkeypatch):
    cfg = role_config(write_images(tmp_path / 'data'), iterations=6)
    cfg.default_hooks.checkpoint.update(interval=2, max_keep_ckpts=1)
    work_dir, remove = tmp_path / 'run', RoleCheckpointHook._remove_replaced

    def crash(hook):
        """Like the method, but the process ends when the second checkpoint is there."""
        if (work_dir / 'iter_4.pth').is_file():
            raise KeyboardInterrupt
        remove(hook)

    monkeypatch.setattr(RoleCheckpointHook, '_remove_replaced', crash)
    with pytest.raises(KeyboardInterrupt):
        runner_of(cfg, work_dir).train()
    assert names(work_dir) == ['iter_2.pth', 'iter_2_student.pth', 'iter_4.pth', 'iter_4_student.pth']
    monkeypatch.undo()
    runner_of(cfg, work_dir, resume=True, load_from=str(work_dir / 'iter_4.pth')).train()
    assert names(work_dir) == ['iter_6.pth', 'iter_6_student.pth']


def test_a_role_file_cut_off_from_its_checkpoint_goes_with_it_later(tmp_path, monkeypatch):
    cfg = role_config(write_images(tmp_path / 'data'), iterations=8, role_val=True)
    cfg.default_hooks.checkpoint.update(interval=2, max_keep_ckpts=1, save_best='student/mIoU', rule='greater')
    cfg.train_cfg.val_interval = 3  # the best of iteration 3 is the only one, and saved between two intervals
    work_dir, save = tmp_path / 'run', runner_module.save_checkpoint

    def crash(checkpoint, filename, *args, **kwargs):
        """Like the function, but the process ends when only the role file of iteration 3 is there."""
        if filename.endswith('iter_3.pth') and 'best' not in filename:
            raise KeyboardInterrupt
        save(checkpoint, filename, *args, **kwargs)

    monkeypatch.setattr(runner_module, 'save_checkpoint', crash)
    with pytest.raises(KeyboardInterrupt):
        runner_of(cfg, work_dir).train()
    assert 'iter_3_student.pth' in names(work_dir) and 'iter_3.pth' not in names(work_dir)
    monkeypatch.undo()
    runner_of(cfg, work_dir, resume=True, load_from=str(work_dir / 'iter_2.pth')).train()
    whole = tmp_path / 'whole'
    runner_of(cfg, whole).train()
    assert names(work_dir) == names(whole)
