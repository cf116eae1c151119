"""The manifest: whole lines, one writer, found again; and the leftovers of killed runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from batch_material import lines

from tnrd.image_io.completion import completed
from tnrd.inference.batch import manifest as manifests
from tnrd.inference.batch.errors import BatchOutputError
from tnrd.inference.batch.manifest import History, Manifest, absent_shards, dump, manifest_path, manifests_in
from tnrd.inference.batch.occupancy import LOCK_NAME, Occupancy, try_lock
from tnrd.inference.batch.shards import Shard

LEFTOVER = ".tnrd-0123456789abcdef.tmp"
posix = pytest.mark.skipif(os.name != "posix", reason="file locks of POSIX")


def record(name: str, **more: object) -> dict[str, object]:
    return {"status": "done", "output": name, **more}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "manifest.jsonl"


def test_lines_are_appended_and_found_again(path: Path) -> None:
    written = [record(name, n=n) for n, name in enumerate(("a.png", "ü/\udcff.png", "a.png", "b.png"))]
    for part in (written[:2], written[2:]):
        with Manifest(str(path)) as manifest:
            for item in part:
                manifest.append(item)
    assert lines(path) == written
    history = History([str(path), str(path), "absent.jsonl"])
    assert list(history.records("a.png")) == [(str(path), written[2]), (str(path), written[0])]  # the last one first
    assert [item for _, item in history.records("ü/\udcff.png")] == [written[1]]
    assert list(history.records("c.png")) == []


@pytest.mark.parametrize("cut", range(1, 25, 4))
def test_a_torn_line_is_ignored_and_then_removed(path: Path, cut: int) -> None:
    whole, torn = dump(record("a.png")), dump(record("b.png"))[:-cut]
    path.write_bytes(whole + torn)
    assert list(History([str(path)]).records("b.png")) == []
    with Manifest(str(path)) as manifest:
        manifest.append(record("c.png"))
    assert [item["output"] for item in lines(path)] == ["a.png", "c.png"]


def test_a_long_torn_line_is_removed(path: Path) -> None:
    path.write_bytes(dump(record("a.png")) + b'{"' + b"x" * 200_000)
    with Manifest(str(path)):
        pass
    assert path.read_bytes() == dump(record("a.png"))
    path.write_bytes(b'{"' + b"x" * 200_000)
    with Manifest(str(path)):
        pass
    assert path.read_bytes() == b""


def test_names_of_equal_hash_are_told_apart(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(dump(record("a.png")) + dump(record("b.png")))
    monkeypatch.setattr(manifests, "name_hash", lambda name: 7)
    history = History([str(path)])
    assert [item["output"] for _, item in history.records("a.png")] == ["a.png"]
    assert list(history.records("c.png")) == []


def test_another_file_is_not_taken_for_a_manifest(path: Path) -> None:
    path.write_bytes(b"\x89PNG precious")
    with pytest.raises(BatchOutputError, match="is no manifest"):
        Manifest(str(path))
    assert path.read_bytes() == b"\x89PNG precious"
    with pytest.raises(BatchOutputError, match="cannot be written"):
        Manifest(str(path.parent))


@posix
def test_a_manifest_has_one_writer(path: Path) -> None:
    with Manifest(str(path)), pytest.raises(BatchOutputError, match="another run is writing this manifest"):
        Manifest(str(path))
    with Manifest(str(path)):
        pass


def test_a_line_that_does_not_fit_is_not_there_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    with Manifest(str(path)) as manifest:
        manifest.append(record("a.png"))
        with monkeypatch.context() as full:
            full.setattr(os, "write", lambda file, data: write(file, data[:10]))
            with pytest.raises(OSError, match="No space left"):
                manifest.append(record("b.png"))
        assert [item["output"] for item in lines(path)] == ["a.png"]
        manifest.append(record("c.png"))
    assert [item["output"] for item in lines(path)] == ["a.png", "c.png"]


def test_names_of_manifests(tmp_path: Path) -> None:
    folder = tmp_path / "a[b]"
    folder.mkdir()
    paths = [manifest_path(str(folder), shard) for shard in (None, Shard(1, 4), Shard(3, 4))]
    assert [Path(p).name for p in paths] == [
        "tnrd-manifest.jsonl", "tnrd-manifest-1-of-4.jsonl", "tnrd-manifest-3-of-4.jsonl",
    ]  # fmt: skip
    for p in paths:
        Path(p).touch()
    assert sorted(manifests_in(str(folder))) == sorted(paths)
    assert absent_shards(paths) == [Shard(2, 4), Shard(4, 4)]
    assert absent_shards(paths[:1]) == []


def test_a_closed_manifest_takes_no_line(path: Path, tmp_path: Path) -> None:
    """A thread may outlive the run, and the number of the closed file be another's by then."""
    with Manifest(str(path)) as manifest:
        manifest.append(record("a.png"))
    with open(tmp_path / "other", "wb") as other:
        with pytest.raises(OSError, match="Bad file descriptor"):
            manifest.append(record("b.png"))
        other.flush()
    assert (tmp_path / "other").read_bytes() == b""
    assert len(path.read_bytes().splitlines()) == 1


