"""``tnrd-denoise`` with many files: what it says on its way and at its end."""

from __future__ import annotations

import functools
import io
import json
import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batch_material import Batch, Run, lines, quick_weights, sentences, tree

from tnrd.cli import batch_reporting, reporting
from tnrd.inference.batch.run import BatchResult

ALL = ["a.png", "b.tif", "sub/c.png", "sub/deep/d.jpg"]
Cli = Callable[..., Run]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def batch(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Batch:
    """Four pictures in ``in``, the current folder being the one above it."""
    monkeypatch.chdir(tmp_path)
    return Batch.of(tmp_path, weights)


@pytest.fixture
def cli(capfdbinary: pytest.CaptureFixture[bytes], batch: Batch) -> Cli:
    return functools.partial(batch.command, capfdbinary)


def test_failures_are_listed_at_the_end_and_in_the_manifest(cli: Cli, batch: Batch) -> None:
    (batch.folder / "bad.png").write_bytes(b"text")
    (batch.folder / "notes.txt").write_text("no picture")
    run = cli("in", "out", "--recursive")
    assert run.status == reporting.SOME_FAILED
    said = sentences(run.err)
    assert said[0].startswith("in/bad.png: it is a text file")
    assert said[1] == "1 file left out, hidden or not of a kind that can be read: 1 .txt."
    count, manifest = said[2].split("; ")
    assert re.fullmatch(r"4 files denoised, 0 skipped, 1 failed in 0:00:\d\d, [\d.e+]+ files/s", count)
    assert manifest == "the manifest is out/tnrd-manifest.jsonl."
    assert [r["input"] for r in lines(batch.out / "tnrd-manifest.jsonl") if r["status"] == "failed"] == ["in/bad.png"]
    quiet = cli("in", "out", "--recursive", "--skip-existing", "--quiet")
    assert sentences(quiet.err) == said[:1]


def test_the_summary_as_json(cli: Cli, batch: Batch) -> None:
    (batch.folder / "bad.png").write_bytes(b"")
    run = cli("in", "out", "--recursive", "--json", "--quiet", "--sigma", 20, "--strength", 0.5, "--tile", 64)
    receipt = json.loads(run.out)
    counts = {"total": 5, "done": 4, "skipped": 0, "failed": 1, "not_reached": 0, "left_out": 0}
    assert receipt["files"] == counts
    assert receipt["failures"] == [{"input": "in/bad.png", "error": "the file is empty."}]
    assert (receipt["inputs"], receipt["output"], receipt["shard"], receipt["stopped"]) == (["in"], "out", None, None)
    assert (receipt["sigma"], receipt["strength"], receipt["tile"], receipt["device"]) == (20, 0.5, 64, "cpu")
    assert receipt["status"] == run.status == reporting.SOME_FAILED


def test_existing_outputs_and_how_to_go_on(cli: Cli, batch: Batch) -> None:
    assert cli("in", "out").status == 0
    run = cli("in", "out", "--recursive")
    assert run.status == reporting.OUTPUT
    assert "2 of 4 outputs exist already" in run.err
    assert "(--skip-existing, --overwrite)." in run.err
    run = cli("in", "out", "--recursive", "--skip-existing")
    assert "2 files denoised, 2 skipped, 0 failed" in run.err
    assert cli("in", "out", "--recursive", "--overwrite").status == 0


def test_a_full_disk_is_said(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    run = cli("in", "out")
    assert run.status == reporting.OUTPUT
    assert "Stopped after 0 of 2 files: out/a.png: it cannot be written (No space left on device)." in run.err
    assert "--skip-existing goes on" in run.err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def result_of(done: int, total: int, failed: int = 0) -> BatchResult:
    return BatchResult(total, "m", done=done - failed, failed=failed)


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with batch_reporting.Progress(20, quiet=False) as progress:
        progress.report(result_of(20, 20, failed=3), {})
    shown = terminal.getvalue()
    assert "20/20" in shown or "/20 [" in shown
    assert "file/s" in shown


def test_lines_elsewhere_with_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(batch_reporting.time, "monotonic", lambda: now[0])
    with batch_reporting.Progress(400, quiet=False) as progress:
        for second in range(1, 101):
            now[0] = float(second)
            progress.report(result_of(2 * second, 400, failed=1), {})
    said = sentences(capfd.readouterr().err)
    assert len(said) == 3
    assert said[0] == "60 of 400 files (15 %), 1 failed, 2 files/s, 0:02:50 left."


def test_quiet_says_nothing(cli: Cli) -> None:
    assert cli("in", "out", "--recursive", "--quiet") == (0, b"", "")


class Gone(io.StringIO):
    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("is_terminal", [False, True])
def test_nobody_reading_stderr_is_no_reason_to_end(
    cli: Cli, batch: Batch, monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", Gone(is_terminal))
    monkeypatch.setattr(batch_reporting, "INTERVAL", 0.0)
    assert cli("in", "out", "--recursive").status == 0
    assert sorted(tree(batch.out)) == ALL


# --- Shards -----------------------------------------------------------------------------------------------------------


def test_shards_and_their_merged_manifest(cli: Cli, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    first = cli("in", "out", "--recursive", "--shard", "auto")
    assert re.match(r"Shard 1/3: \d of 4 files\.", sentences(first.err)[0])
    assert cli("in", "out", "--recursive", "--shard", "2/3").status == 0
    missing = cli("in", "out", "--recursive", "--merge-manifests")
    assert missing.status == reporting.SOME_FAILED
    assert "There is no manifest of the shard 3/3." in sentences(missing.err)
    assert cli("in", "out", "--recursive", "--shard", "3/3").status == 0
    merged = cli("in", "out", "--recursive", "--merge-manifests", "--json")
    assert merged.status == 0
    assert json.loads(merged.out)["files"] == {"total": 4, "done": 4, "failed": 0, "missing": 0}
    assert [record["output"] for record in lines(batch.out / "tnrd-manifest.jsonl")] == ALL


def test_a_shard_is_never_taken_by_accident(cli: Cli, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    run = cli("in", "out", "--recursive")
    assert sentences(run.err)[0].startswith("The environment is that of one process of several; this one takes all")
    assert sorted(tree(batch.out)) == ALL


def test_signals_are_taken_in_the_main_thread_only() -> None:
    def enter() -> None:
        with batch_reporting.Interruption() as interruption:
            stopped.append(interruption.is_to_stop())

    stopped: list[Any] = []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert stopped == [False]
