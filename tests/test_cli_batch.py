"""``tnrd-denoise`` with many files: which paths mean what, and what is refused."""

from __future__ import annotations

import functools
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from batch_material import Batch, Run, lines, put, quick_weights, sentences, tree

from tnrd.cli import main, reporting
from tnrd.image_io import read_image
from tnrd.inference.levels import estimate_noise
from tnrd.inference.restore import restore
from tnrd.weights import load_model

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


def give_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


# --- Which paths mean what --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["in", "out"], ["a.png", "b.tif"]),
        (["--recursive", "in", "out/"], ALL),
        (["in", "--recursive", "out", "--suffix", "_x"], ["a_x.png", "b_x.tif", "sub/c_x.png", "sub/deep/d_x.jpg"]),
        (["in", "out", "--format", "tiff"], ["a.tif", "b.tif"]),
        (["in/*.png", "out"], ["a.png"]),
        (["in/**/*.[pj]*", "out"], ["a.png", "sub/c.png", "sub/deep/d.jpg"]),
        (["in/a.png", "out/"], ["a.png"]),
        (["in/a.png", "in/sub/c.png", "out"], ["a.png", "c.png"]),
        (["in/a.png", "--sigma", "20", "in/sub/c.png", "out"], ["a.png", "c.png"]),
        (["in/a.png", "in/sub/c.png", "out", "--root", "in"], ["a.png", "sub/c.png"]),
        (["in/sub", "in/a.png", "out"], ["a.png", "c.png"]),
        (["--recursive", "--", "in", "out"], ALL),
    ],
)
def test_paths(cli: Cli, batch: Batch, arguments: list[str], expected: list[str]) -> None:
    assert cli(*arguments).status == 0
    assert sorted(tree(batch.out)) == expected


def test_an_existing_folder_takes_a_single_picture(cli: Cli, batch: Batch) -> None:
    batch.out.mkdir()
    assert cli("in/a.png", "out").status == 0
    noisy = read_image("in/a.png").pixels
    expected = restore(noisy, load_model(batch.weights), estimate_noise(noisy), dtype=noisy.dtype)
    np.testing.assert_array_equal(read_image("out/a.png").pixels, expected)


@pytest.mark.parametrize(
    ("options", "data"),
    [
        (["--root", "in"], b"in/a.png\r\nin/sub/c.png\n\nin/sub/n\xc3\xa9.png"),
        (["--root", "in", "--null"], b"in/a.png\0in/sub/c.png\0in/sub/n\xc3\xa9.png\0"),
    ],
)
@pytest.mark.parametrize("source", ["-", "list.txt"])
def test_a_list(
    cli: Cli, batch: Batch, monkeypatch: pytest.MonkeyPatch, options: list[str], data: bytes, source: str
) -> None:
    put(batch.folder / "sub/né.png")
    give_stdin(monkeypatch, data)
    Path("list.txt").write_bytes(data)
    assert cli("--files-from", source, *options, "out").status == 0
    assert sorted(tree(batch.out)) == ["a.png", "sub/c.png", "sub/né.png"]


def test_a_list_of_many_blocks(cli: Cli, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"in/{'x' * 90}{i}.png" for i in range(2000)]
    give_stdin(monkeypatch, "\n".join(names).encode())
    run = cli("--files-from", "-", "out", "--json")
    assert run.status == reporting.SOME_FAILED
    receipt = json.loads(run.out)
    assert receipt["files"]["failed"] == 2000
    assert len(receipt["failures"]) == 1000
    assert "... and 1000 more" in run.err
    # Two threads read, and each notes what it could not.
    assert sorted(record["input"] for record in lines(batch.out / "tnrd-manifest.jsonl")) == sorted(names)


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["in", "in/sub", "out.png"], reporting.USAGE, "the last path is the folder for the results, got out.png"),
        (["--recursive", "in/a.png", "out.png"], reporting.USAGE, "the last path is the folder"),
        (["--files-from", "list.txt"], reporting.USAGE, "required: output"),
        (["--recursive", "in"], reporting.USAGE, "required: output"),
        (["-", "in", "out"], reporting.USAGE, "--files-from -"),
        (["in", "in/sub", "-"], reporting.USAGE, "Only a single picture"),
        (["in", "out", "--null"], reporting.USAGE, "--null is for the list"),
        (["in", "out", "--shard", "5/4"], reporting.USAGE, "got 5/4"),
        (["in", "out", "--shard", "auto"], reporting.USAGE, "No shard can be told"),
        (["in", "out", "--shard", "1/2", "--merge-manifests"], reporting.USAGE, "leave --shard out"),
        (["in", "out", "--suffix", "a/b"], reporting.USAGE, "without folders, got 'a/b'"),
        (["in", "out", "--tile", "0"], reporting.USAGE, "at least 1, got 0"),
        (["absent", "out", "--recursive"], reporting.INPUT, "absent: there is no such file or folder"),
        (["in/*.webp", "out"], reporting.INPUT, "matches no pictures"),
        (["--files-from", "absent.txt", "out"], reporting.INPUT, "absent.txt: the list cannot be read"),
        (["in", "in"], reporting.OUTPUT, "lies in the input folder in"),
        (["in", "in/a.png", "out"], reporting.INPUT, "in/a.png is among the inputs twice"),
        (["in", "out", "--manifest", "absent/m.jsonl"], reporting.OUTPUT, "the manifest cannot be written"),
        (["in", "out", "--manifest", "in/a.png"], reporting.OUTPUT, "is no manifest"),
        (["in", "out", "--merge-manifests"], reporting.OUTPUT, "there are no manifests"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    cli: Cli, batch: Batch, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, sentence: str
) -> None:
    for name in ("SLURM_ARRAY_TASK_ID", "RANK"):
        monkeypatch.delenv(name, raising=False)
    before = tree(batch.folder)
    run = cli(*arguments)
    assert (run.status, run.out) == (status, b"")
    (said,) = sentences(run.err)
    assert sentence in said
    assert tree(batch.folder) == before
    assert not batch.out.exists() or not tree(batch.out)


def test_colliding_names_are_refused_before_any_work(cli: Cli, batch: Batch) -> None:
    put(batch.folder / "a.jpg")
    run = cli("in", "out", "--format", "png")
    assert run.status == reporting.OUTPUT
    (said,) = sentences(run.err)
    assert "in/a.jpg and in/a.png would both become out/a.png" in said
    assert not batch.out.exists()


def test_unusable_weights(batch: Batch, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["in", "out", "--model", "grey"]) == reporting.WEIGHTS
    assert "No weights 'grey'" in capfd.readouterr().err


# --- Start-up ---------------------------------------------------------------------------------------------------------


def test_a_refusal_does_not_wait_for_torch(batch: Batch) -> None:
    put(batch.folder / "a.jpg")
    code = "import sys; from tnrd.cli import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    arguments = ["in", "out", "--format", "png"]
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert run.stdout.split() == ["4", "False"]
