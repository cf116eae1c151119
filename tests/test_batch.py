"""``tnrd.denoise_files``: what it writes and notes, and how it ends early."""

from __future__ import annotations

import builtins
import errno
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch_material import Batch, lines, pixels, put, quick_weights, tree

import tnrd
from tnrd.config import TNRDConfig
from tnrd.image_io import Metadata, Picture, read_image, write_image
from tnrd.inference.batch.errors import BatchError, BatchOutputError
from tnrd.inference.batch.file_worker import FileWorker
from tnrd.inference.batch.manifest import Record
from tnrd.inference.batch.run import BatchResult
from tnrd.inference.levels import estimate_noise
from tnrd.inference.restore import restore
from tnrd.model import TNRD
from tnrd.weights import load_model, save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def batch(tmp_path: Path, weights: Path) -> Batch:
    return Batch.of(tmp_path, weights)


@pytest.fixture
def folder(batch: Batch) -> Path:
    return batch.folder


@pytest.fixture
def out(batch: Batch) -> Path:
    return batch.out


# --- What it writes and notes -----------------------------------------------------------------------------------------


def test_each_picture_is_what_the_library_computes(batch: Batch, folder: Path, out: Path, weights: Path) -> None:
    result = batch()
    assert (result.total, result.done, result.skipped, result.failed, result.stopped) == (4, 4, 0, 0, None)
    assert sorted(tree(out)) == ["a.png", "b.tif", "sub/c.png", "sub/deep/d.jpg"]
    for name in ("a.png", "b.tif", "sub/c.png"):
        noisy = read_image(folder / name).pixels
        expected = restore(noisy, load_model(weights), estimate_noise(noisy), dtype=noisy.dtype)
        np.testing.assert_array_equal(read_image(out / name).pixels, expected)


def test_the_manifest_has_a_line_a_file(batch: Batch, folder: Path, out: Path, weights: Path) -> None:
    result = batch(sigma=20 / 255, strength=0.5)
    records = {record["output"]: record for record in lines(Path(result.manifest))}
    assert result.manifest == str(out / "tnrd-manifest.jsonl")
    assert sorted(records) == ["a.png", "b.tif", "sub/c.png", "sub/deep/d.jpg"]
    record = records["sub/c.png"]
    source, target = folder / "sub/c.png", out / "sub/c.png"
    assert record.pop("seconds").keys() == {"read", "estimate", "denoise", "write"}
    assert record == {
        "status": "done",
        "input": str(source),
        "output": "sub/c.png",
        "input_bytes": source.stat().st_size,
        "input_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "width": 24,
        "height": 20,
        "channels": 1,
        "alpha": False,
        "depth": "uint8",
        "format": "PNG",
        "sigma": [20.0],
        "noise_source": "given",
        "version": tnrd.__version__,
        "weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "all_weights": dict.fromkeys(("grey", "colour"), hashlib.sha256(weights.read_bytes()).hexdigest()),
        "strength": 0.5,
        "noise": "gaussian",
        "given_sigma": 20.0,
        "output_bytes": target.stat().st_size,
        "output_sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
    }


def test_a_bad_file_never_stops_the_others(batch: Batch, folder: Path, out: Path) -> None:
    whole = (folder / "a.png").read_bytes()
    for name, data in {"empty": b"", "text": b"text", "cut": whole[:-30], "ab": b"\x89PNG\r\n\x1a\n"}.items():
        (folder / f"{name}.png").write_bytes(data)
    write_image(folder / "wide.png", Picture(pixels((20, 40))))
    write_image(folder / "deep.jpg.tif", Picture(pixels(dtype="float32")))
    (folder / "deep.jpg.tif").rename(folder / "deep.jpg")  # floats, that the format of the name cannot hold
    (folder / "folder.png").mkdir()
    result = batch(max_pixels=700)
    assert (result.done, result.failed) == (4, 7)
    reasons = {Path(name).name: reason for name, reason in result.failures}
    assert reasons == {r["output"]: r["error"] for r in lines(Path(result.manifest)) if r["status"] == "failed"}
    for name, part in {
        "empty.png": "the file is empty", "text.png": "a text file", "cut.png": "truncated", "ab.png": "truncated",
        "wide.png": "above the limit of 700", "deep.jpg": "cannot hold floating-point", "folder.png": "is a folder",
    }.items():  # fmt: skip
        assert part in reasons[name]
        assert str(folder) not in reasons[name]
        assert not (out / name).exists()


