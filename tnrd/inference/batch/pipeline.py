"""Working files off so that reading, denoising and writing overlap.

The diffusion runs in the calling thread and takes all cores (or the GPU) for itself. Beside it, threads decode the next
pictures and estimate their noise, and encode the previous ones: numpy, zlib, the codecs and the compiled kernels let
other threads run meanwhile. On the CPU one thread on each side keeps up; a GPU needs more of them.

In memory are the pictures in flight, at most 2 r + w + 1 with r readers and w writers, however many files there are.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from tnrd.inference.batch.bench import Bench, Prepared, StoppedError
from tnrd.inference.batch.manifest import Record
from tnrd.inference.batch.plan import Job
from tnrd.inference.loading import device_of

MOST_THREADS = 8


def threads_beside(bench: Bench) -> int:
    """How many threads read, and how many write, beside the diffusion."""
    if device_of(bench.settings.model).type == "cpu":
        return 1
    return max(1, min(MOST_THREADS, (os.cpu_count() or 2) // 2))


def work_off(
    jobs: Iterable[Job], bench: Bench, *, is_to_stop: Callable[[], bool] = lambda: False, threads: int | None = None
) -> Iterator[Record]:
    """Work files off, in order of ``jobs`` as far as they begin; the record of each as it is done.

    Args:
        jobs: What to do.
        bench: How.
        is_to_stop: Asked between files, and between the tiles of one: whether to begin nothing more. What is being
            written is then finished, what is being denoised is given up.
        threads: That read, and as many that write; None takes what suits the device.

    Raises:
        BatchOutputError: There is no room, or the manifest cannot be written.
    """
    count = threads_beside(bench) if threads is None else threads
    ahead: deque[Future[Prepared | Record]] = deque()
    behind: deque[Future[Record]] = deque()
    waiting = iter(jobs)
    with ThreadPoolExecutor(count, "tnrd-read") as readers, ThreadPoolExecutor(count, "tnrd-write") as writers:
        try:
            while not is_to_stop():
                while len(ahead) < 2 * count and (job := next(waiting, None)) is not None:
                    ahead.append(readers.submit(bench.prepare, job))
                if not ahead:
                    break
                prepared = ahead.popleft().result()
                if isinstance(prepared, Prepared):
                    try:
                        pixels = bench.denoise(prepared, is_to_stop)
                    except StoppedError:
                        break
                    except Exception as error:
                        yield bench.failed(prepared.job, prepared.record, error)
                        continue
                    while len(behind) >= count:
                        yield behind.popleft().result()
                    behind.append(writers.submit(bench.write, prepared, pixels))
                    del pixels
                else:
                    yield prepared
                del prepared
            while behind:
                yield behind.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
