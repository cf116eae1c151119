"""Files that are complete or absent, and known before they have their name."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Callable


def publish(data: bytes, path: str, *, overwrite: bool, announce: Callable[[], None]) -> None:
    """Write a file that is complete or absent, and call ``announce`` when it lacks nothing but its name.

    Raises:
        OSError: It cannot be written, or exists and is not to be replaced.
    """
    place = os.path.realpath(path)
    temporary = os.path.join(os.path.dirname(place), f".tnrd-{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(temporary, flags, 0o666), "wb") as stream:
        try:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            announce()
            _rename(temporary, place, overwrite)
        except BaseException:
            stream.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


def _rename(temporary: str, place: str, overwrite: bool) -> None:
    if overwrite:
        os.replace(temporary, place)
        return
    try:
        os.link(temporary, place)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links. image_io claims the name with an empty file there; killed right after, a
        # batch would find an output that does not fit its line, so this only looks whether the name is free.
        if os.path.lexists(place):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), place) from None
        os.replace(temporary, place)
    else:
        os.unlink(temporary)


def sha256_of(path: str) -> str:
    """Of a file's content."""
    with open(path, "rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