def test_a_fault_of_the_program_is_one_files_failure(batch: Batch, monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    denoise = FileWorker.denoise

    def fail(bench: FileWorker, prepared: Any, is_to_stop: Any) -> Any:
        if prepared.job.name == "a.png":
            raise ZeroDivisionError("x / 0")
        if prepared.job.name == "b.tif":
            raise MemoryError
        return denoise(bench, prepared, is_to_stop)

    monkeypatch.setattr(FileWorker, "denoise", fail)
    result = batch()
    assert [reason for _, reason in result.failures] == [
        "a fault of the program, ZeroDivisionError: x / 0",
        "there is not enough memory for it.",
    ]
    assert sorted(tree(out)) == ["sub/c.png", "sub/deep/d.jpg"]


@pytest.mark.parametrize(("place", "reason"), [("in", "it cannot be read"), ("out", "its output cannot be written")])
def test_what_the_rights_do_not_allow(batch: Batch, monkeypatch: pytest.MonkeyPatch, place: str, reason: str) -> None:
    forbidden = str(batch.folder.parent / place / "sub")
    opened, made = builtins.open, os.makedirs

    def refuse(do: Callable[..., Any]) -> Callable[..., Any]:
        def act(path: Any, *arguments: Any, **options: Any) -> Any:
            if str(path).startswith(forbidden):  # rights do not bind the administrator who may run this
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return do(path, *arguments, **options)

        return act

    monkeypatch.setattr(builtins, "open", refuse(opened))
    monkeypatch.setattr(os, "makedirs", refuse(made))
    result = batch()
    assert (result.done, result.failed) == (2, 2)
    assert {error for _, error in result.failures} == {f"{reason} (Permission denied)."}


def test_weights_that_do_not_fit_fail_picture_by_picture(batch: Batch, tmp_path: Path) -> None:
    save_weights(tmp_path / "colour.safetensors", TNRD(TNRDConfig(stages=1, filters=4, kernel_size=3, channels=3)))
    result = batch(model=tmp_path / "colour.safetensors")
    assert (result.failed, result.stopped) == (4, None)
    assert "The model takes 3 channels" in result.failures[0][1]


def test_what_is_to_be_said_of_a_picture_is_noted(batch: Batch, folder: Path) -> None:
    write_image(folder / "e.png", Picture(pixels(), metadata=Metadata(dpi=(72.0, 72.0), xmp=b"<x/>")))
    write_image(folder / "f.tif", Picture(255 * pixels(dtype="float32")))
    result = batch(sigma=0.1, format="TIFF")
    assert result.remarked == 1
    record = next(r for r in lines(Path(result.manifest)) if r["output"] == "f.tif")
    assert "counts 255 steps up to 1" in record["remarks"][0]
    assert batch(sigma=0.1, format="BMP", output=folder.parent / "bmp").remarked == 1


def test_the_report_sees_every_file(batch: Batch) -> None:
    seen: list[tuple[int, str]] = []
    batch(report=lambda result, record: seen.append((result.reached, record["output"])))
    assert [count for count, _ in seen] == [1, 2, 3, 4]
    assert sorted(name for _, name in seen) == ["a.png", "b.tif", "sub/c.png", "sub/deep/d.jpg"]


# --- Ending early -----------------------------------------------------------------------------------------------------


def test_a_report_that_fails_leaves_nothing_behind(batch: Batch, out: Path) -> None:
    """What is at work when the caller's own function fails is finished, with its line, before that is heard of."""

    def report(result: BatchResult, record: Record) -> None:
        raise RuntimeError("the caller's own")

    with pytest.raises(RuntimeError, match="the caller's own"):
        batch(report=report)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("tnrd-")]
    noted = {record["output"] for record in lines(out / "tnrd-manifest.jsonl") if record["status"] == "done"}
    assert set(tree(out)) == noted


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_ends_the_run(batch: Batch, out: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    fsync, calls = os.fsync, []

    def fail(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) >= 3:  # each picture costs one for itself and one for its line; two may be written at once
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    result = batch()
    assert os.strerror(number) in str(result.stopped)
    assert result.failed == 0
    assert result.done <= 1
    assert len(tree(out)) == result.done  # and no temporary file
    monkeypatch.setattr(os, "fsync", fsync)
    resumed = batch(skip_existing=True)
    assert (resumed.skipped, resumed.done, resumed.stopped) == (result.done, 4 - result.done, None)


def test_what_others_finish_while_the_disk_fills_counts(
    batch: Batch, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of two that are written at once meets the full disk."""
    for failing in range(1, 8):
        fsync, calls = os.fsync, []

        def fail(descriptor: int, fsync: Any = fsync, calls: Any = calls, failing: int = failing) -> None:
            calls.append(descriptor)
            if len(calls) == failing:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            result = batch(output=out / str(failing))
        assert result.stopped is not None
        assert len(tree(out / str(failing))) == result.done


def test_a_manifest_that_cannot_be_written_ends_the_run(
    batch: Batch, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "write", fail)
    assert "the manifest cannot be written (Input/output error)" in str(batch().stopped)
    assert tree(out) == {}


def test_a_run_that_is_asked_to_stop_does(batch: Batch, folder: Path, out: Path) -> None:
    for index in range(30):  # more than are in flight at once
        put(folder / f"{index}.png", index)
    seen: list[str] = []
    result = batch(report=lambda _, record: seen.append(record["output"]), is_to_stop=lambda: bool(seen))
    assert 1 <= result.done < 34
    assert result.stopped is not None
    assert len(tree(out)) == result.done == len(lines(Path(result.manifest)))
    assert batch(skip_existing=True).skipped == result.done


def test_a_large_picture_is_given_up_between_its_tiles(batch: Batch, folder: Path, out: Path) -> None:
    tiles = iter(range(3))
    result = batch(inputs=folder / "a.png", tile=4, is_to_stop=lambda: next(tiles, None) is None)
    assert (result.done, result.failed) == (0, 0)
    assert tree(out) == {}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sigma": 25}, r"sigma must lie in \[0, 100/255\]"),
        ({"sigma": float("nan")}, "sigma must lie in"),
        ({"strength": 2}, "strength must lie in"),
        ({"tile": 0}, "tile must be at least 1"),
        ({"max_pixels": 0}, "max_pixels must be at least 1"),
        ({"model": "grey"}, "No weights 'grey'"),
        ({"engine": "fortran"}, "fortran"),
    ],
)
def test_wrong_arguments_are_found_before_any_work(
    batch: Batch, out: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        batch(**options)
    assert not out.exists()


def test_an_output_folder_that_cannot_be_made(batch: Batch, folder: Path) -> None:
    with pytest.raises(BatchOutputError, match="cannot be made"):
        batch(output=folder / "a.png" / "out")


def test_errors_are_value_errors() -> None:
    assert issubclass(BatchOutputError, BatchError)
    assert issubclass(BatchError, ValueError)
