"""Who else writes into the output folder, and what runs that were killed have left there.

An output is written under a temporary name first; a run that is killed leaves that file behind. Only when no other
run is at work in the folder can it be told from one that is being written. Locks of the operating system tell: they
end with the process, however that ends. Where there are none (Windows, some network file systems), leftovers stay.
Whoever writes single pictures there takes no lock: beginning or ending a batch may then cost that picture, with an
error that says so.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable

from tnrd.image_io.completion import LEFTOVER
from tnrd.inference.batch.errors import BatchOutputError

LOCK_NAME = ".tnrd.lock"

if sys.platform == "win32":

    def try_lock(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool | None:
        """None: there are no such locks here."""
        return None

    def unlock(descriptor: int) -> None:
        """Nothing to give back."""

else:
    import fcntl

    def try_lock(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool | None:
        """Lock an open file: whether that succeeded, None where the file system has no locks."""
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True

    def unlock(descriptor: int) -> None:
        """Give a lock back."""
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)


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
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, name))
                removed += 1
    return removed
