"""How many threads compiled loops use: as many as torch does in the thread that calls them."""

from __future__ import annotations

import contextlib
import functools
import threading
from contextlib import AbstractContextManager

import numba
import torch

_one_at_a_time = threading.Lock()


def use_torch_threads() -> int:
    """Let the calling thread's compiled loops use as many threads as torch does there, of those that Numba has.

    Returns:
        That number.
    """
    _start_pool()
    threads = min(torch.get_num_threads(), int(numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    numba.set_num_threads(threads)
    return threads


def entrance() -> AbstractContextManager[object]:
    """What has to be held while compiled loops run.

    Of Numba's thread pools, the one that is always there ends the process when two threads of Python enter it at once.
    """
    return contextlib.nullcontext() if several_may_enter() else _one_at_a_time


def several_may_enter() -> bool:
    """Whether threads of Python may run compiled loops at the same time."""
    _start_pool()
    return numba.threading_layer() in ("omp", "tbb")  # type: ignore[attr-defined]


@functools.cache
def _start_pool() -> None:
    # Where OpenMP runs Numba's pool, starting it gives all cores to the thread that does so, torch's loops included,
    # whatever OMP_NUM_THREADS or torch.set_num_threads says. A thread that ends at once keeps that from the others.
    starter = threading.Thread(target=numba.get_num_threads)
    starter.start()
    starter.join()
