"""Who else writes into the output folder, and what runs that were killed have left there.

An output is written under a temporary name first; a run that is killed leaves that file behind. Locks of the operating
system tell it from one that is being written. Where there are none (Windows, some network file systems), leftovers
stay. So that folders are not searched again and again, the first run to come and the last one to go do it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable

from tnrd.image_io.completion import remove_leftovers
from tnrd.image_io.locks import try_lock, unlock
from tnrd.inference.batch.errors import BatchOutputError

LOCK_NAME = ".tnrd.lock"


class Occupancy:
    """A context in which a run is known to be at work in an output folder.

    The first to come and the last to go removes the leftovers of those that were killed, and the last one also the
    lock file by which they know of each other.
    """

    def __init__(self, folder: str, folders: Callable[[], Iterable[str]]) -> None:
        """``folders`` gives all folders in which outputs, and so leftovers, may lie."""
        self._path, self._folders = os.path.join(folder, LOCK_NAME), folders

    def __enter__(self) -> Occupancy:
        while True:
            try:
                self._lock = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            except OSError as error:
                folder = os.path.dirname(self._path)
                raise BatchOutputError(
                    f"{folder}: the output folder cannot be written to ({error.strerror})."
                ) from error
            if try_lock(self._lock):
                remove_leftovers(self._folders())
            shared = try_lock(self._lock, shared=True, wait=True)
            if shared is None or self._is_current():
                return self
            os.close(self._lock)  # the last run removed the file between our opening and our locking it

    def __exit__(self, *_: object) -> None:
        # Upgrading would let two that leave together each wait for the other's lock; now one of them comes last.
        unlock(self._lock)
        locked = try_lock(self._lock)
        if locked and self._is_current():
            remove_leftovers(self._folders())
        if locked is None or (locked and self._is_current()):
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        os.close(self._lock)

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._lock))
        except OSError:
            return False
