"""The manifests of shards merged, and what they tell to be missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from batch_material import Batch, lines, put, quick_weights, tree

from tnrd.inference.batch.errors import BatchOutputError
from tnrd.inference.batch.manifest import Manifest
from tnrd.inference.batch.merge import Census, merge
from tnrd.inference.batch.plan import make_plan
from tnrd.inference.batch.shards import Shard


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def batch(tmp_path: Path, weights: Path) -> Batch:
    return Batch.of(tmp_path, weights)


def merged(batch: Batch, *, verify: bool = False) -> Census:
    plan = make_plan(batch.folder, batch.out, recursive=True)
    return merge(plan, str(batch.out / "tnrd-manifest.jsonl"), verify=verify)


def test_all_shards_make_a_whole(batch: Batch) -> None:
    for i in (1, 2, 3):
        batch(shard=Shard(i, 3))
    census = merged(batch)
    assert census.complete
    assert (census.counts, census.lacking, census.absent) == ({"done": 4}, [], [])
    records = lines(Path(census.path))
    assert [record["output"] for record in records] == ["a.png", "b.tif", "sub/c.png", "sub/deep/d.jpg"]
    of_shards = [record for i in (1, 2, 3) for record in lines(batch.out / f"tnrd-manifest-{i}-of-3.jsonl")]
    assert sorted(records, key=lambda r: r["output"]) == sorted(of_shards, key=lambda r: r["output"])


def test_what_is_missing_is_named(batch: Batch) -> None:
    batch()
    (batch.out / "a.png").unlink()
    (batch.out / "b.tif").write_bytes(b"longer or shorter")
    put(batch.folder / "new.png")
    (batch.folder / "bad.png").write_bytes(b"")
    batch(inputs=batch.folder / "bad.png")
    census = merged(batch)
    assert not census.complete
    assert census.counts == {"done": 2, "missing": 3, "failed": 1}
    assert {Path(name).name: reason for name, reason in census.lacking} == {
        "a.png": "its output is gone, or was never finished.",
        "b.tif": "its output was changed since it was written.",
        "new.png": "no manifest holds it.",
        "bad.png": "the file is empty.",
    }
    states = {record["output"]: record["status"] for record in lines(Path(census.path))}
    assert (states["a.png"], states["new.png"], states["bad.png"]) == ("missing", "missing", "failed")


def test_the_run_goes_on_from_a_merged_manifest(batch: Batch) -> None:
    batch(shard=Shard(1, 2))
    merged(batch)
    rest = batch(skip_existing=True)
    assert (rest.failed, rest.skipped + rest.done) == (0, 4)
    assert merged(batch).complete


def test_a_changed_output_of_the_same_size_needs_verifying(batch: Batch) -> None:
    batch()
    path = batch.out / "a.png"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert merged(batch).complete
    assert merged(batch, verify=True).counts == {"done": 3, "missing": 1}


def test_a_result_counts_more_than_a_failure_elsewhere(batch: Batch) -> None:
    batch()
    batch(skip_existing=True, sigma=0.1, manifest=batch.out / "tnrd-manifest-other.jsonl")
    assert merged(batch).complete


def test_merging_needs_manifests_and_leaves_nothing_else(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    batch.out.mkdir()
    with pytest.raises(BatchOutputError, match="there are no manifests"):
        merged(batch)
    batch()
    before = (batch.out / "tnrd-manifest.jsonl").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "replace", full)
        with pytest.raises(BatchOutputError, match=r"cannot be written \(No space left"):
            merged(batch)
    assert (batch.out / "tnrd-manifest.jsonl").read_bytes() == before
    assert [path.name for path in batch.out.glob("*.tmp")] == []
    assert len(tree(batch.out)) == 4


@pytest.mark.skipif(os.name != "posix", reason="file locks of POSIX")
def test_a_manifest_in_use_is_not_replaced(batch: Batch) -> None:
    batch()
    with (
        Manifest(str(batch.out / "tnrd-manifest.jsonl")),
        pytest.raises(BatchOutputError, match="another run is writing"),
    ):
        merged(batch)
