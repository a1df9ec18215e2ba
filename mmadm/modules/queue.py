"""The memory of CIRKD: a ring of vectors for each class (Yang et al., CVPR 2022, arXiv 2204.06986)."""

from __future__ import annotations

import torch
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
    def push(self, vectors: Tensor, classes: Tensor, valid: Tensor | None = None) -> None:
        """Put in vectors one after another, each in place of its class's oldest where the ring is full.

        Nothing is read on the host: a GPU is not waited for.

        Args:
            vectors: Shape (n, C); n may be 0.
            classes: Class ids (n,), each at least 0 and below K.
            valid: True where a vector is put in, shape (n,); all of them by default.
        """
        if not len(vectors):
            return
        count, size, channels = self.entries.shape
        members = classes[:, None] == torch.arange(count, device=classes.device)
        if valid is not None:
            members = members & valid[:, None]
        added = members.sum(dim=0)
        # how many of its class came before a vector in this call
        rank = (members.cumsum(dim=0) - 1).gather(1, classes[:, None]).squeeze(1)
        # those that would be replaced in this call are not written: a GPU may write to one slot in any order
        written = members.any(dim=1) & (rank >= (added - size)[classes])
        slots = classes * size + (self.pointer[classes] + rank) % size
        # the others write once more what one that is written does, or what is there: so sizes do not depend on values
        entries = self.entries.view(-1, channels)
        first = written.int().argmax(dim=0, keepdim=True)
        slots = slots.where(written, slots[first])
        vectors = vectors.to(entries.dtype)
        again = vectors[first].where(written[first].unsqueeze(1), entries[slots[first]])
        entries.index_copy_(0, slots, vectors.where(written.unsqueeze(1), again))
        self.pointer.add_(added).remainder_(size)
        self.filled.add_(added).clamp_(max=size)

    def draw(self, number: int, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw the same slots of each class at random, from those that any class has put something in.

        Args:
            number: Slots to draw.
            generator: On the CPU, the same on all ranks; torch's default one by default.

        Returns:
            Vectors of shape (m, C), m at most K * number, and which of them something was put in, bool (m,).
        """
        size, device = self.entries.shape[1], self.entries.device
        # float64: no two slots have one number
        order = torch.rand(size, generator=generator, dtype=torch.float64).to(device, non_blocking=True)
        order = order.masked_fill(torch.arange(size, device=device) >= self.filled.max(), -1.0)
        slots = order.topk(min(number, size)).indices
        return self.entries[:, slots].flatten(0, 1), (slots < self.filled[:, None]).flatten()
