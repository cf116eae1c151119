"""How many threads compiled loops use: as many as torch."""

from __future__ import annotations

import functools
import threading

import numba
import torch

# Of Numba's thread pools, the one that is always there ends the process when two threads of Python enter it at once.
POOL = threading.Lock()


def use_torch_threads() -> int:
    """Let the calling thread's compiled loops use as many threads as torch does there, of those that Numba has.

    Returns:
        That number.
    """
    _start_pool()
    threads = min(torch.get_num_threads(), int(numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    numba.set_num_threads(threads)
    return threads


@functools.cache
def _start_pool() -> None:
    # Where OpenMP runs Numba's pool, starting it gives all cores to the thread that does so, torch's loops included,
    # whatever OMP_NUM_THREADS or torch.set_num_threads says. A thread that ends at once keeps that from the others.
    starter = threading.Thread(target=numba.get_num_threads)
    starter.start()
    starter.join()
