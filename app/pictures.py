"""Pictures in and out: uploads by their content, PNGs of exactly the pixels, true results to download."""

from __future__ import annotations

import dataclasses
import re
import secrets
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tnrd.image_io import ImageError, Picture, read_image, write_image
from tnrd.image_io.directory import exif_orientation
from tnrd.image_io.pillow import turn_upright
from tnrd.pixels import channels_equal, from_unit, to_unit

from .limits import MAX_FILE_BYTES, MAX_PIXELS

Pixels = NDArray[Any]
_LONGEST_NAME = 60


class PageError(Exception):
    """What a visitor is told, in one sentence."""


def read_upload(path: str, name: str) -> Picture:
    """A picture that a visitor sent, judged by its content and not by its name.

    Args:
        path: Where the server put the upload.
        name: What the visitor called it.

    Raises:
        PageError: It is too large, or no picture that can be read.
    """
    try:
        size = Path(path).stat().st_size
        if size > MAX_FILE_BYTES:
            raise PageError(f"{name} has {size / 2**20:.0f} MB; this page takes up to {MAX_FILE_BYTES // 2**20} MB.")
        return read_image(Path(path).read_bytes(), max_pixels=MAX_PIXELS)
    except ImageError as error:
        reason = str(error).removeprefix("the given bytes: ")
        raise PageError(f"{name} could not be read: {reason}") from error
    except OSError as error:
        raise PageError(f"{name} did not arrive in one piece; please send it again.") from error


def unit_pixels(picture: Picture) -> NDArray[np.float32]:
    """The pixels of an upload on the [0, 1] scale; a grey picture that is stored as RGB as the grey one that it is."""
    return to_unit(plain_pixels(picture))


def plain_pixels(picture: Picture) -> Pixels:
    """The pixels in their own depth, one channel where the three are equal."""
    pixels = picture.pixels
    return pixels[..., 0] if pixels.ndim == 3 and channels_equal(pixels) else pixels


def orientation_of(picture: Picture) -> int:
    """The EXIF orientation, 1 to 8."""
    return exif_orientation(picture.metadata.exif) if picture.metadata.exif else 1


def write_png(image: Pixels, folder: str, stem: str, orientation: int = 1) -> str:
    """A PNG of these pixels for the browser, turned as the EXIF orientation asks.

    Args:
        image: (M, N) or (M, N, 3), 8-bit, or floats on the [0, 1] scale, which are rounded and clipped to 8 bits.
        folder: Where to put it.
        stem: Start of its name, without blanks.
        orientation: EXIF orientation of the pixels.

    Returns:
        The path, a new one each time: a browser keeps what it has seen under an old one.
    """
    pixels = image if image.dtype == np.uint8 else from_unit(np.asarray(image, np.float32), np.dtype(np.uint8))
    path = Path(folder) / f"{stem}-{secrets.token_hex(6)}.png"
    # Quick to pack; without loss at any level.
    Image.fromarray(np.ascontiguousarray(turn_upright(pixels, orientation))).save(path, compress_level=1)
    return str(path)


def write_result(picture: Picture, restored: Pixels, folder: str, name: str, method: str) -> str:
    """The true result as a file: depth, alpha, profile and EXIF of the upload, without loss.

    Args:
        picture: The upload.
        restored: Result on the [0, 1] scale, float32; one channel for a grey picture that is stored as RGB.
        folder: Where to put it, in a folder of its own: an earlier file may still be on its way to the visitor.
        name: What the visitor called the upload.
        method: What made the result.

    Returns:
        The path of a PNG, or of a TIFF for signed and floating-point pixels.

    Raises:
        PageError: It cannot be written.
    """
    pixels = from_unit(restored, picture.pixels.dtype)
    if pixels.ndim < picture.pixels.ndim:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    suffix = ".png" if pixels.dtype.kind == "u" else ".tif"
    path = Path(tempfile.mkdtemp(dir=folder)) / f"{file_stem(name)}-{method}{suffix}"
    try:
        write_image(path, dataclasses.replace(picture, pixels=pixels), overwrite=True)
    except ImageError as error:
        raise PageError(f"The result could not be written: {str(error).rpartition(': ')[2]}") from error
    return str(path)


def file_stem(name: str) -> str:
    """A name that every file system takes, from whatever a visitor called a file."""
    stem = re.sub(r"[^\w.-]+", "_", Path(name).stem).strip("._")
    return stem[:_LONGEST_NAME] or "picture"


def centre(image: Pixels, side: int) -> tuple[slice, slice]:
    """The middle of a picture, at most ``side`` pixels a side, on even rows and columns."""
    starts = [max(0, (length - side) // 2) // 2 * 2 for length in image.shape[:2]]
    rows, columns = (slice(start, start + side) for start in starts)
    return rows, columns
