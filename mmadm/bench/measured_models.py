"""The models that a cost is measured of, whole or a role alone, and the batches that they are fed."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from mmengine.runner import Runner
from torch import nn

from mmadm.algorithms.partly_trained import freeze_all_but, set_mode
from mmadm.registry import MODELS
from mmadm.utils.config import role_model_cfg, without_pretrained
from mmadm.utils.export import role_config

BATCHES = 4


@dataclass
class Learner:
    """A model with its optimisers.

    Attributes:
        model: In training mode.
        wrapper: What its ``train_step`` takes.
        optimizers: The optimisers inside of the wrapper.
    """

    model: nn.Module
    wrapper: Any
    optimizers: list[torch.optim.Optimizer] = field(init=False)

    def __post_init__(self) -> None:
        several = isinstance(self.wrapper, OptimWrapperDict)
        self.optimizers = [w.optimizer for w in (self.wrapper.values() if several else [self.wrapper])]
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group['lr'] = 0.0  # steps cost the same, and no random network can run away

    def step(self, batch: dict[str, Any]) -> None:
        """Make a training step."""
        self.model.train_step(batch, self.wrapper)


def alone(cfg: Config, role: str, network: nn.Module, device: torch.device) -> Learner:
    """A role in a stock training of its own, from the same weights; of a bridge only the tail learns there, too."""
    stock = role_config(cfg, role)
    model_cfg = ConfigDict(without_pretrained(stock.model.to_dict()))
    plain = Learner(*built(stock, model_cfg, device, cfg.get('custom_hooks'), role))
    plain.model.load_state_dict(network.state_dict())
    if train := cfg.model.roles[role].get('train'):
        freeze_all_but(role, plain.model, train)
        set_mode(plain.model, train, True)
    return plain


def load_batches(cfg: Config) -> list[dict[str, Any]]:
    """A few real batches of the training data, kept in memory."""
    loader = deepcopy(cfg.train_dataloader)
    loader.update(num_workers=0, persistent_workers=False)
    loader.pop('prefetch_factor', None)
    return list(islice(Runner.build_dataloader(loader, seed=0), BATCHES))


def whole_model(cfg: Config) -> ConfigDict:
    """Config of the whole model without pre-trained weights other than checkpoints of roles: they cost nothing."""
    model = deepcopy(cfg.model)
    for name, role in model.roles.items():
        if 'type' in role:
            model.roles[name] = without_pretrained(role_model_cfg(role))
        elif 'cfg' in role:
            role['cfg'] = without_pretrained(role_model_cfg(role))
    return model


def built(
    cfg: Config, model_cfg: ConfigDict, device: torch.device, hooks: list[Any] | None = None, role: str | None = None
) -> tuple[nn.Module, Any]:
    """Build a model, whole or a ``role`` alone, and its optimisers as a Runner with these custom hooks would."""
    shared = cfg.get('data_preprocessor')
    if shared is not None:
        model_cfg.setdefault('data_preprocessor', shared)
    torch.manual_seed(0)
    model = MODELS.build(model_cfg)
    model.init_weights()
    if device.type == 'cpu':
        model = revert_sync_batchnorm(model)
    model = model.to(device)
    model.train()
    for hook in hooks or ():
        if 'ChannelsLastHook' in str(hook.get('type')):
            for part in chosen(model, hook.get('roles'), role):
                part.to(memory_format=torch.channels_last)
    return model, build_optim_wrapper(model, cfg.optim_wrapper)


def chosen(model: nn.Module, roles: list[str] | None, role: str | None) -> list[nn.Module]:
    """The parts that a hook with the option ``roles`` would change, of a whole model or of a role alone."""
    if roles is None:
        return [model]
    if role is None:
        return [model.roles[name] for name in roles]
    return [model] if role in roles else []
