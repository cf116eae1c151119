"""Reading, denoising and writing beside each other: no more in flight than is stated, and nothing lost at the end."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tnrd.inference.batch import pipeline
from tnrd.inference.batch.bench import Bench, Prepared, Settings, StoppedError
from tnrd.inference.batch.errors import BatchOutputError
from tnrd.inference.batch.manifest import Record
from tnrd.inference.batch.plan import Job
from tnrd.model import TNRD, TNRDConfig

COUNT = 12


class Steps(Bench):
    """A bench on which nothing is done but waited, and counted."""

    def __init__(self, read: float = 0.0, denoise: float = 0.0, write: float = 0.0) -> None:
        self.pauses = {"read": read, "denoise": denoise, "write": write}
        self.threads: dict[str, set[str]] = {"read": set(), "denoise": set(), "write": set()}
        self.open, self.most, self.lock = Counter[str](), 0, threading.Lock()
        self.full_at = ""

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
        return Prepared(job, None, None, {"status": "done", "output": job.name})  # type: ignore[arg-type]

    def denoise(self, prepared: Prepared, is_to_stop: Any) -> Any:
        self._step("denoise")
        if is_to_stop():
            raise StoppedError
        return prepared.job.name

    def write(self, prepared: Prepared, pixels: Any) -> Record:
        self._step("write")
        if prepared.job.name == self.full_at:
            raise BatchOutputError("full")
        with self.lock:
            self.open[prepared.job.name] -= 1
        return prepared.record

    def failed(self, job: Job, record: Record, error: Exception) -> Record:
        raise error


def jobs(count: int = COUNT) -> Iterator[Job]:
    for index in range(count):
        name = f"{index}{'bad' if index % 5 == 3 else ''}"
        yield Job(name, name, name, name)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("slow", ["read", "denoise", "write"])
def test_all_is_done_and_little_in_flight(threads: int, slow: str) -> None:
    steps = Steps(**{slow: 0.01})
    records = list(pipeline.work_off(jobs(), steps, threads=threads))
    assert sorted(record["output"] for record in records) == sorted(job.name for job in jobs())
    assert steps.most <= 2 * threads + threads + 1
    assert steps.threads["denoise"] == {threading.current_thread().name}
    assert len(steps.threads["read"]) <= threads
    assert not (steps.threads["read"] | steps.threads["write"]) & steps.threads["denoise"]


def test_the_three_overlap() -> None:
    pause = 0.03

    def seconds() -> float:
        start = time.perf_counter()
        list(pipeline.work_off(jobs(), Steps(pause, pause, pause), threads=1))
        return time.perf_counter() - start

    # One after the other would take three times the pause for each good file. The best of five: others use the machine.
    assert min(seconds() for _ in range(5)) < 2 * pause * COUNT


def test_files_begin_in_their_order() -> None:
    begun: list[str] = []
    steps = Steps(0.002)
    prepare = steps.prepare
    steps.prepare = lambda job: begun.append(job.name) or prepare(job)  # type: ignore[method-assign,func-returns-value]
    list(pipeline.work_off(jobs(), steps, threads=1))
    assert begun == [job.name for job in jobs()]


def test_a_stop_finishes_what_is_written_and_begins_nothing() -> None:
    steps, records = Steps(write=0.01), []
    for record in pipeline.work_off(jobs(), steps, is_to_stop=lambda: len(records) >= 3, threads=1):
        records.append(record)
    assert 3 <= len(records) <= 6
    assert all(record["status"] in ("done", "failed") for record in records)


def test_a_full_disk_comes_out_of_its_thread() -> None:
    steps = Steps()
    steps.full_at = "4"
    with pytest.raises(BatchOutputError, match="full"):
        list(pipeline.work_off(jobs(1000), steps, threads=2))
    assert steps.most <= 7


def test_leaving_the_loop_ends_the_threads() -> None:
    before = threading.active_count()
    for _ in pipeline.work_off(jobs(1000), Steps(), threads=2):
        break
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("device", "cores", "threads"), [("cpu", 64, 1), ("cuda", 4, 2), ("cuda", 64, 8), ("mps", 1, 1)]
)
def test_a_gpu_is_fed_by_more_threads(monkeypatch: pytest.MonkeyPatch, device: str, cores: int, threads: int) -> None:
    monkeypatch.setattr(pipeline, "device_of", lambda model: torch.device(device))
    monkeypatch.setattr(pipeline.os, "cpu_count", lambda: cores)
    settings = Settings(TNRD(TNRDConfig(stages=1, filters=2, kernel_size=3)), "")
    assert pipeline.threads_beside(Bench(settings, None, None)) == threads  # type: ignore[arg-type]
