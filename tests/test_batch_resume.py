"""A batch that goes on: what counts as finished, what is told apart, and what is never denoised twice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from batch_material import Batch, lines, note_denoised, put, quick_weights, tree

from tnrd.config import TNRDConfig
from tnrd.inference.batch.errors import BatchOutputError
from tnrd.inference.batch.file_worker import FileWorker
from tnrd.inference.batch.shards import Shard
from tnrd.model import TNRD
from tnrd.weights import save_weights


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


@pytest.fixture
def denoised(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return note_denoised(monkeypatch)


def test_existing_outputs_are_refused_before_any_work(batch: Batch, out: Path, denoised: list[str]) -> None:
    put(out / "sub/c.png")
    with pytest.raises(BatchOutputError, match=r"1 of 4 outputs exist already, the first is .*out/sub/c\.png"):
        batch()
    assert denoised == []


def test_a_finished_run_is_skipped(batch: Batch, out: Path, denoised: list[str]) -> None:
    batch()
    before, manifest = tree(out), (out / "tnrd-manifest.jsonl").read_bytes()
    result = batch(skip_existing=True)
    assert (result.done, result.skipped, len(denoised)) == (0, 4, 4)
    assert tree(out) == before
    assert (out / "tnrd-manifest.jsonl").read_bytes() == manifest


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("input", "it was made from another input"),
        ("output", "it was changed since it was written"),
        ("manifest", "no manifest tells where it came from"),
        ({"sigma": 0.1}, "it was made with other settings or weights"),
        ({"strength": 0.5}, "it was made with other settings or weights"),
        ({"model": "other"}, "it was made with other settings or weights"),
    ],
)
def test_an_output_that_is_another_is_told_and_replaced_only_when_asked(
    batch: Batch, folder: Path, out: Path, tmp_path: Path, denoised: list[str], change: Any, reason: str
) -> None:
    options: dict[str, Any] = {}
    batch(inputs=folder / "a.png")
    if change == "input":
        put(folder / "a.png", 99)
    elif change == "output":
        (out / "a.png").write_bytes((out / "a.png").read_bytes() + b"x")
    elif change == "manifest":
        (out / "tnrd-manifest.jsonl").unlink()
    else:
        options = dict(change)
        if "model" in options:
            torch.manual_seed(1)
            options["model"] = tmp_path / "other.safetensors"
            save_weights(options["model"], TNRD(TNRDConfig(stages=1, filters=4, kernel_size=3)))
    before = tree(out)
    result = batch(inputs=folder / "a.png", skip_existing=True, **options)
    assert (result.done, result.skipped, result.failed) == (0, 0, 1)
    assert reason in result.failures[0][1]
    assert tree(out) == before
    result = batch(inputs=folder / "a.png", skip_existing=True, overwrite=True, **options)
    assert (result.done, result.failed, len(denoised)) == (1, 0, 2)
    assert batch(inputs=folder / "a.png", skip_existing=True, **options).skipped == 1


def test_a_conflict_does_not_forget_what_was_finished(batch: Batch) -> None:
    batch()
    assert batch(skip_existing=True, sigma=0.1).failed == 4
    assert batch(skip_existing=True).skipped == 4


def test_settings_that_differ_in_small_digits_are_others(batch: Batch) -> None:
    """The gain of a 16-bit camera is a few thousandths of an 8-bit step."""
    batch(noise="poisson-gaussian", gain=0.00026 / 255)
    assert batch(noise="poisson-gaussian", gain=0.00034 / 255, skip_existing=True).failed == 4
    assert batch(noise="poisson-gaussian", gain=0.00026 / 255, skip_existing=True).skipped == 4


def test_a_manifest_that_is_a_link_to_nowhere_is_none(batch: Batch, out: Path) -> None:
    batch()
    (out / "tnrd-manifest-2-of-3.jsonl").symlink_to("gone")
    assert batch(skip_existing=True).skipped == 4


def test_a_copied_tree_is_still_known(batch: Batch, folder: Path, out: Path, tmp_path: Path) -> None:
    batch()
    folder.rename(tmp_path / "moved")
    out.rename(tmp_path / "results")
    for path in (tmp_path / "moved").rglob("*.*"):
        os.utime(path, (0, 0))
    assert batch(inputs=tmp_path / "moved", output=tmp_path / "results", skip_existing=True).skipped == 4


def test_the_same_failure_is_noted_once(batch: Batch, folder: Path) -> None:
    (folder / "x.png").write_bytes(b"")
    manifest = Path(batch().manifest)
    count = len(lines(manifest))
    assert batch(skip_existing=True).failed == 1
    assert len(lines(manifest)) == count
    put(folder / "x.png")
    assert batch(skip_existing=True).done == 1
    assert lines(manifest)[-1]["status"] == "done"


def test_overwrite_does_everything_anew(batch: Batch, out: Path, denoised: list[str]) -> None:
    batch()
    before = tree(out)
    assert batch(overwrite=True).done == 4
    assert len(denoised) == 8
    assert tree(out) == before


def test_in_place_nothing_is_denoised_twice(batch: Batch, folder: Path, denoised: list[str]) -> None:
    original = tree(folder)
    assert batch(output=folder, overwrite=True).done == 4
    clean = tree(folder)
    assert all(clean[name] != original[name] for name in original)
    result = batch(output=folder, overwrite=True, skip_existing=True)
    assert (result.skipped, len(denoised)) == (4, 4)
    assert tree(folder) == clean


def test_beside_the_inputs(batch: Batch, folder: Path) -> None:
    names = set(tree(folder))
    assert batch(output=folder, suffix="_clean").done == 4
    assert set(tree(folder)) - names == {"a_clean.png", "b_clean.tif", "sub/c_clean.png", "sub/deep/d_clean.jpg"}
    assert batch(output=folder, suffix="_clean", skip_existing=True).skipped == 4


def test_an_output_that_appears_meanwhile_is_kept(batch: Batch, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denoise = FileWorker.denoise

    def appear(bench: FileWorker, prepared: Any, is_to_stop: Any) -> Any:
        out.joinpath("a.png").write_bytes(b"somebody else's")
        return denoise(bench, prepared, is_to_stop)

    monkeypatch.setattr(FileWorker, "denoise", appear)
    result = batch(recursive=False)
    assert (result.done, result.failed) == (1, 1)
    assert "appeared while it was worked on" in result.failures[0][1]
    assert out.joinpath("a.png").read_bytes() == b"somebody else's"
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.tif", "tnrd-manifest.jsonl"]
    assert [r["status"] for r in lines(Path(result.manifest)) if r["output"] == "a.png"][-1] == "failed"


def test_shards_that_follow_a_whole_run_find_its_results(batch: Batch, out: Path) -> None:
    batch()
    results = [batch(skip_existing=True, shard=Shard(i, 2)) for i in (1, 2)]
    assert [result.skipped for result in results] == [result.total for result in results]
    noted = [{r["output"] for r in lines(Path(result.manifest))} for result in results]
    assert noted[0] | noted[1] == set(tree(out))
    assert not noted[0] & noted[1]
