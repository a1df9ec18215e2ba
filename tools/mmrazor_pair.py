"""An offline pair in mmrazor's terms: which configs it can train too, and the same model and weights for it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NoReturn

from mmengine.config import Config
from torch import Tensor, nn

from mmadm.adapters import build_adapter
from mmadm.adapters.taps import split_levels
from mmadm.distillers import Transfer
from mmadm.distillers.base import level_key
from mmadm.losses import ChannelWiseDivergence, KLDivergence, MaskedGeneration, PearsonDistance
from mmadm.registry import MODELS
from mmadm.utils.config import without_pretrained
from mmadm.utils.errors import ConfigError
from mmadm.utils.export import role_config

LOSSES = (ChannelWiseDivergence, KLDivergence, MaskedGeneration, PearsonDistance)
#: ours alone, which would make the comparison one of other things than the same step
OWN_MODEL_OPTIONS = ('teacher_dtype', 'compile')
OWN_TRANSFER_OPTIONS = ('avatars', 'connector', 'schedule')


@dataclass(frozen=True)
class Pair:
    """A student, a frozen teacher and what goes from one to the other.

    Attributes:
        student: Name of the role that learns.
        teacher: Name of the frozen role.
        transfer: The distiller.
        models: Stock model config of each role, without weights to load.
    """

    student: str
    teacher: str
    transfer: Transfer
    models: Mapping[str, dict[str, Any]]

    @property
    def taps(self) -> dict[str, str]:
        """What is read, by role."""
        (edge,) = self.transfer.edges()
        return {self.student: edge.learner_tap, self.teacher: edge.source_tap}


@dataclass(frozen=True)
class Level:
    """One map of the student and the teacher's that it is compared with.

    Attributes:
        index: By role: which tensor of the module's output; None if the output is one tensor.
        shapes: By role: (C, H, W).
    """

    index: Mapping[str, int | None]
    shapes: Mapping[str, tuple[int, ...]]


def refuse(found: str, needed: str) -> NoReturn:
    """Say why mmrazor cannot make this step."""
    raise ConfigError(f'--against mmrazor: {found} has no counterpart there; {needed}')


def read_pair(cfg: Config) -> Pair:
    """Find what mmrazor can train too.

    Args:
        cfg: Config of an ``mmadm.Distillation``.

    Raises:
        ConfigError: If anything in it is not comparable; names the key.
    """
    model = cfg.model
    roles, frozen = list(model.get('roles', {})), list(model.get('frozen', ()))
    if len(roles) != 2 or len(frozen) != 1:
        refuse(f'model.roles={roles} with model.frozen={frozen}', 'need one student and one frozen teacher')
    for key in (key for key in OWN_MODEL_OPTIONS if model.get(key)):
        refuse(f'model.{key}={model[key]!r}', 'leave it out')
    for role in (role for role in roles if model.roles[role].get('train')):
        refuse(f'model.roles.{role}.train', 'leave it out')
    (teacher,) = frozen
    (student,) = (role for role in roles if role != teacher)
    models = {role: stock_model(cfg, role) for role in roles}
    if models[student].get('data_preprocessor') != models[teacher].get('data_preprocessor'):
        refuse("a teacher's data_preprocessor that differs from the student's", 'make them equal')
    transfer = read_transfer(model.get('distillers', []))
    if isinstance(transfer.loss, ChannelWiseDivergence) and channels_last_hooks(cfg):
        # its `view` of such a map fails, and in another memory format than ours it would be another comparison
        refuse(
            'custom_hooks: ChannelsLastHook with ChannelWiseDivergence', 'leave it out: --cfg-options custom_hooks=[]'
        )
    return Pair(student, teacher, transfer, models)


def channels_last_hooks(cfg: Config) -> list[Any]:
    """The hooks that change the memory format."""
    return [hook for hook in cfg.get('custom_hooks') or () if 'ChannelsLastHook' in str(hook.get('type'))]


def stock_model(cfg: Config, role: str) -> dict[str, Any]:
    """A role's stock model config, which names its toolbox and loads no weights."""
    found = without_pretrained(role_config(cfg, role).model.to_dict())
    found.setdefault('_scope_', cfg.get('default_scope', 'mmengine'))
    return found


