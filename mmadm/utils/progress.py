"""Which iteration a training is in."""

from __future__ import annotations

import logging
from typing import Any

from mmengine.logging import MessageHub, print_log

#: What a Runner lacks whose config was written by hand and is started by a toolbox's own script
UNGUARDED = (
    'mmadm.NonFiniteGuardHook is not in this config: hooks, optimisers and labels are not checked, and a loss that is '
    'not finite goes unnoticed. Start it with `mmadm train`, which adds what is missing, or add '
    "default_hooks=dict(checkpoint=dict(type='mmadm.RoleCheckpointHook'), "
    "guard=dict(type='mmadm.NonFiniteGuardHook'), teacher_guard=dict(type='mmadm.TeacherGuardHook')) and "
    "val_cfg=dict(type='mmadm.RoleValLoop', role_val=True)."
)


class Progress:
    """Iteration and epoch of the training that a model is part of.

    A Runner makes its message hub before its model, and hooks of a user may make further hubs later, so the newest hub
    is asked for once, at the model's construction. A hub that has counted iterations already belongs to an earlier
    training. Without a hub that counts, every call counts.
    """

    def __init__(self) -> None:
        newest = MessageHub.get_current_instance()
        self._hub = None if 'iter' in newest.runtime_info else newest
        self._calls = 0
        self._guarded = False
        self.iteration = 0
        self.epoch = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Progress:
        """A copied model (EMA) is in the same training."""
        copied = Progress.__new__(Progress)
        copied.__dict__.update(self.__dict__)
        return copied

    def follow(self, hub: MessageHub) -> None:
        """Ask this hub from now on; a Runner's hook calls it."""
        self._hub = hub
        self._guarded = True

    def advance(self) -> None:
        """Note that a training step begins: sets :attr:`iteration` and :attr:`epoch`, both from 0.

        Warns in the first one of a Runner without mmadm's guard.
        """
        info = {} if self._hub is None else self._hub.runtime_info
        if self._calls == 0 and 'max_iters' in info and not self._guarded:
            print_log(UNGUARDED, 'current', logging.WARNING)
        self.iteration = int(info.get('iter', self._calls))
        self.epoch = int(info.get('epoch', 0))
        self._calls += 1
