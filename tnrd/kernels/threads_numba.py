"""How many threads compiled loops use: as many as torch, or fewer where several pictures are worked on at once."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar

import numba
import torch

_most: ContextVar[int | None] = ContextVar("most", default=None)
_one_at_a_time = threading.Lock()


def use_torch_threads() -> int:
    """Let the calling thread's compiled loops use as many threads as torch does there, of those that Numba has.

    Returns:
        That number, or that of :func:`at_most`.
    """
    _start_pool()
    threads = min(torch.get_num_threads(), int(numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    threads = min(threads, _most.get() or threads)
    numba.set_num_threads(threads)
    return threads


@contextlib.contextmanager
def at_most(threads: int) -> Iterator[None]:
    """A context in which this thread's compiled loops use no more than so many threads."""
    token = _most.set(threads)
    try:
        yield
    finally:
        _most.reset(token)


def entrance() -> AbstractContextManager[object]:
    """What has to be held while compiled loops run.

    Of Numba's thread pools, the one that is always there ends the process when two threads of Python enter it at once.
    """
    _start_pool()
    layer = numba.threading_layer()  # type: ignore[attr-defined]
    return contextlib.nullcontext() if layer in ("omp", "tbb") else _one_at_a_time


@functools.cache
def _start_pool() -> None:
    # Where OpenMP runs Numba's pool, starting it gives all cores to the thread that does so, torch's loops included,
    # whatever OMP_NUM_THREADS or torch.set_num_threads says. A thread that ends at once keeps that from the others.
    starter = threading.Thread(target=numba.get_num_threads)
    starter.start()
    starter.join()