@posix
def test_a_file_that_is_being_written_is_no_leftover(tmp_path: Path) -> None:
    with completed(tmp_path / "out", overwrite=False) as temporary:
        with Occupancy(str(tmp_path), lambda: [str(tmp_path)]):
            pass
        Path(temporary).write_bytes(b"whole")
    assert (tmp_path / "out").read_bytes() == b"whole"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@posix
def test_leftovers_go_when_nobody_else_is_at_work(tmp_path: Path) -> None:
    sub = tmp_path / "sub"
    sub.mkdir()
    kept = [tmp_path / ".tnrd-xyz.tmp", tmp_path / "tnrd.tmp", sub / f"{LEFTOVER}.png"]
    for path in (tmp_path / LEFTOVER, sub / LEFTOVER, *kept):
        path.touch()
    with Occupancy(str(tmp_path), lambda: [str(tmp_path), str(sub), str(tmp_path / "not yet")]):
        assert not (tmp_path / LEFTOVER).exists()
        assert not (sub / LEFTOVER).exists()
    assert all(path.exists() for path in kept)
    assert not (tmp_path / LOCK_NAME).exists()


@posix
def test_temporary_files_of_others_at_work_are_left_until_the_last_one_goes(tmp_path: Path) -> None:
    first = Occupancy(str(tmp_path), lambda: [str(tmp_path)])
    second = Occupancy(str(tmp_path), lambda: [str(tmp_path)])
    with first:
        (tmp_path / LEFTOVER).touch()
        with second:
            assert (tmp_path / LEFTOVER).exists()
        assert (tmp_path / LEFTOVER).exists()
        assert (tmp_path / LOCK_NAME).exists()
    assert list(tmp_path.iterdir()) == []


@posix
def test_a_lock_file_removed_meanwhile_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open
    calls = []

    def remove_after_opening(path: str, *arguments: int) -> int:
        descriptor = opened(path, *arguments)
        if not calls:
            os.unlink(path)
        calls.append(path)
        return descriptor

    monkeypatch.setattr(os, "open", remove_after_opening)
    with Occupancy(str(tmp_path), lambda: []):
        assert len(calls) == 2
        assert (tmp_path / LOCK_NAME).exists()


@posix
def test_locks_exclude_each_other(tmp_path: Path) -> None:
    one, two = (os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    try:
        assert try_lock(one, shared=True)
        assert try_lock(two, shared=True)
        assert try_lock(two) is False
    finally:
        os.close(one)
        os.close(two)


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    with (
        pytest.raises(BatchOutputError, match="the output folder cannot be written to"),
        Occupancy(str(tmp_path / "absent"), lambda: []),
    ):
        pass