def read_transfer(distillers: list[Any]) -> Transfer:
    """Build the only distiller; ConfigError names what mmrazor cannot do."""
    kinds = [distiller.get('type') for distiller in distillers]
    if [str(kind).removeprefix('mmadm.') for kind in kinds] != ['Transfer']:
        refuse(f'model.distillers of the types {kinds}', 'need one mmadm.Transfer')
    (options,) = distillers
    key = 'model.distillers[0]'
    for name in (name for name in OWN_TRANSFER_OPTIONS if options.get(name)):
        refuse(f'{key}.{name}', 'leave it out')
    transfer = MODELS.build({'_scope_': 'mmadm', **deepcopy(options)})
    if type(transfer.loss) not in LOSSES:
        names = ', '.join(kind.__name__ for kind in LOSSES)
        refuse(f'{key}.loss of the type {options["loss"]["type"]!r}', f'comparable: {names}')
    edges = transfer.edges()
    taps = [{split_levels(tap)[0] for tap in (edge.learner_tap, edge.source_tap)} for edge in edges]
    if taps not in ([{'logits'}], [{'feats'}]):
        refuse(f'{key}.at={options.get("at", "logits")!r}', 'comparable: logits, or feats with or without levels')
    return transfer


def find_levels(pair: Pair, model: nn.Module, batch: dict[str, Any]) -> tuple[dict[str, str], list[Level]]:
    """Run both networks up to their taps to see which modules are read and what they put out.

    Args:
        pair: The pair.
        model: The whole model, which is left in training mode.
        batch: A collated batch.

    Returns:
        Path of the module that is read, by role, and the levels.

    Raises:
        ConfigError: If mmrazor cannot read or compare that.
    """
    data = model.data_preprocessor(deepcopy(batch), True)
    sources, tensors, chosen = {}, {}, {}
    for role, tap in pair.taps.items():
        base, kept = split_levels(tap)
        network = model.roles[role].eval()
        adapter = build_adapter(role, network)
        if base == 'logits' and not hasattr(network, 'decode_head'):
            refuse(f'tap {tap!r} of the role {role!r}, {type(network).__name__}', 'of detectors feats are comparable')
        (sources[role],) = adapter.paths(network, [base])
        output = adapter.features(network, data['inputs'][role], [base], data['data_samples'][role])
        if output.binary and base == 'logits' and isinstance(pair.transfer.loss, KLDivergence):
            refuse(f'KLDivergence of sigmoid scores, as {role!r} has,', 'need a softmax over the classes')
        tensors[role] = output.taps[base]
        chosen[role] = range(len(tensors[role]))[kept]
    model.train()
    levels = []
    for numbers in zip(*chosen.values(), strict=True):
        index = dict(zip(chosen, numbers, strict=True))
        shapes = {role: tuple(tensors[role][number].shape[1:]) for role, number in index.items()}
        levels.append(Level(dict.fromkeys(index) if base == 'logits' else index, shapes))
    return sources, levels


def mmrazor_loss(loss: nn.Module, weight: float, channels: int) -> dict[str, Any]:
    """Config of mmrazor's loss for one level.

    Args:
        loss: Ours.
        weight: Of this level.
        channels: Of the compared maps.
    """
    match loss:
        case ChannelWiseDivergence(tau=tau):
            return dict(type='ChannelWiseDivergence', tau=tau, loss_weight=weight)
        case KLDivergence(tau=tau):
            # ours is the mean over the positions; theirs is the mean over all elements, ignored positions included
            return dict(type='KLDivergence', tau=tau, reduction='mean', loss_weight=weight * channels)
        case MaskedGeneration():
            return dict(type='MGDLoss', alpha_mgd=weight)
        case PearsonDistance():
            return dict(type='PKDLoss', loss_weight=weight)
    raise TypeError(type(loss).__name__)


