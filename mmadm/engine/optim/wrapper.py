"""One optimiser per role behind the interface of a single one: one backward, then every role steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn

from mmadm.utils.errors import CheckpointError, ConfigError


class RoleOptimWrapperDict(OptimWrapperDict):
    """The optimisers of all trainable roles, driven as one stock ``OptimWrapper``.

    mmengine's ``OptimWrapperDict`` refuses to update, because it expects one loss per member. Here all losses form one
    sum, so one backward fills the gradients of every role. The first member is the lead: it scales that loss, runs
    the backward and decides when to update; the others follow its counts.

    Args:
        **optim_wrappers: One ``OptimWrapper`` per role, with equal ``accumulative_counts``.

    Raises:
        ConfigError: If there is no role, or the accumulation factors differ.
    """

    def __init__(self, **optim_wrappers: OptimWrapper) -> None:
        super().__init__(**optim_wrappers)
        if not optim_wrappers:
            raise ConfigError('optim_wrapper: no role to optimise; at least one role must be trainable')
        counts = {role: member._accumulative_counts for role, member in self.items()}
        if len(set(counts.values())) > 1:
            found = ', '.join(f'{role}: {count}' for role, count in counts.items())
            raise ConfigError(
                'optim_wrapper.accumulative_counts must be the same for all roles, because one backward serves them '
                f'all; found {found}'
            )
        for role, member in self.items():
            if member.clip_grad_kwargs:
                # under the stock name every role would write into the same log entry
                member.grad_name = f'{role}.{member.grad_name}'

    @property
    def lead(self) -> OptimWrapper:
        """The member that scales the loss and runs the backward."""
        return next(self.values())

    @property
    def inner_count(self) -> int:
        """Number of backward passes so far, resumed iterations included."""
        return self.lead.inner_count

    def initialize_count_status(self, model: nn.Module, cur_iter: int, max_iters: int) -> None:
        """Tell every member where training starts and ends; called by the Runner.

        Args:
            model: The model in training.
            cur_iter: Iterations done before this run.
            max_iters: Iterations at the end of this run.
        """
        for member in self.values():
            member.initialize_count_status(model, cur_iter, max_iters)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Keep the ranks from exchanging gradients while these only accumulate.

        Args:
            model: The model in training; all of it, since one backward serves all roles.
        """
        with self.lead.optim_context(model):
            yield

    def update_params(
        self, loss: Tensor, step_kwargs: dict[str, Any] | None = None, zero_kwargs: dict[str, Any] | None = None
    ) -> None:
        """Run the one backward and, when enough has accumulated, step and clear every role.

        Args:
            loss: Scalar sum of all losses.
            step_kwargs: Arguments for each ``Optimizer.step``.
            zero_kwargs: Arguments for each ``Optimizer.zero_grad``.
        """
        # past OptimWrapperDict, which refuses: the stock sequence is right, built from the methods of this class
        OptimWrapper.update_params(self, loss, step_kwargs, zero_kwargs)

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Divide the loss by the number of batches that share this update."""
        return self.lead.scale_loss(loss)

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Run one backward and count it for every member.

        Args:
            loss: Scalar, scaled already.
            **kwargs: Arguments for ``Tensor.backward``.
        """
        self.lead.backward(loss, **kwargs)
        for member in self.values():
            member._inner_count = self.lead.inner_count

    def should_update(self) -> bool:
        """Whether the parameters are due after the last backward."""
        return self.lead.should_update()

    def should_sync(self) -> bool:
        """Whether the ranks exchange gradients in the coming backward."""
        return self.lead.should_sync()

    def step(self, **kwargs: Any) -> None:
        """Clip and step every role.

        Args:
            **kwargs: Arguments for each ``Optimizer.step``.
        """
        for member in self.values():
            member.step(**kwargs)

    def zero_grad(self, **kwargs: Any) -> None:
        """Clear the gradients of every role.

        Args:
            **kwargs: Arguments for each ``Optimizer.zero_grad``.
        """
        for member in self.values():
            member.zero_grad(**kwargs)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of every role.

        Args:
            state_dict: What ``state_dict`` returned, here or in mixed precision (whose ``loss_scaler`` is not needed
                here); left unchanged.

        Raises:
            CheckpointError: If the checkpoint holds other roles than this run trains.
        """
        roles = {role: state for role, state in state_dict.items() if role != 'loss_scaler'}
        if set(roles) != set(self.keys()):
            raise CheckpointError(
                f'optimizer state of the checkpoint: found {sorted(roles)}, need one entry for each trainable role '
                f'{sorted(self.keys())}; resume with the roles and the optim_wrapper it was saved with'
            )
        # shallow copies: stock members pop from what they are given
        super().load_state_dict({role: dict(state) for role, state in roles.items()})
