"""Working files off so that reading, denoising and writing overlap.

Threads decode the next pictures and estimate their noise: numpy, zlib, the codecs and the compiled kernels let other
threads run meanwhile. On the CPU, pictures of moderate size are then denoised and encoded in *lanes*, as many as torch
has threads, each picture by one thread: they need not wait for each other after every step, as the threads that share
a picture do, and a core that is away to decode or encode holds nobody up. Larger pictures take all threads, one after
the other. On a GPU, pictures in a row that have one shape are denoised *together*, as many as fill it, and other
threads encode the results.

In memory are the pictures in flight, at most 2 r + 2 l + w + b + 1 with r readers, l lanes, w writers and b pictures
together, however many files there are; of large ones, fewer are read ahead.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Thread
from typing import Any

import torch
from numpy.typing import NDArray

from tnrd.inference.batch.errors import BatchOutputError
from tnrd.inference.batch.file_worker import FileWorker, Prepared, StoppedError
from tnrd.inference.batch.manifest import Record
from tnrd.inference.batch.plan import Job
from tnrd.inference.loading import device_of
from tnrd.inference.restore import DEFAULT_TILE
from tnrd.kernels.dispatch import resolve_engine
from tnrd.kernels.threads_numba import several_may_enter

MOST_THREADS = 8
LARGE = 4_000_000  # pixels from which on a picture takes all threads: several at once would take their memory, too
MOST_TOGETHER = 32
PIXELS_AHEAD = 1 << 26  # of the pictures that wait to be denoised, while there are two


def threads_beside(bench: FileWorker) -> int:
    """How many threads read, and how many write, beside the diffusion."""
    on_cpu = device_of(bench.settings.model).type == "cpu"
    return max(1, min(MOST_THREADS, torch.get_num_threads() if on_cpu else (os.cpu_count() or 2) // 2))


def lanes_of(bench: FileWorker) -> int:
    """How many pictures are denoised at once, each by one thread; 1 where each takes the whole device."""
    model = bench.settings.model
    suits = device_of(model).type == "cpu" and resolve_engine(model.engine, torch.device("cpu")) == "numba"
    return torch.get_num_threads() if suits and several_may_enter() else 1


def together_of(bench: FileWorker, first: Prepared) -> int:
    """How many pictures of the size of the first one fill the device."""
    kind = device_of(bench.settings.model).type
    return 1 if kind == "cpu" else max(1, min(MOST_TOGETHER, DEFAULT_TILE[kind] ** 2 // first.pixel_count))


def work_off(
    jobs: Iterable[Job],
    bench: FileWorker,
    *,
    is_to_stop: Callable[[], bool] = lambda: False,
    threads: int | None = None,
    lanes: int | None = None,
    together: int | None = None,
) -> Generator[Record, None, None]:
    """Work files off, in order of ``jobs`` as far as they begin; the record of each as it is done.

    Args:
        jobs: What to do.
        bench: How.
        is_to_stop: Asked between files, and between the tiles of one: whether to begin nothing more. What is being
            written is then finished, what is being denoised is given up.
        threads: That read, and as many that write; None takes what suits the device.
        lanes: Pictures that are denoised side by side, each by one thread; None takes what suits the device.
        together: Pictures of one shape that are denoised as one batch, at most; None takes what suits the device.

    Raises:
        BatchOutputError: There is no room, or the manifest cannot be written.
        KeyboardInterrupt: Thrown in here, or a signal's; what is under way is then not waited for.
    """
    count = threads_beside(bench) if threads is None else threads
    lanes = lanes_of(bench) if lanes is None else lanes
    beside: deque[Future[Record | None]] = deque()
    behind: deque[Future[Record | None]] = deque()
    with (
        _threads(count, "tnrd-read") as readers,
        _threads(count, "tnrd-write") as writers,
        _lanes(lanes) as side_by_side,
    ):
        try:
            prepared_ones = _read_ahead(jobs, bench, readers, count, is_to_stop)
            for group in _groups(
                prepared_ones, lambda first: together_of(bench, first) if together is None else together
            ):
                if not isinstance(group, list):
                    yield group
                elif lanes > 1 and group[0].pixel_count < LARGE:
                    for prepared in group:
                        yield from _settle(beside, 2 * lanes - 1)
                        beside.append(side_by_side.submit(_denoise_and_write, prepared, bench, is_to_stop))
                else:
                    yield from _settle(beside, 0)
                    try:
                        for prepared, pixels in _denoise(group, bench, is_to_stop):
                            if isinstance(pixels, Exception):
                                yield bench.failed(prepared.job, prepared.record, pixels)
                                continue
                            yield from _settle(behind, count - 1)
                            behind.append(writers.submit(bench.write, prepared, pixels))
                    except StoppedError:
                        break
            yield from _settle(beside, 0)
            yield from _settle(behind, 0)
        except BatchOutputError:
            # What others have finished meanwhile is there, and counts.
            under_way = [future for future in (*beside, *behind) if not future.cancel()]
            for future in under_way:
                if future.exception() is None and (record := future.result()) is not None:
                    yield record
            raise


@contextmanager
def _threads(count: int, name: str, begin: Callable[[], None] | None = None) -> Iterator[ThreadPoolExecutor]:
    """A pool; at the end what has begun is waited for, but not if the end is an interruption."""
    pool = ThreadPoolExecutor(count, name, begin)
    try:
        yield pool
    except KeyboardInterrupt:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


@contextmanager
def _lanes(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool whose threads use one core each, torch's loops included."""
    threads = torch.get_num_threads()
    try:
        with _threads(count, "tnrd-lane", partial(torch.set_num_threads, 1)) as pool:
            yield pool
    finally:
        # Torch has one number for threads that are new to it, besides that of each; it is given back by such a thread.
        starter = Thread(target=torch.set_num_threads, args=(threads,))
        starter.start()
        starter.join()


