"""Locks on open files, which end with the process, however that ends."""

from __future__ import annotations

import contextlib
import sys

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
