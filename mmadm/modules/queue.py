"""The memory of CIRKD: a ring of vectors for each class (Yang et al., CVPR 2022, arXiv 2204.06986)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn


class ClassQueue(nn.Module):
    """The newest vectors of each class. All is in buffers, so a checkpoint holds it and training resumes with it.

    Ranks stay equal if all of them push and draw the same: gather the vectors first, and draw by equal generators.

    Args:
        classes: Number K of classes.
        size: Number M of vectors that are kept of each class.
        channels: Channels C of a vector.
    """

    entries: Tensor
    pointer: Tensor
    filled: Tensor

    def __init__(self, classes: int, size: int, channels: int) -> None:
        super().__init__()
        self.register_buffer('entries', torch.zeros(classes, size, channels))
        # where the next vector goes, and how many there are: slots that nothing was put in count for nothing
        self.register_buffer('pointer', torch.zeros(classes, dtype=torch.long))
        self.register_buffer('filled', torch.zeros(classes, dtype=torch.long))

    @torch.no_grad()
    def push(self, vectors: Tensor, classes: Tensor) -> None:
        """Put in vectors one after another, each in place of its class's oldest where the ring is full.

        Args:
            vectors: Shape (n, C); n may be 0.
            classes: Class ids (n,), each at least 0 and below K.
        """
        count, size = self.entries.shape[:2]
        members = F.one_hot(classes, count)
        added = members.sum(dim=0)
        # how many of its class came before a vector in this call
        rank = (members.cumsum(dim=0) - 1).gather(1, classes[:, None]).squeeze(1)
        lasting = rank >= (added - size)[classes]  # a GPU may write to one slot in any order
        slots = (self.pointer[classes] + rank) % size
        self.entries[classes[lasting], slots[lasting]] = vectors[lasting].to(self.entries.dtype)
        self.pointer.add_(added).remainder_(size)
        self.filled.add_(added).clamp_(max=size)

    def draw(self, number: int, generator: Generator | None = None) -> Tensor:
        """Draw the same slots of each class at random, without those that nothing was put in.

        Args:
            number: Slots to draw.
            generator: On the CPU, the same on all ranks; torch's default one by default.

        Returns:
            Vectors of shape (m, C), m at most K * number; 0 while the memory is empty.
        """
        slots = torch.randperm(int(self.filled.max()), generator=generator)[:number].to(self.filled.device)
        return self.entries[:, slots][slots < self.filled[:, None]]
