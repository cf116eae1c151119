"""Reading, denoising and writing beside each other: no more in flight than is stated, and nothing lost at the end."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from tnrd.config import TNRDConfig
from tnrd.image_io import Picture
from tnrd.inference.batch import pipeline
from tnrd.inference.batch.errors import BatchOutputError
from tnrd.inference.batch.file_worker import FileWorker, Prepared, StoppedError
from tnrd.inference.batch.manifest import Record
from tnrd.inference.batch.plan import Job
from tnrd.inference.batch.settings import Settings
from tnrd.inference.levels import NoiseLevel, given_noise
from tnrd.model import TNRD

COUNT = 12
MODEL = TNRD(TNRDConfig(stages=1, filters=2, kernel_size=3))


class Steps(FileWorker):
    """A bench on which nothing is done but waited, and counted."""

    def __init__(self, read: float = 0.0, denoise: float = 0.0, write: float = 0.0) -> None:
        self.pauses = {"read": read, "denoise": denoise, "write": write}
        self.threads: dict[str, set[str]] = {"read": set(), "denoise": set(), "write": set()}
        self.open, self.most, self.lock = Counter[str](), 0, threading.Lock()
        self.sizes: dict[str, int]
        self.groups: list[list[str]]
        self.full_at = ""
        self.size, self.sizes, self.spoilt, self.groups = 8, {}, "", []

    def _step(self, name: str) -> None:
        self.threads[name].add(threading.current_thread().name)
        time.sleep(self.pauses[name])

    def prepare(self, job: Job) -> Prepared | Record:
        with self.lock:
            self.open[job.name] += 1
            self.most = max(self.most, self.open.total())
        self._step("read")
        if job.name.endswith("bad"):
            self.open[job.name] -= 1
            return {"status": "failed", "output": job.name}
        side = self.sizes.get(job.name, self.size)
        picture, noise = Picture(np.zeros((side, side), np.uint8)), NoiseLevel(np.zeros(1, np.float32))
        return Prepared(job, picture, noise, {"status": "done", "output": job.name}, MODEL)

    def denoise(self, prepared: Prepared, is_to_stop: Any) -> Any:
        self._step("denoise")
        if is_to_stop():
            raise StoppedError
        if prepared.job.name == self.spoilt:
            raise ValueError("spoilt")
        return prepared.job.name

    def denoise_together(self, group: Any, is_to_stop: Any) -> Any:
        self.groups.append([prepared.job.name for prepared in group])
        return [self.denoise(prepared, is_to_stop) for prepared in group]

    def write(self, prepared: Prepared, pixels: Any) -> Record:
        self._step("write")
        if prepared.job.name == self.full_at:
            raise BatchOutputError("full")
        with self.lock:
            self.open[prepared.job.name] -= 1
        return prepared.record

    def failed(self, job: Job, record: Record, error: Exception) -> Record:
        if str(error) != "spoilt":
            raise error
        self.open[job.name] -= 1
        return {"status": "failed", "output": job.name}


def jobs(count: int = COUNT) -> Iterator[Job]:
    for index in range(count):
        name = f"{index}{'bad' if index % 5 == 3 else ''}"
        yield Job(name, name, name, name)


def work(steps: Steps, count: int = COUNT, **changes: Any) -> Iterator[Record]:
    return pipeline.work_off(jobs(count), steps, **{"threads": 1, "lanes": 1, "together": 1, **changes})


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("slow", ["read", "denoise", "write"])
def test_all_is_done_and_little_in_flight(threads: int, slow: str) -> None:
    steps = Steps(**{slow: 0.01})
    records = list(work(steps, threads=threads))
    assert sorted(record["output"] for record in records) == sorted(job.name for job in jobs())
    assert steps.most <= 2 * threads + threads + 1
    assert steps.threads["denoise"] == {threading.current_thread().name}
    assert len(steps.threads["read"]) <= threads
    assert not (steps.threads["read"] | steps.threads["write"]) & steps.threads["denoise"]


@pytest.mark.parametrize("slow", ["read", "denoise", "write"])
def test_lanes_do_all_and_keep_little_in_flight(slow: str) -> None:
    steps = Steps(**{slow: 0.01})
    records = list(work(steps, lanes=3))
    assert sorted(record["output"] for record in records) == sorted(job.name for job in jobs())
    assert steps.most <= 2 + 2 * 3 + 1
    assert 1 <= len(steps.threads["denoise"]) <= 3
    assert steps.threads["denoise"] == steps.threads["write"]


def test_a_large_picture_has_all_threads_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "LARGE", 100)
    steps, under_way = Steps(denoise=0.005), Counter[str]()
    steps.sizes = {"4": 20, "7": 20}
    denoise = steps.denoise

    def watched(prepared: Prepared, is_to_stop: Any) -> Any:
        name = "large" if prepared.job.name in steps.sizes else "small"
        under_way[name] += 1
        if name == "large":
            assert under_way["small"] == 0
            assert threading.current_thread() is threading.main_thread()
        result = denoise(prepared, is_to_stop)
        under_way[name] -= 1
        return result

    steps.denoise = watched  # type: ignore[method-assign]
    records = list(work(steps, lanes=3))
    assert sorted(record["output"] for record in records) == sorted(job.name for job in jobs())


def test_of_large_pictures_few_are_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "PIXELS_AHEAD", 3 * 8 * 8)
    steps = Steps(denoise=0.01)
    assert len(list(work(steps, threads=4, lanes=1))) == COUNT
    assert steps.most <= 3 + 1 + 4  # read ahead, denoised, written


def test_large_pictures_are_written_while_the_next_is_denoised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "LARGE", 1)
    steps = Steps(denoise=0.05, write=0.05)
    start = time.monotonic()
    list(work(steps, threads=2, lanes=3))
    assert time.monotonic() - start < 0.8 * COUNT * 0.1


def test_lanes_use_one_thread_each_and_give_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before, inside = torch.get_num_threads(), set()
    torch.set_num_threads(3)
    try:
        steps = Steps()
        monkeypatch.setattr(steps, "_step", lambda name: inside.add((name, torch.get_num_threads())))
        list(work(steps, threads=2, lanes=2))
        assert ("denoise", 1) in inside
        assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(1) as fresh:
            assert fresh.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(before)


def test_lanes_overlap() -> None:
    pause = 0.03

    def seconds() -> float:
        start = time.perf_counter()
        list(work(Steps(denoise=pause), lanes=3))
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.7 * pause * COUNT


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("together", [1, 4])
def test_a_picture_that_cannot_be_denoised_fails_alone(lanes: int, together: int) -> None:
    steps = Steps()
    steps.spoilt = "5"
    records = list(work(steps, lanes=lanes, together=together))
    assert {record["output"] for record in records if record["status"] == "failed"} == {"5", "3bad", "8bad"}
    assert len(records) == COUNT


def test_pictures_of_one_shape_in_a_row_go_together() -> None:
    steps = Steps()
    steps.sizes = {"6": 9, "7": 9}
    records = list(work(steps, together=4))
    assert sorted(record["output"] for record in records) == sorted(job.name for job in jobs())
    assert steps.groups == [["0", "1", "2", "4"], ["6", "7"], ["9", "10", "11"]]
    assert steps.most <= 2 + 4 + 1 + 1


def test_the_three_overlap() -> None:
    pause = 0.03

    def seconds() -> float:
        start = time.perf_counter()
        list(work(Steps(pause, pause, pause)))
        return time.perf_counter() - start

    # One after the other would take three times the pause for each good file. The best of five: others use the machine.
    assert min(seconds() for _ in range(5)) < 2 * pause * COUNT


def test_files_begin_in_their_order() -> None:
    begun: list[str] = []
    steps = Steps(0.002)
    prepare = steps.prepare
    steps.prepare = lambda job: begun.append(job.name) or prepare(job)  # type: ignore[method-assign,func-returns-value]
    list(work(steps))
    assert begun == [job.name for job in jobs()]


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_stop_finishes_what_is_written_and_begins_nothing(lanes: int) -> None:
    steps, records = Steps(write=0.01), []
    for record in work(steps, 100, is_to_stop=lambda: len(records) >= 3, lanes=lanes):
        records.append(record)
    assert 3 <= len(records) <= 7
    assert all(record["status"] in ("done", "failed") for record in records)


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_full_disk_comes_out_of_its_thread(lanes: int) -> None:
    steps = Steps()
    steps.full_at = "4"
    with pytest.raises(BatchOutputError, match="full"):
        list(work(steps, 1000, threads=2, lanes=lanes))
    assert steps.most <= 9


def test_leaving_the_loop_ends_the_threads() -> None:
    before = threading.active_count()
    for _ in work(Steps(), 1000, threads=2, lanes=2):
        break
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("device", "cores", "threads", "lanes", "together"),
    [("cpu", 64, 3, 3, 1), ("cuda", 4, 2, 1, 16), ("cuda", 64, 8, 1, 16), ("mps", 1, 1, 1, 4)],
)
def test_what_suits_a_device(
    monkeypatch: pytest.MonkeyPatch, device: str, cores: int, threads: int, lanes: int, together: int
) -> None:
    monkeypatch.setattr(pipeline, "device_of", lambda model: torch.device(device))
    monkeypatch.setattr(pipeline.os, "cpu_count", lambda: cores)
    monkeypatch.setattr(pipeline.torch, "get_num_threads", lambda: 3)
    bench = FileWorker(Settings(MODEL, ""), None, None)  # type: ignore[arg-type]
    pixels = np.zeros((512, 512), np.uint8)
    first = Prepared(Job("", "", "", ""), Picture(pixels), given_noise(0.1, pixels), {}, MODEL)
    assert pipeline.threads_beside(bench) == threads
    assert pipeline.lanes_of(bench) == lanes
    assert pipeline.together_of(bench, first) == together
