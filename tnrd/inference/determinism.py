"""The same bytes from run to run on an NVIDIA GPU."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

from tnrd.kernels.dispatch import allows_tf32


class _Switches:
    """torch's settings of cuDNN, which are the process's: set by the first who comes, set back by the last who goes."""

    def __init__(self) -> None:
        self._lock, self._users = threading.Lock(), 0
        self._before: tuple[bool, bool, bool, bool | None] = (True, False, False, None)

    def enter(self) -> None:
        cudnn = torch.backends.cudnn
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            try:
                rounded = cudnn.allow_tf32
            except RuntimeError:  # somebody set the newer of torch's two settings, which stands
                rounded = None
            self._before = cudnn.enabled, cudnn.benchmark, cudnn.deterministic, rounded
            cudnn.enabled, cudnn.benchmark, cudnn.deterministic = True, False, True
            if rounded is not None:
                cudnn.allow_tf32 = allows_tf32()

    def leave(self) -> None:
        cudnn = torch.backends.cudnn
        with self._lock:
            self._users -= 1
            if self._users == 0:
                cudnn.enabled, cudnn.benchmark, cudnn.deterministic, rounded = self._before
                if rounded is not None:
                    cudnn.allow_tf32 = rounded


_SWITCHES = _Switches()


@contextlib.contextmanager
def ordered_convolutions() -> Iterator[None]:
    """For a while, cuDNN's sums are ordered, and products rounded to TF32 only where those of matrices may be."""
    _SWITCHES.enter()
    try:
        yield
    finally:
        _SWITCHES.leave()
