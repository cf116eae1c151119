"""An update of the weights as a CUDA graph: thousands of small kernels, and one launch."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from tnrd.kernels.capture_lock import CAPTURE_LOCK

Batch = tuple[Tensor, Tensor, Tensor]
Update = Callable[[Batch], Tensor]  # from a batch (clean, noisy, sigma) to the loss
UNCAPTURED = 3  # updates of a segment before the capture, in which kernels are compiled and libraries start
QUEUED = 50  # updates that the host may run ahead of the GPU


class CapturedUpdate:
    """Records an update once and replays it on other batches of the same shape.

    Args:
        update: All it changes lies on the GPU, and it must not make the host wait. It is recorded, not run.
        batch: An example.
    """

    def __init__(self, update: Update, batch: Batch) -> None:
        clean, noisy, sigma = batch
        self._batch = clean.clone(), noisy.clone(), sigma.clone()
        self._graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream(clean.device)
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._loss = update(self._batch)

    def __call__(self, batch: Batch) -> Tensor:
        """Run the update; the loss, on the GPU."""
        for mine, given in zip(self._batch, batch, strict=True):
            mine.copy_(given)
        self._graph.replay()
        return self._loss


def by_itself(update: Update) -> Update:
    """The update, one at a time of all trainings of this process."""

    def call(batch: Batch) -> Tensor:
        with CAPTURE_LOCK:
            return update(batch)

    return call


def recorded(update: Update) -> Update:
    """The update, run as it is a few times and from a CUDA graph from then on; batches must have one shape."""
    captured: Update | None = None
    done = 0

    def call(batch: Batch) -> Tensor:
        nonlocal captured, done
        done += 1
        if done % QUEUED == 0:  # the host is faster than the GPU, and has to look at the clock now and then
            torch.cuda.current_stream().synchronize()
        if done <= UNCAPTURED:
            return by_itself(update)(batch)
        if captured is None:
            try:
                with CAPTURE_LOCK:
                    captured = CapturedUpdate(update, batch)
            except RuntimeError as error:  # of CUDA, for want of memory mostly; nothing has run yet
                warnings.warn(f"Updates are not recorded, and so slower: {error}", stacklevel=2)
                captured = by_itself(update)
        return captured(batch)

    return call
