"""Why a stack cannot be denoised."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from importlib.util import find_spec


class VolumeError(ValueError):
    """A source or target that cannot be used, or that failed; the message is one sentence fit for the user."""


class VolumeTargetError(VolumeError):
    """A target that cannot be used."""


def check_installed() -> None:
    """Raise ImportError unless the extra ``bigimage`` is installed."""
    missing = [name for name in ("dask", "distributed", "imagecodecs", "tifffile", "zarr") if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"Stacks and big pictures need the extra bigimage, pip install 'tnrd[bigimage]'; {', '.join(missing)} "
            "cannot be found."
        )


@contextlib.contextmanager
def about(name: str) -> Iterator[None]:
    """Name the source that a sentence about its pixels is about.

    Raises:
        VolumeError: For a ValueError.
    """
    try:
        yield
    except VolumeError:
        raise
    except ValueError as error:
        raise VolumeError(f"{name}: {error}") from error


@contextlib.contextmanager
def reported(name: str, failure: str, kind: type[VolumeError] = VolumeError) -> Iterator[None]:
    """Turn what libraries raise about a file into one sentence that names it.

    Raises:
        VolumeError: Of that kind, for anything that is none already.
    """
    try:
        yield
    except VolumeError:
        raise
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())[:200] or type(error).__name__
        if error.errno == errno.ENOSPC:
            reason = "the disk is full"
        raise kind(f"{name}: {failure} ({reason}).") from error
    except Exception as error:
        # Codecs and stores answer damaged bytes with exceptions of every kind; to the user they all mean this.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise kind(f"{name}: {failure} ({reason}).") from error
