"""Why a stack cannot be denoised."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from importlib.util import find_spec


class VolumeError(ValueError):
    """A source or target that cannot be used, or that failed; the message is one sentence fit for the user."""


def check_installed() -> None:
    """Raise ImportError unless the extra ``bigimage`` is installed."""
    missing = [name for name in ("dask", "distributed", "imagecodecs", "tifffile", "zarr") if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"Stacks and big pictures need the extra bigimage, pip install 'tnrd[bigimage]'; {', '.join(missing)} "
            "cannot be found."
        )


@contextlib.contextmanager
def reported(name: str, failure: str) -> Iterator[None]:
    """Turn what libraries raise about a file into one sentence that names it.

    Raises:
        VolumeError: For anything but the ValueErrors of this package, which are sentences already.
    """
    try:
        yield
    except VolumeError:
        raise
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())[:200] or type(error).__name__
        if error.errno == errno.ENOSPC:
            reason = "the disk is full"
        raise VolumeError(f"{name}: {failure} ({reason}).") from error
    except Exception as error:
        # Codecs and stores answer damaged bytes with exceptions of every kind; to the user they all mean this.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise VolumeError(f"{name}: {failure} ({reason}).") from error
