"""Looks at frozen teachers before they teach: a teacher that knows nothing spoils a training without any error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmadm.engine.generators import undisturbed
from mmadm.engine.provenance import normalisation, recorded_classes, recorded_normalisation, same_values
from mmadm.registry import HOOKS
from mmadm.utils.errors import ConfigError, first_of
from mmadm.utils.unwrap import unwrapped

MODES = ('error', 'warn', 'off')
#: Below this share of what predicting one class everywhere can score, plus a tenth, a mIoU means nothing
_MIOU, _MIOU_MARGIN = 'mIoU', 1.1
#: A detector that guesses scores next to 0
_AP, _AP_FLOOR = 'coco/bbox_mAP', 0.01


@HOOKS.register_module()
class TeacherGuardHook(Hook):
    """Checks every frozen role of an ``mmadm.Distillation`` before training starts.

    Found fault with is a role that

    - has no checkpoint, and so would teach random numbers; if ``init_cfg`` loads all that its taps depend on, such as
      a pretrained backbone, it needs none;
    - sees images normalised otherwise than in the training of its checkpoint; checkpoints that do not tell are not
      compared;
    - was trained on other classes than this data set has, and class scores or boxes of it are tapped;
    - scores no better than chance on a few validation batches, by the run's own evaluator. For ``mIoU`` (percent) that
      is up to 1.1 times 100 / number of classes, as predicting one class everywhere cannot reach 100 / number; for
      ``coco/bbox_mAP`` (0 to 1) below 0.01. Other metrics are logged but not judged.

    Networks and random generators stay as they were. A resumed run is not checked again.

    Args:
        teacher_check: ``'error'`` stops the run, ``'warn'`` logs a warning, ``'off'`` checks nothing.
        batches: Number of validation batches for each process, taken evenly from the whole set.

    Raises:
        ConfigError: If an argument is none of these; before training, if a role is found fault with.
    """

    def __init__(self, teacher_check: str = 'error', batches: int = 8) -> None:
        if teacher_check not in MODES:
            raise ConfigError(f'TeacherGuardHook.teacher_check={teacher_check!r}: must be one of {list(MODES)}')
        if batches < 1:
            raise ConfigError(f"TeacherGuardHook.batches={batches}: need at least 1; teacher_check='off' scores none")
        self.teacher_check = teacher_check
        self.batches = batches
        self._replaced: set[str] = set()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note which roles take their weights from the whole model's checkpoint (``load_from``)."""
        keys = (key.split('.') for key in checkpoint.get('state_dict', checkpoint) if key.startswith('roles.'))
        self._replaced = {parts[1] for parts in keys}

    def before_train(self, runner: Runner) -> None:
        """Check.

        Raises:
            ConfigError: Names every fault, on every rank.
        """
        model = unwrapped(runner.model)
        if self.teacher_check == 'off' or not getattr(model, 'frozen', ()) or runner.iter > 0:
            return
        faults = []
        scored = {}
        for role, known in model.frozen_roles.items():
            if role in self._replaced and known.predicts:
                scored[role] = 'load_from'
            elif role in model.origins:
                origin = model.origins[role]
                where = f'model.roles.{role}.checkpoint={origin.checkpoint!r}'
                faults += [f'{where}: {fault}' for fault in _other_images(origin)]
                other = _other_classes(origin, runner.train_dataloader.dataset)
                if other and not known.features_only:
                    faults.append(f'{where}: {other}')
                elif not known.predicts:
                    runner.logger.info(f'Frozen role {role!r} is not scored: it is a backbone alone.')
                elif known.whole and not other:
                    scored[role] = where
                else:
                    runner.logger.info(f'Frozen role {role!r} is not scored: it teaches features for other classes.')
            elif known.loaded or role in self._replaced:
                runner.logger.info(f'Frozen role {role!r} is not scored: only what it teaches with is pretrained.')
            else:
                faults.append(
                    f'frozen role {role!r} has no checkpoint and would teach random numbers; '
                    f'give the path of its trained weights in model.roles.{role}.checkpoint'
                )
        if scored:
            faults += self._score(runner, model, scored)
        if faults and self.teacher_check == 'error':
            raise ConfigError(
                ' '.join(f'{fault}.' for fault in faults)
                + " If it is meant to be so, set teacher_check='warn' in the TeacherGuardHook of default_hooks."
            )
        for fault in faults:
            runner.logger.warning(f'TEACHER CHECK: {fault}.')

    def _score(self, runner: Runner, model: Any, scored: Mapping[str, str]) -> list[str]:
        """Score roles on a few validation batches; returns the faults."""
        evaluator = getattr(runner.val_loop, 'evaluator', None)
        if evaluator is None:
            runner.logger.info(f'Frozen roles {list(scored)} are not scored: the config has no validation.')
            return []
        evaluators = {role: deepcopy(evaluator) for role in scored}
        images = []
        with undisturbed():
            for batch in _evenly(runner.val_dataloader, self.batches):
                images += [sample.metainfo.get('img_id') for sample in batch['data_samples']]
                for role, own in evaluators.items():
                    # stock models write their predictions into the data samples
                    mine = deepcopy(batch)
                    own.process(data_samples=model.roles[role].val_step(mine), data_batch=mine)
            images = [image for rank in all_gather_object(images) for image in rank]
            dataset = runner.val_dataloader.dataset
            classes = getattr(dataset, 'metainfo', {}).get('classes', ())
            faults = []
            for role, own in evaluators.items():
                for metric in own.metrics:
                    if hasattr(metric, 'img_ids'):  # CocoMetric would miss the objects of all other images
                        metric.img_ids = sorted(set(images))
                runner.logger.info(f'Frozen role {role!r} on {len(images)} validation images:')
                scores = own.evaluate(min(len(images), len(dataset)))  # samplers repeat images to deal equally
                told = ', '.join(f'{key}={value}' for key, value in scores.items())
                runner.logger.info(f'Frozen role {role!r} ({scored[role]}): {told}')
                fault = _near_chance(scores, len(classes))
                if not scores and any(_scores_boxes(metric) for metric in own.metrics):
                    fault = 'nothing: it detects no object in any of these images'
                if fault:
                    faults.append(
                        f'{scored[role]}: on {len(images)} validation images frozen role {role!r} scores {fault}; its '
                        'weights, its config or the order of the classes must be wrong'
                    )
        return faults


