"""Files that are complete or absent."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator

from tnrd.image_io.locks import try_lock

# Names of what a killed process leaves behind.
LEFTOVER = re.compile(r"\.tnrd-[0-9a-f]{16}\.tmp")
_CLOSED = -1


def temporary_in(folder: str) -> str:
    """A fresh name in a folder, one that :data:`LEFTOVER` matches."""
    return os.path.join(folder, f".tnrd-{secrets.token_hex(8)}.tmp")


@contextlib.contextmanager
def completed(
    path: str | os.PathLike[str], *, overwrite: bool, announce: Callable[[], None] = lambda: None
) -> Iterator[str]:
    """An empty temporary file to write to; at the end it is synced and takes its name, on failure it is removed.

    A symbolic link is followed. Without ``overwrite`` no other process can come between, except on file systems without
    hard links, where a file that appears within microseconds of the end is replaced.

    Args:
        path: Where the file is to lie.
        overwrite: Replace what lies there.
        announce: Called when the file lacks nothing but its name.

    Raises:
        OSError: The file cannot be synced, or exists and is not to be replaced.
    """
    place = os.path.realpath(path)
    temporary = temporary_in(os.path.dirname(place))
    with _held(temporary):
        try:
            yield temporary
            _sync(temporary)
            announce()
            _name(temporary, place, overwrite)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


def remove_leftovers(folders: Iterable[str]) -> int:
    """Remove temporary files of this program from folders; how many there were."""
    removed = 0
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries if LEFTOVER.fullmatch(entry.name)]
        except OSError:  # not made yet, or not ours to read
            continue
        for name in names:
            removed += _remove_if_left(os.path.join(folder, name))
    return removed


@contextlib.contextmanager
def _held(path: str) -> Iterator[None]:
    """A new file, locked as long as it is written, so that it is not taken for a leftover."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        if not try_lock(descriptor):  # there are no locks here, and perhaps open files cannot be renamed
            os.close(descriptor)
            descriptor = _CLOSED
        yield
    finally:
        if descriptor != _CLOSED:
            os.close(descriptor)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name(temporary: str, place: str, overwrite: bool) -> None:
    if overwrite:
        os.replace(temporary, place)
        return
    try:
        os.link(temporary, place)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links. To claim the name with an empty file would leave that behind when killed.
        if os.path.lexists(place):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), place) from None
        os.replace(temporary, place)
    else:
        os.unlink(temporary)


def _remove_if_left(path: str) -> bool:
    """Remove a temporary file that nobody holds any more."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR)
        try:
            if try_lock(descriptor):
                os.unlink(path)
                return True
        finally:
            os.close(descriptor)
    return False
