"""Checkpoints that survive a crash, resume exactly and come with a stock file of the deploy role."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmadm.engine.atomic import BACKEND_ARGS
from mmadm.engine.generators import KEY, ResumeGenerators
from mmadm.registry import HOOKS
from mmadm.utils.checkpoint import NOTE, noted_checkpoint, read_checkpoint, remove_leftovers, write_checkpoint
from mmadm.utils.errors import CheckpointError, ConfigError, near_matches
from mmadm.utils.export import extract_role, fingerprint, leave_out_role, left_out_weights, role_file
from mmadm.utils.unwrap import unwrapped

#: Entry of a checkpoint: names of the files that go when it is there
REPLACED = 'mmadm_replaced_checkpoints'


@HOOKS.register_module()
class RoleCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook`` for a model of several roles; a stock model works too.

    - Beside every checkpoint, the best ones included, lies a file of the deploy role that stock mmseg or mmdet loads:
      ``iter_8.pth`` and ``iter_8_student.pth``. Both go together.
    - Frozen roles whose weights are those of their ``checkpoint`` are left out and come from there on resume.
    - Files are written aside and renamed, and an old one goes when the new one is there: a crash loses none.
    - A resumed run draws the random numbers that an uninterrupted one would draw, per rank. Exact for
      ``IterBasedTrainLoop``, and for ``EpochBasedTrainLoop`` at the end of an epoch without persistent workers; with
      ``num_workers=0`` only if no transform draws from torch.

    Args:
        **kwargs: As for ``CheckpointHook``. Checkpoints go to a local folder, so ``backend_args`` cannot be given.

    Raises:
        ConfigError: If a storage backend is given, or when ``save_best`` is not among the metrics.
    """

    def __init__(self, **kwargs: Any) -> None:
        for key in ('backend_args', 'file_client_args'):
            if kwargs.get(key) is not None:
                raise ConfigError(f'default_hooks.checkpoint.{key}: remove it; checkpoints go to a local folder')
        super().__init__(backend_args=dict(BACKEND_ARGS), **kwargs)
        self._generators = ResumeGenerators()
        self._record: dict[str, Any] | None = None
        self._deploy: str | None = None
        self._with_role_file: set[str] = set()
        self._left: list[str] = []

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Take the generator states, and what a crash may have kept from being removed.

        Raises:
            CheckpointError: If the file of a frozen role holds other weights than when the resumed training began.
        """
        self._check_same_teachers(runner, checkpoint)
        self._generators.after_load_checkpoint(checkpoint)
        self._left = [Path(name).name for name in checkpoint.pop(REPLACED, [])]

    def before_train(self, runner: Runner) -> None:
        """Find the deploy role and the folder."""
        model = unwrapped(runner.model)
        self._deploy = getattr(model, 'deploy', None)
        super().before_train(runner)
        newest = Path(self.out_dir) / self.filename_tmpl.format(runner.epoch if self.by_epoch else runner.iter)
        if newest.is_file():
            # a resumed `CheckpointHook` knows of none, and would save a best one alone where an unbroken run saves two
            self.last_ckpt = str(newest)
            self._adopt_best(runner, newest)
        self.file_backend.to_remove += [str(Path(self.out_dir) / name) for name in self._left]
        self._remove_replaced()
        if is_main_process():
            remove_leftovers(self.out_dir)
        self._with_role_file = self._tracked()
        self._generators.before_train(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the generators if an epoch loop resumes."""
        self._generators.before_train_epoch(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set the generators if an iteration loop resumes."""
        self._generators.before_train_iter(runner)

    def before_val(self, runner: Runner) -> None:
        """Keep validation from moving the generators."""
        self._generators.before_val()

    def after_val(self, runner: Runner) -> None:
        """Move the generators as in an uninterrupted stock run."""
        self._generators.after_val(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the generator states, and write the role file before the checkpoint that it belongs to.

        In this order no checkpoint is ever without its role file. This is the last hook to be called, so an average
        that another hook has put in the place of the weights is in the role file too.
        """
        if self._record is not None:
            checkpoint[KEY] = self._record
        if getattr(self, 'file_backend', None) and self.file_backend.to_remove:
            checkpoint[REPLACED] = [Path(path).name for path in self.file_backend.to_remove]
        if self._deploy is None:
            return
        for path in self._tracked() - self._with_role_file:
            write_checkpoint(extract_role(checkpoint, self._deploy), role_file(path, self._deploy))
            self._with_role_file.add(path)
        model = unwrapped(runner.model)
        for role, known in getattr(model, 'frozen_roles', {}).items():
            if known.from_file:
                weights = _fingerprint(known, model.roles[role])
                leave_out_role(checkpoint, role, model.origins[role].checkpoint, weights)

    def _check_same_teachers(self, runner: Runner, checkpoint: Mapping[str, Any]) -> None:
        model = unwrapped(runner.model)
        for role, weights in left_out_weights(checkpoint).items() if runner._resume else ():
            known = getattr(model, 'frozen_roles', {}).get(role)
            if known is not None and known.from_file and _fingerprint(known, model.roles[role]) != weights:
                raise CheckpointError(
                    f'model.roles.{role}.checkpoint={model.origins[role].checkpoint!r} holds other weights than when '
                    'this training began, which would go on with another teacher: give the file of then, or start anew '
                    'with load_from'
                )

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        self._record = self._generators.record()  # here and not when saving, which only the main process does
        with self._nothing_half(Path(runner.work_dir) / NOTE):
            super()._save_checkpoint_with_step(runner, step, meta)
        self._record = None
        self._remove_replaced()

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        if not (self.save_best and hasattr(self, 'file_backend')):
            return  # a validation without training has no folder to save to
        for key in self.key_indicators:
            if key != 'auto' and key not in metrics:
                raise ConfigError(
                    f'default_hooks.checkpoint.save_best={key!r}: validation gives no such metric; '
                    f'{near_matches(key, metrics)}'
                )
        with self._nothing_half(Path(runner.work_dir) / NOTE):
            super()._save_best_checkpoint(runner, metrics)
        self._remove_replaced()

    @contextmanager
    def _nothing_half(self, note: Path) -> Iterator[None]:
        """Where a disk refuses a file while the block runs: leave no role file alone, and no torn note."""
        written = set(self._with_role_file)
        if is_main_process() and note.is_symlink():
            note.unlink()  # mmengine would write its note into the file that the link leads to
        try:
            yield
        except OSError:
            with suppress(OSError):
                for path in self._with_role_file - written:
                    if self._deploy is not None and not Path(path).is_file():
                        role_file(path, self._deploy).unlink(missing_ok=True)
                if noted_checkpoint(note) is None:
                    note.unlink(missing_ok=True)
            raise

    def _adopt_best(self, runner: Runner, newest: Path) -> None:
        """Count a best checkpoint of the very iteration that is resumed from.

        ``CheckpointHook`` writes the best one first and then the newest again, which then knows of it. If that was cut
        off, the best one would stay for ever, and its score be unknown.
        """
        for key in self.key_indicators if self.save_best else ():
            name = '*' if key == 'auto' else escape(key.replace('/', '_'))
            for path in newest.parent.glob(f'best_{name}_{newest.name}'):
                if str(path) in self._tracked() or path.stat().st_mtime_ns < newest.stat().st_mtime_ns:
                    continue
                found = read_checkpoint(path, ['message_hub'])['message_hub']['runtime_info']
                if len(self.key_indicators) > 1:
                    self.best_ckpt_path_dict[key], end = str(path), f'_{key}'
                else:
                    self.best_ckpt_path, end = str(path), ''
                former = runner.message_hub.runtime_info.get(f'best_ckpt{end}')
                self._left += [Path(former).name] if former else []
                runner.message_hub.update_info(f'best_score{end}', found[f'best_score{end}'])
                runner.message_hub.update_info(f'best_ckpt{end}', str(path))

    def _tracked(self) -> set[str]:
        """The last and the best checkpoints, from the moment that their names are known."""
        best = getattr(self, 'best_ckpt_path_dict', None) or {'': getattr(self, 'best_ckpt_path', None)}
        return {str(path) for path in (self.last_ckpt, *best.values()) if path}

    def _remove_replaced(self) -> None:
        """Carry out the removals that ``CheckpointHook`` asked for, now that the new files are there."""
        to_remove, self.file_backend.to_remove = self.file_backend.to_remove, []
        if not is_main_process():
            return
        for path in set(to_remove) - self._tracked():
            Path(path).unlink(missing_ok=True)
            if self._deploy is not None:
                role_file(path, self._deploy).unlink(missing_ok=True)


def _fingerprint(known: Any, role: Any) -> str:
    """That of a frozen role, computed once: its weights do not change."""
    known.fingerprint = known.fingerprint or fingerprint(role.state_dict())
    return str(known.fingerprint)
