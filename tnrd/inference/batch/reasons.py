"""Why a file has no result, in one sentence, and whether the others can still have one."""

from __future__ import annotations

import errno

from tnrd.inference.batch.errors import BatchOutputError
from tnrd.inference.batch.plan import Job

# What is wrong with the disk is wrong for all files to come.
_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def raise_if_fatal(error: Exception, output: str) -> None:
    """Raise BatchOutputError if what went wrong will go wrong with every file to come."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BatchOutputError):
            raise cause
        if isinstance(cause, OSError) and cause.errno in _HOPELESS:
            raise BatchOutputError(f"{output}: it cannot be written ({cause.strerror}).") from error
        cause = cause.__cause__


def reason_of(error: Exception, job: Job) -> str:
    """One sentence; the file is named beside it."""
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error)):
        return "there is not enough memory for it."
    if isinstance(error, FileExistsError):
        return "its output appeared while it was worked on, and was left alone."
    if isinstance(error, OSError) and error.strerror:
        if error.filename == job.input:
            return f"it cannot be read ({error.strerror})."
        return f"its output cannot be written ({error.strerror})."
    text = " ".join(str(error).split()).removeprefix(f"{job.input}: ")
    if isinstance(error, ValueError) and text:
        return text
    return f"a fault of the program, {type(error).__name__}: {text}"
