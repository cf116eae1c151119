"""Who computes: the threads of this process, or the workers of a Dask cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dask

from tnrd.inference.stacks.errors import VolumeError

Run = Callable[[Sequence[Any], Callable[[], None]], list[Any]]
# One thread computes, the other reads and packs meanwhile; the compiled kernels use all cores by themselves.
LOCAL_THREADS = 2
PATIENCE = "20s"


@contextlib.contextmanager
def runner(scheduler: str | None) -> Iterator[tuple[Run, int]]:
    """How to compute a list of tasks, and how many are worth handing over at a time.

    Args:
        scheduler: None for this process, or the address of a Dask scheduler, as tcp://host:8786.

    Yields:
        ``run(tasks, done)``: the results in order, ``done`` being called after each; and the number of tasks.

    Raises:
        VolumeError: Nothing answers at the address.
    """
    if scheduler is None:
        yield _run_here, 4 * LOCAL_THREADS
        return
    from distributed import Client

    try:
        client = Client(scheduler, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise VolumeError(f"No Dask scheduler answers at {scheduler!r}, as tcp://host:8786 would.") from error
    with client:

        def run(tasks: Sequence[Any], done: Callable[[], None]) -> list[Any]:
            return _run_there(client, tasks, done)

        threads = sum(client.nthreads().values())
        yield run, 16 * max(1, threads)


def _run_here(tasks: Sequence[Any], done: Callable[[], None]) -> list[Any]:
    results = list(dask.compute(*tasks, scheduler="threads", num_workers=LOCAL_THREADS))
    for _ in results:
        done()
    return results


def _run_there(client: Any, tasks: Sequence[Any], done: Callable[[], None]) -> list[Any]:
    from distributed import as_completed

    futures = client.compute(list(tasks), sync=False)
    place = {future.key: at for at, future in enumerate(futures)}
    results: list[Any] = [None] * len(futures)
    try:
        for future, result in as_completed(futures, loop=client.loop, with_results=True):
            results[place[future.key]] = result
            # Nobody waits for it any more: a worker that dies takes nothing along that is done.
            future.release()
            done()
    finally:
        client.cancel([future for future in futures if not future.done()])
    return results