def mmrazor_connectors(pair: Pair, shapes: Mapping[str, tuple[int, ...]]) -> list[dict[str, Any]]:
    """Configs of mmrazor's modules for what :class:`Transfer` does to a level of the student, one after another."""
    mine, theirs = shapes[pair.student], shapes[pair.teacher]
    found: list[dict[str, Any]] = []
    if isinstance(pair.transfer.loss, MaskedGeneration):
        ratio = pair.transfer.loss.mask_ratio
        found += [dict(type='MGDConnector', student_channels=mine[0], teacher_channels=theirs[0], lambda_mgd=ratio)]
    elif mine[0] != theirs[0]:
        conv = dict(in_channel=mine[0], out_channel=theirs[0], bias=False, act_cfg=None)
        found += [dict(type='ConvModuleConnector', **conv)]
    if mine[1:] != theirs[1:]:
        options = dict(size=list(theirs[1:]), mode='bilinear', align_corners=False)
        found += [dict(type='TorchFunctionalConnector', function_name='interpolate', func_args=options)]
    return found


def mmrazor_model(pair: Pair, sources: Mapping[str, str], levels: list[Level]) -> dict[str, Any]:
    """Write mmrazor's config of the pair, with a loss for each level; ours is the mean over the levels."""
    losses, connectors, mappings = {}, {}, {}
    for number, found in enumerate(levels):
        name = f'loss_{number}'
        weight = pair.transfer.weight / len(levels)
        losses[name] = mmrazor_loss(pair.transfer.loss, weight, found.shapes[pair.teacher][0])
        mapping = {
            key: dict(from_student=role == pair.student, recorder='tap', data_idx=found.index[role])
            for key, role in (('preds_S', pair.student), ('preds_T', pair.teacher))
        }
        if steps := mmrazor_connectors(pair, found.shapes):
            connectors[name] = steps
            mapping['preds_S']['connector'] = name
        mappings[name] = mapping
    recorders = {role: dict(tap=dict(type='ModuleOutputs', source=source)) for role, source in sources.items()}
    features = split_levels(pair.taps[pair.teacher])[0] == 'feats'
    return dict(
        _scope_='mmrazor',
        # the one for features runs no head of the teacher: mmrazor at its best
        type='FpnTeacherDistill' if features else 'SingleTeacherDistill',
        architecture=pair.models[pair.student],
        teacher=pair.models[pair.teacher],
        distiller=dict(
            type='ConfigurableDistiller',
            student_recorders=recorders[pair.student],
            teacher_recorders=recorders[pair.teacher],
            distill_losses=losses,
            connectors=connectors,
            loss_forward_mappings=mappings,
        ),
    )


def mmrazor_weights(pair: Pair, model: nn.Module, levels: int) -> dict[str, Tensor]:
    """Weights of the whole model under the names that mmrazor has for them."""
    found = {f'architecture.{key}': value for key, value in model.roles[pair.student].state_dict().items()}
    found |= {f'teacher.{key}': value for key, value in model.roles[pair.teacher].state_dict().items()}
    (edge,) = pair.transfer.edges()
    ours = {key: part for parts in model.connectors.values() for key, part in parts.items()}
    for number in range(levels):
        connector = ours.get(level_key(edge, number, levels))
        there = f'distiller.connectors.loss_{number}.0'
        for key, value in connector.state_dict().items() if connector is not None else ():
            if not isinstance(pair.transfer.loss, MaskedGeneration):
                found[f'{there}.conv_module.conv.{key}'] = value
                continue
            found[f'{there}.{key.replace("generate.", "generation.")}'] = value
            if key == 'align.weight':  # theirs has a bias too
                found[f'{there}.align.bias'] = value.new_zeros(len(value))
    return found
