"""What the command line needs to know of a stock config before anything is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config

from mmadm.adapters.unsuited import refuse_unsuited
from mmadm.utils.config import read_config, resolve_config, role_model_cfg
from mmadm.utils.errors import ConfigError
from mmadm.utils.optim_config import type_name

#: How a task is called in a sentence
TASKS = {'segmentation': 'semantic segmentation', 'detection': 'detection', 'classification': 'classification'}


@dataclass(frozen=True)
class Network:
    """A stock config that shall be a role.

    Attributes:
        name: As the user wrote it: a path or ``pkg::path``.
        path: Its file.
        cfg: Its content.
        model: Its model, with the scope of its toolbox.
    """

    name: str
    path: Path
    cfg: Config
    model: dict[str, Any]

    @property
    def title(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def task(self) -> str:
        """A key of ``TASKS``."""
        return families(self.model)[-1]


def read_network(name: str, what: str) -> Network:
    """Read a config.

    Args:
        name: A path or ``pkg::path``.
        what: What it is on the command line, for an error.

    Raises:
        ConfigError: If it is not there, is no Python config, has no model or is a distillation itself.
    """
    path = resolve_config(name)
    try:
        cfg = read_config(path)
    except (OSError, SyntaxError, ImportError, AttributeError, KeyError, NameError, TypeError, ValueError) as error:
        raise ConfigError(f'{what} {name}: cannot be read as a config ({type(error).__name__}: {error})') from error
    if 'model' not in cfg:
        raise ConfigError(f'{what} {name}: has no `model`; give the training config of one network')
    if 'roles' in cfg.model:
        raise ConfigError(f'{what} {name}: is a distillation already; give the training config of one network')
    model = role_model_cfg(dict(cfg=name))
    families(model)  # an unknown kind is refused here
    return Network(str(name), path, cfg, model)


def published_weights(network: Network) -> str | None:
    """Address of the weights that its toolbox publishes for a config; None if it names none."""
    for file in sorted(network.path.parent.glob('metafile.y*ml')):
        models = (yaml.safe_load(file.read_text(encoding='utf-8')) or {}).get('Models') or ()
        for model in models:
            if Path(str(model.get('Config'))).name == network.path.name and model.get('Weights'):
                return str(model['Weights'])
    return None


def starts_trained(node: Any) -> bool:
    """Whether any part of a stock model names weights to start from, such as those of ImageNet."""
    if isinstance(node, list | tuple):
        return any(map(starts_trained, node))
    if not isinstance(node, Mapping):
        return False
    return bool(node.get('pretrained')) or kind_of(node) == 'Pretrained' or any(map(starts_trained, node.values()))


def families(model: Mapping[str, Any]) -> list[str]:
    """Kinds that a stock model belongs to, from the finest to its task.

    Args:
        model: Config of the model.

    Raises:
        ConfigError: If it is of no task that is known.
    """
    kind = kind_of(model).lower()
    if 'decode_head' in model:
        heads = ' '.join(map(kind_of, _listed(model['decode_head'])))
        return [*(['mask_queries'] if 'MaskFormer' in heads or 'Mask2Former' in heads else []), 'segmentation']
    if 'panoptic_head' in model:
        return ['mask_queries', 'detection']
    if 'roi_head' in model:
        return [kind, 'two_stage', 'detection']
    if 'bbox_head' in model:
        head = next(map(kind_of, _listed(model['bbox_head'])), '').lower()
        return [kind, head, *(['detr'] if 'num_queries' in model or 'encoder' in model else []), 'detection']
    if 'head' in model and 'backbone' in model:
        return ['classification']
    refuse_unsuited(model)
    raise ConfigError(
        f'model.type={model.get("type")!r}: neither a segmentor with `decode_head` nor a detector with `bbox_head`, '
        '`roi_head` or `panoptic_head`'
    )


def kind_of(cfg: Mapping[str, Any]) -> str:
    """Name of the class that a config builds, without its toolbox; in a new-style config `type` is the class itself."""
    return type_name(cfg.get('type', ''))


def class_count(model: Mapping[str, Any]) -> int | None:
    """Number of classes that a stock model predicts; None if its config does not say."""
    roi = next(_listed(model.get('roi_head')), {})
    heads = [*_listed(model.get('decode_head')), *_listed(model.get('bbox_head')), *_listed(roi.get('bbox_head'))]
    for head in [*_listed(model.get('panoptic_head')), *_listed(model.get('head')), *reversed(heads)]:
        if 'num_things_classes' in head:
            return int(head['num_things_classes']) + int(head['num_stuff_classes'])
        if 'num_classes' in head:
            return int(head['num_classes'])
    return None


def classes_override(model: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """What to merge into a stock model so that it predicts another number of classes.

    Class weights follow: equal ones are repeated, with the last one kept where it stands for no object.

    Args:
        model: Config of the model.
        classes: The new number.

    Raises:
        ConfigError: If the model does not say how many it has, or has things and stuff.
    """
    former = class_count(model)
    if former is None or 'panoptic_head' in model:
        raise ConfigError(
            f'--classes={classes}: {model.get("type")} does not have one `num_classes`; write the number into a config'
        )
    found = _override(model, former, classes)
    return {} if classes == former else found


def _override(node: Any, former: int, classes: int) -> dict[str, Any]:
    items = node.items() if isinstance(node, Mapping) else ((str(index), value) for index, value in enumerate(node))
    found: dict[str, Any] = {}
    for key, value in items:
        if key == 'num_classes' and value == former:
            found[key] = classes
        elif key == 'class_weight' and isinstance(value, list | tuple):
            found[key] = _weights(list(value), former, classes)
        elif isinstance(value, Mapping) or (
            isinstance(value, list | tuple) and any(isinstance(v, dict) for v in value)
        ):
            inner = _override(value, former, classes)
            if inner:
                found[key] = inner
    return found


def _weights(weights: list[float], former: int, classes: int) -> list[float]:
    background = weights[former:]
    if len(set(weights[:former])) > 1:
        raise ConfigError(
            f'--classes={classes}: the config weighs its {former} classes differently (class_weight={weights}); write '
            'the new weights into a config'
        )
    return weights[:1] * classes + background


def train_pipeline(cfg: Mapping[str, Any]) -> list[Any]:
    """Transforms of a config's training images, inside any wrapper; empty if there are none."""
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    found = list(dataset.get('pipeline') or ())
    while 'dataset' in dataset or 'datasets' in dataset:
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
        found = [*(dataset.get('pipeline') or ()), *found]
    return found


def crop_size(cfg: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width that the last ``RandomCrop`` or ``Pad`` of the training images leaves; None if it may vary."""
    size = None
    for step in train_pipeline(cfg):
        kind = kind_of(step)
        given = step.get('crop_size') if kind == 'RandomCrop' else step.get('size') if kind == 'Pad' else None
        if step.get('crop_type', 'absolute') == 'absolute' and given is not None:
            size = (given, given) if isinstance(given, int) else (int(given[0]), int(given[1]))
        elif 'Mosaic' in kind or 'Resize' in kind:
            size = None
    return size


def _listed(value: Any) -> Iterator[Mapping[str, Any]]:
    """A part of a model, which may be one dict, a list of them, or not there."""
    yield from [value] if isinstance(value, Mapping) else value or ()
