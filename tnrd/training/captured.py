"""An update of the weights as a CUDA graph: thousands of small kernels, and one launch."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor, Tensor]
UNCAPTURED = 3  # updates of a segment before the capture, in which kernels are compiled and libraries start
# Threads share autograd's own and the compiler of the kernels: one of them at a time may leave the captured path.
ALONE = threading.RLock()


class CapturedUpdate:
    """Records an update once and replays it on other batches of the same shape.

    Args:
        update: Takes a batch (clean, noisy, sigma) and returns the loss; all it changes lies on the GPU, and it must
            not make the host wait. It is recorded, not run.
        batch: An example.
    """

    def __init__(self, update: Callable[[Batch], Tensor], batch: Batch) -> None:
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