def _read_ahead(
    jobs: Iterable[Job], bench: FileWorker, readers: ThreadPoolExecutor, count: int, is_to_stop: Callable[[], bool]
) -> Iterator[Prepared | Record]:
    waiting = iter(jobs)
    ahead: deque[Future[Prepared | Record]] = deque()
    most = 2
    try:
        while not is_to_stop():
            while len(ahead) < most and (job := next(waiting, None)) is not None:
                ahead.append(readers.submit(bench.prepare, job))
            if not ahead:
                break
            prepared = ahead.popleft().result()
            if isinstance(prepared, Prepared):  # the next ones will be about as large
                most = max(2, min(2 * count, PIXELS_AHEAD // prepared.pixel_count))
            yield prepared
    finally:
        for future in ahead:
            future.cancel()


def _groups(
    prepared_ones: Iterable[Prepared | Record], most: Callable[[Prepared], int]
) -> Iterator[list[Prepared] | Record]:
    """Pictures in a row of one kind, at most ``most(first of them)``; records go ahead of the group they fall into."""
    group: list[Prepared] = []
    for prepared in prepared_ones:
        if not isinstance(prepared, Prepared):
            yield prepared
            continue
        if group and (prepared.batch_kind is None or prepared.batch_kind != group[0].batch_kind):
            yield group
            group = []
        group.append(prepared)
        if len(group) >= most(group[0]):
            yield group
            group = []
    if group:
        yield group


def _denoise(
    group: list[Prepared], bench: FileWorker, is_to_stop: Callable[[], bool]
) -> Iterator[tuple[Prepared, NDArray[Any] | Exception]]:
    """Each picture with its result, or with the reason why it has none.

    Raises:
        StoppedError: As asked.
    """
    if is_to_stop():
        raise StoppedError
    if len(group) > 1:
        try:
            results = bench.denoise_together(group, is_to_stop)
        except StoppedError:
            raise
        except Exception:  # one of them is to blame, or there is not enough memory for all: each by itself tells
            results = []
        if results:
            yield from zip(group, results, strict=True)
            return
    for prepared in group:
        try:
            yield prepared, bench.denoise(prepared, is_to_stop)
        except StoppedError:
            raise
        except Exception as error:
            yield prepared, error


def _settle(behind: deque[Future[Record | None]], most: int) -> Iterator[Record]:
    """Wait until no more than ``most`` are under way; the records of the others, but of those that were given up."""
    while len(behind) > most:
        record = behind.popleft().result()
        if record is not None:
            yield record


def _denoise_and_write(prepared: Prepared, bench: FileWorker, is_to_stop: Callable[[], bool]) -> Record | None:
    """The record; None if the picture was given up."""
    try:
        if is_to_stop():
            return None
        pixels = bench.denoise(prepared, is_to_stop)
    except StoppedError:
        return None
    except Exception as error:
        return bench.failed(prepared.job, prepared.record, error)
    return bench.write(prepared, pixels)
