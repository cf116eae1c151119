"""One training run on several processes, as ``torchrun`` starts them: each takes a share of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Processes:
    """This process among those of the run.

    Attributes:
        rank: Its number, from 0; the first one validates, reports and writes.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a batch, (N / count, ...).

        Raises:
            ValueError: As :meth:`check_batch`.
        """
        self.check_batch(len(batch))
        return batch[self.rank :: self.count]

    def check_batch(self, size: int) -> None:
        """Refuse a batch that no :meth:`share` is possible of.

        Raises:
            ValueError: It cannot be divided evenly, so that a mean of means would not be the mean.
        """
        if size % self.count:
            raise ValueError(f"A batch of {size} cannot be divided evenly among {self.count} processes.")

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in one message."""
        if self.count == 1:
            return
        parts = list(tensors)
        flat = torch.cat([part.detach().reshape(-1) for part in parts])
        distributed.all_reduce(flat)
        flat /= self.count
        for part, mean in zip(parts, torch.split(flat, [part.numel() for part in parts]), strict=True):
            part.detach().copy_(mean.view_as(part))

    def any(self, condition: bool) -> bool:
        """Whether the condition holds in at least one process: what all of them then agree on."""
        return any(self._gathered(condition))

    def agree(self, value: object) -> bool:
        """Whether all processes have the same value."""
        return all(other == value for other in self._gathered(value))

    def _gathered(self, value: object) -> list[object]:
        if self.count == 1:
            return [value]
        values: list[object] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values


def leave_processes() -> None:
    """The opposite of :func:`join_processes`."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def join_processes(device: torch.device) -> Processes:
    """Join the processes that ``torchrun`` has started; alone, if there are none.

    Args:
        device: Where this process trains: NCCL connects GPUs, Gloo everything else.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes()
    if device.type == "cuda":
        torch.cuda.set_device(device)  # NCCL speaks from the current device
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(distributed.get_rank(), count)
