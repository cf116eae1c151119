"""Small pictures and hand-made files that the tests of image_io share."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tnrd.image_io import ImageError, Picture, read_image

RAMP = np.add.outer(np.arange(24) * 5, np.arange(31) * 3).astype(np.uint8)
COLOUR = np.dstack((RAMP, RAMP[::-1], 255 - RAMP))
KINDS = [(kind, "uint8") for kind in ("PNG", "JPEG", "WEBP", "BMP")] + [("PNG", "uint16"), ("TIFF", "uint16")]


def random_picture(shape: tuple[int, int], dtype: str, *, rgb: bool, alpha: bool, seed: int = 0) -> Picture:
    rng = np.random.default_rng(seed)

    def draw(size: tuple[int, ...]) -> np.ndarray:
        if dtype == "float32":
            return rng.normal(0.5, 1.0, size).astype(np.float32)
        return rng.integers(0, np.iinfo(dtype).max, size, dtype=dtype, endpoint=True)

    return Picture(draw((*shape, 3) if rgb else shape), draw(shape) if alpha else None)


def assert_same(found: Picture, expected: Picture) -> None:
    np.testing.assert_array_equal(found.pixels, expected.pixels, strict=True)
    assert found.pixels.flags.c_contiguous
    assert (found.alpha is None) == (expected.alpha is None)
    if expected.alpha is not None:
        np.testing.assert_array_equal(found.alpha, expected.alpha, strict=True)


def save(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def tiff(data: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, data, metadata=None, **options)
    return stream.getvalue()


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, *extra: tuple[bytes, bytes], adam7: int = 0
) -> bytes:
    """A PNG of rows that already carry their filter bytes, with extra chunks before the pixels."""
    header = struct.pack(">LLBBBBB", width, height, depth, colour, 0, 0, adam7)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    packed = (struct.pack(">L", len(b)) + k + b + struct.pack(">L", zlib.crc32(k + b)) for k, b in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def refused(data: bytes | Path, reason: str, **options: int) -> None:
    with pytest.raises(ImageError, match=reason) as caught:
        read_image(data, **options)
    # One sentence, about this file.
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(("the given bytes: ", str(data) if isinstance(data, Path) else "the given bytes: "))
    assert message.endswith(".")
