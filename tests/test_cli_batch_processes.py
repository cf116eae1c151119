"""Many files in processes of their own, which are interrupted, terminated and killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from batch_material import lines, put, quick_weights, start, tree

from tnrd.cli import main, reporting

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
FILES = 24


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for index in range(FILES):
        put(folder / f"{index % 3}" / f"{index:02}.png", index, shape=(16, 16 + index))
    (folder / "bad.png").write_bytes(b"text")
    return folder


@pytest.fixture(scope="module")
def expected(folder: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tree that a run that nobody disturbs leaves."""
    out = tmp_path_factory.mktemp("expected") / "out"
    assert main(["--recursive", str(folder), str(out), "--model", str(weights), "--quiet"]) == reporting.SOME_FAILED
    return tree(out)


def wait_for(count: int, log: Path, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    """Until a process has begun to denoise so many files."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if log.exists() and len(log.read_text().splitlines()) >= count:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    raise AssertionError(f"{count} files were not reached in {seconds} s")


def no_litter(out: Path) -> bool:
    return all(path.suffix == ".png" for path in out.rglob("*") if path.is_file() and path.suffix != ".jsonl")


@pytest.mark.slow
def test_killed_and_taken_up_again_and_again(
    folder: Path, weights: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    arguments = ("--recursive", folder, out, "--model", weights, "--skip-existing", "--json")
    begun, lost = 0, 0
    for _ in range(3):
        process = start(log, 0.03, *arguments)
        wait_for(begun + 5, log, process)
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        begun = len(log.read_text().splitlines())
        finished = set(tree(out)) & set(expected)
        assert all(tree(out)[name] == expected[name] for name in finished)  # nothing half-written has a name
        lost = begun - len(finished)
    process = start(log, 0.0, *arguments)
    receipt = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == reporting.SOME_FAILED
    assert tree(out) == expected
    assert receipt["files"]["skipped"] + receipt["files"]["done"] == FILES
    denoised = log.read_text().splitlines()
    # With each kill one file was being denoised, and one written.
    assert len(denoised) - FILES <= 3 * 2
    assert lost == len(denoised) - FILES
    done = [record["output"] for record in lines(out / "tnrd-manifest.jsonl") if record["status"] == "done"]
    assert set(done) == set(expected)


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGINT, reporting.INTERRUPTED, "Interrupted"), (signal.SIGTERM, reporting.TERMINATED, "Terminated")],
)
def test_a_signal_ends_after_the_file_at_work(
    folder: Path, weights: Path, expected: dict[str, str], tmp_path: Path,
    number: signal.Signals, status: int, word: str,
) -> None:  # fmt: skip
    out, log = tmp_path / "out", tmp_path / "log"
    process = start(log, 0.1, "--recursive", folder, out, "--model", weights, "--json")
    wait_for(4, log, process)
    process.send_signal(number)
    output, err = (data.decode() for data in process.communicate(timeout=60))
    assert process.returncode == status
    done = tree(out)
    assert 2 <= len(done) < FILES
    assert all(expected[name] == digest for name, digest in done.items())
    reached = len(done) + 1  # with the bad one
    assert f"{word} after {reached} of {FILES + 1} files. All outputs are complete" in err
    assert "Traceback" not in err
    assert json.loads(output)["files"]["not_reached"] == FILES + 1 - reached
    assert no_litter(out)


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGINT, reporting.INTERRUPTED, "Interrupted"), (signal.SIGTERM, reporting.TERMINATED, "Terminated")],
)
def test_a_second_signal_ends_at_once(
    folder: Path, weights: Path, tmp_path: Path, number: signal.Signals, status: int, word: str
) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    process = start(log, 30, "--recursive", folder, out, "--model", weights)
    try:
        wait_for(1, log, process)
        process.send_signal(number)
        time.sleep(0.3)
        process.send_signal(number)
        err = process.communicate(timeout=20)[1].decode()
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == status
    assert err == f"tnrd-denoise: {word}.\n"
    assert no_litter(out)
    assert tree(out) == {}


@pytest.mark.slow
def test_four_shards_one_of_them_killed_and_restarted(
    folder: Path, weights: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    logs = [tmp_path / f"log{i}" for i in (1, 2, 3, 4)]
    arguments = ["--recursive", folder, out, "--model", weights, "--skip-existing"]
    shards = [start(log, 0.05, *arguments, "--shard", f"{i}/4") for i, log in enumerate(logs, start=1)]
    try:
        wait_for(2, logs[1], shards[1])
        shards[1].kill()
        shards[1].wait(timeout=60)
        merge = [str(item) for item in [*arguments[:5], "--merge-manifests", "--quiet"]]
        merge[merge.index("--model") + 1] = str(weights)
        assert main(merge) == reporting.SOME_FAILED  # the second shard's files are missing
        shards[1].communicate()
        shards[1] = start(logs[1], 0.0, *arguments, "--shard", "2/4")
        statuses = [shard.wait(timeout=120) for shard in shards]
    finally:
        for shard in shards:
            shard.kill()
            shard.communicate()
    assert sorted(statuses) == [0, 0, 0, reporting.SOME_FAILED]  # the bad picture is in one of them
    assert tree(out) == expected
    assert no_litter(out)
    denoised = [name for log in logs for name in log.read_text().splitlines()]
    assert set(denoised) == set(expected)
    assert len(denoised) - FILES <= 2  # what was in flight when the second one was killed
    parts = [{record["output"] for record in lines(out / f"tnrd-manifest-{i}-of-4.jsonl")} for i in (1, 2, 3, 4)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == FILES + 1
    assert main(merge) == reporting.SOME_FAILED
    states = [record["status"] for record in lines(out / "tnrd-manifest.jsonl")]
    assert sorted(states) == ["done"] * FILES + ["failed"]


def test_two_runs_do_not_write_one_manifest(folder: Path, weights: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    process = start(log, 0.2, "--recursive", folder, out, "--model", weights)
    try:
        wait_for(1, log, process)
        arguments = ["--recursive", str(folder), str(out), "--model", str(weights), "--skip-existing", "--quiet"]
        assert main(arguments) == reporting.OUTPUT
    finally:
        process.kill()
        process.communicate()


def test_stderr_closed_by_its_reader(folder: Path, weights: Path, expected: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    reader, writer = os.pipe()
    os.close(reader)
    code = "from tnrd.cli import main; raise SystemExit(main())"
    arguments = ["--recursive", str(folder), str(out), "--model", str(weights)]
    run = subprocess.run([sys.executable, "-c", code, *arguments], stderr=writer, timeout=60)
    os.close(writer)
    assert run.returncode == reporting.SOME_FAILED
    assert tree(out) == expected