def _scores_boxes(metric: Any) -> bool:
    """Whether a metric is mmdet's CocoMetric, which gives no score at all where nothing is detected."""
    return hasattr(metric, 'img_ids') and not getattr(metric, 'format_only', False)


def _other_images(origin: Any) -> Iterator[str]:
    """Say in what the images that a role sees here differ from those on which it was trained."""
    recorded, here = recorded_normalisation(origin.meta), normalisation(origin.data_preprocessor)
    if not recorded:
        return
    for key in here:
        if not same_values(recorded[key], here[key]):
            yield (
                f'it was trained with data_preprocessor.{key}={recorded[key]}, but here the role has {here[key]}; '
                "give the role's model the data_preprocessor of its checkpoint"
            )


def _other_classes(origin: Any, dataset: Any) -> str:
    """Say in what the classes differ on which a role was trained; an empty text if they do not."""
    recorded, here = recorded_classes(origin.meta), getattr(dataset, 'metainfo', {}).get('classes')
    if not recorded or not here or recorded == tuple(here):
        return ''
    theirs, ours = (first_of(list(map(repr, names)), 12) for names in (recorded, here))
    return (
        f'it was trained on the {len(recorded)} classes ({theirs}), but the training data have the '
        f'{len(here)} classes ({ours}); give a checkpoint that was trained on these, in this order'
    )


def _near_chance(scores: Mapping[str, float], classes: int) -> str:
    """Say how near to chance a score is; an empty text if it is not."""
    if _MIOU in scores and classes > 1:
        chance = 100.0 / classes
        if not scores[_MIOU] > _MIOU_MARGIN * chance:  # so that NaN is a fault
            return (
                f'{_MIOU}={scores[_MIOU]:.2f} (percent), where predicting one of the {classes} classes everywhere '
                f'scores up to {chance:.2f} and a trained role more than {_MIOU_MARGIN * chance:.2f}'
            )
    # without any object in the images the score is -1
    elif 0 <= scores.get(_AP, -1) < _AP_FLOOR:
        return f'{_AP}={scores[_AP]:.3f} (0 to 1), where guessing scores 0 and a trained role at least {_AP_FLOOR}'
    return ''


def _evenly(loader: DataLoader[Any], number: int) -> DataLoader[Any]:
    """A loader of a few batches of another one, taken evenly; without workers, and the other one is not opened."""
    assert loader.batch_sampler is not None
    batches = list(loader.batch_sampler)
    number = min(number, len(batches))
    chosen = [batches[index * len(batches) // number] for index in range(number)]
    return DataLoader(loader.dataset, batch_sampler=chosen, collate_fn=loader.collate_fn)
