"""The manifest of a batch: JSON, a line a file, written as the files are done; what resuming relies on.

A file's line is on disk before its output takes its name, so an output without a line is never ours; a line without
its output is that of a file in flight when the run was killed. Where a file has several lines, the last one tells how
it stands now; an output may also be the one of an earlier line, if only its hash is the one noted there.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import threading
from array import array
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tnrd.image_io.locks import try_lock
from tnrd.inference.batch.errors import BatchOutputError
from tnrd.inference.batch.shards import Shard, name_hash

Record = dict[str, Any]
STEM = "tnrd-manifest"
_TAIL = 1 << 16
_CLOSED = -1


def manifest_path(folder: str, shard: Shard | None = None) -> str:
    """Where the manifest of a run lies unless told otherwise: in the output folder, one for each shard."""
    part = "" if shard is None else f"-{shard.index}-of-{shard.count}"
    return os.path.join(folder, f"{STEM}{part}.jsonl")


def manifests_in(folder: str) -> list[str]:
    """All manifests in an output folder."""
    return sorted(glob.glob(os.path.join(glob.escape(folder), f"{STEM}*.jsonl")))


def sha256_of(path: str) -> str:
    """Of a file's content."""
    with open(path, "rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def absent_shards(paths: Iterable[str]) -> list[Shard]:
    """Shards of which, by the names of the others' manifests, there is none."""
    found = {
        Shard(int(match[1]), int(match[2]))
        for path in paths
        if (match := re.fullmatch(rf"{STEM}-([1-9]\d*)-of-([1-9]\d*)\.jsonl", os.path.basename(path)))
        if int(match[1]) <= int(match[2])
    }
    counts = sorted({shard.count for shard in found})
    return [Shard(i, n) for n in counts for i in range(1, n + 1) if Shard(i, n) not in found]


def dump(record: Record) -> bytes:
    """A record as a line."""
    return json.dumps(record, separators=(", ", ": ")).encode() + b"\n"


class Manifest:
    """The manifest that a run appends to; it belongs to this run alone as long as it is open.

    Raises:
        BatchOutputError: It cannot be written, is something else than a manifest, or another run has it open.
    """

    def __init__(self, path: str) -> None:
        self.path, self._mutex = path, threading.Lock()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise BatchOutputError(f"{path}: the manifest cannot be written ({error.strerror}).") from error
        try:
            if try_lock(self._file) is False:
                raise BatchOutputError(f"{path}: another run is writing this manifest.")
            self._end = self._cut_torn_line()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            os.close(self._file)
            self._file = _CLOSED

    def append(self, record: Record, *, durable: bool = True) -> None:
        """Add a line; it is there whole or, where there is no room for it, not at all.

        Args:
            record: What it says.
            durable: Wait until it would survive a power cut.

        Raises:
            OSError: It could not be written, or the manifest is closed.
        """
        line = dump(record)
        with self._mutex:
            if self._file == _CLOSED:  # a thread that outlives the run; the number may be another file's by now
                raise OSError(errno.EBADF, os.strerror(errno.EBADF), self.path)
            os.lseek(self._file, self._end, os.SEEK_SET)
            try:
                if os.write(self._file, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
                if durable:
                    os.fsync(self._file)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, self._end)
                raise
            self._end += len(line)

    def _cut_torn_line(self) -> int:
        """Remove what a killed run left of its last line; where the next one begins."""
        size = os.lseek(self._file, 0, os.SEEK_END)
        os.lseek(self._file, 0, os.SEEK_SET)
        if size and os.read(self._file, 1) != b"{":
            raise BatchOutputError(f"{self.path}: the file exists, and is no manifest of a batch.")
        end = size
        while end > 0:
            start = max(0, end - _TAIL)
            os.lseek(self._file, start, os.SEEK_SET)
            place = os.read(self._file, end - start).rfind(b"\n")
            end = start + place + 1 if place >= 0 else start
            if place >= 0:
                break
        if end < size:
            os.ftruncate(self._file, end)
        return end


class History:
    """What manifests say of a file. In memory are 16 bytes for each of their lines: a hash of the name, the place.

    Raises:
        BatchOutputError: One of them exists, but cannot be read.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        try:
            self._files = [_Index(path) for path in dict.fromkeys(paths) if os.path.isfile(path)]
        except OSError as error:
            raise BatchOutputError(f"{error.filename}: the manifest cannot be read ({error.strerror}).") from error

    def records(self, output_name: str) -> Iterator[tuple[str, Record]]:
        """The records of an output with the path of their manifest, of each manifest the last one first."""
        for index in self._files:
            for record in index.records(output_name):
                yield index.path, record


class _Index:
    def __init__(self, path: str) -> None:
        self.path = path
        keys, places = array("Q"), array("Q")
        with open(path, "rb") as lines:
            place = 0
            for line in lines:
                name = (_parse(line) or {}).get("output")
                if isinstance(name, str):
                    keys.append(name_hash(name))
                    places.append(place)
                place += len(line)
        found = np.array(keys, np.uint64)
        order = np.argsort(found, kind="stable")
        self._keys, self._places = found[order], np.array(places, np.uint64)[order]

    def records(self, output_name: str) -> Iterator[Record]:
        key = np.uint64(name_hash(output_name))
        first, end = (int(np.searchsorted(self._keys, key, side=side)) for side in ("left", "right"))
        if first == end:
            return
        with open(self.path, "rb") as lines:
            for place in reversed(self._places[first:end].tolist()):
                lines.seek(place)
                record = _parse(lines.readline())
                if record is not None and record.get("output") == output_name:
                    yield record


def _parse(line: bytes) -> Record | None:
    """A line as a record; None for one that is torn, or empty."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
