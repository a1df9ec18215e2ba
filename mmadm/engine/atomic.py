"""The storage backend of mmadm's checkpoints."""

from __future__ import annotations

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from mmadm.utils.checkpoint import write_atomically

#: For the ``backend_args`` of ``Runner.save_checkpoint``
BACKEND_ARGS = {'backend': 'mmadm.checkpoint'}


class CheckpointBackend(LocalBackend):
    """A local folder in which no checkpoint is lost while another one is written.

    Attributes:
        to_remove: Files to be removed, in the order of the calls of :meth:`remove`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.to_remove: list[str] = []

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file; a crash leaves the former content.

        Args:
            obj: The whole content.
            filepath: Target.

        Raises:
            OSError: If it cannot be written.
        """
        write_atomically(obj, filepath)

    def remove(self, filepath: str | Path) -> None:
        """Note that a file shall go.

        ``CheckpointHook`` removes an old checkpoint before it writes the new one. A crash in between would leave none,
        so the hook that owns this backend removes the noted files when the new one is there.

        Args:
            filepath: File.
        """
        self.to_remove.append(str(filepath))


register_backend(BACKEND_ARGS['backend'], CheckpointBackend)
