"""Writing TIFF: deflated strips of any depth, with colour profile, XMP, resolution and the EXIF directories."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tnrd.image_io import directory as tags
from tnrd.image_io.directory import Directory, Field, Header
from tnrd.image_io.picture import Picture
from tnrd.image_io.tiff import DESCRIPTIVE, ICC, XMP, check_finite

# Bytes of pixels in a strip, as the libraries that read them expect it (small strips, small buffers).
_STRIP = 1 << 18
# Above this many bytes of pixels the 32-bit offsets of a classic TIFF may not reach.
CLASSIC_LIMIT = 4_000_000_000
_DESCRIPTION = 270
_RESOLUTION_LIMIT = 2**32 - 1


def write_tiff(picture: Picture, target: BinaryIO, *, classic_limit: int = CLASSIC_LIMIT) -> None:
    """Encode a picture of any depth, deflated, integers with the horizontal predictor; BigTIFF above 4 GB.

    Of the EXIF, the descriptive tags and the EXIF, GPS and interoperability directories are written byte for byte, in
    their own byte order. The maker note (its offsets would be wrong) and the thumbnail (it would be a page) are not.

    Raises:
        ImageError: NaN or infinite samples.
    """
    pixels, alpha = picture.pixels, picture.alpha
    check_finite(pixels)
    check_finite(alpha)
    order, main = tags.read_exif(picture.metadata.exif)
    big = pixels.nbytes + (0 if alpha is None else alpha.nbytes) > classic_limit
    header = Header(order, big, 16 if big else 8)
    rows = max(1, _STRIP // (pixels[0].nbytes + (0 if alpha is None else alpha[0].nbytes)))
    strips = -(-pixels.shape[0] // rows)
    main.fields = {tag: item for tag, item in main.fields.items() if tag in DESCRIPTIVE}
    if _tells_another_shape(main.fields.get(_DESCRIPTION), picture):
        del main.fields[_DESCRIPTION]
    main.children.get(tags.EXIF_DIRECTORY, Directory()).fields.pop(tags.MAKER_NOTE, None)
    main.fields |= _layout_fields(picture, rows, order) | _metadata_fields(picture, order)
    # The directory comes first; its size is known before the offsets and byte counts that it will hold.
    _place_strips(main, [0] * strips, [0] * strips, header)
    start = header.first + len(tags.write_directory(main, header, header.first))
    target.write(bytes(start))
    offsets, counts, place = [], [], start
    for strip in _strips(pixels, alpha, rows, order):
        packed = zlib.compress(strip)
        target.write(packed)
        offsets.append(place)
        counts.append(len(packed))
        place += len(packed)
    _place_strips(main, offsets, counts, header)
    target.seek(0)
    target.write(header.to_bytes() + tags.write_directory(main, header, header.first))
    target.seek(0, 2)


def _tells_another_shape(description: Field | None, picture: Picture) -> bool:
    """Whether it is tifffile's own, JSON with the shape of its array, and the page is laid out in another way."""
    if description is None or not description.raw.startswith(b'{"shape": '):
        return False
    channels = (1 if picture.pixels.ndim == 2 else 3) + int(picture.alpha is not None)
    try:
        shape = json.loads(description.raw.rstrip(b"\0"))["shape"]
    except ValueError:  # somebody else's
        return False
    return bool(shape != [*picture.pixels.shape[:2], *([channels] if channels > 1 else [])])


def _place_strips(main: Directory, offsets: list[int], counts: list[int], header: Header) -> None:
    kind = tags.LONG8 if header.big else tags.LONG
    main.fields[273] = tags.pack(kind, tuple(offsets), header.order)
    main.fields[279] = tags.pack(kind, tuple(counts), header.order)


def _layout_fields(picture: Picture, rows: int, order: tags.ByteOrder) -> dict[int, Field]:
    pixels = picture.pixels
    height, width = pixels.shape[:2]
    colours, alphas = 1 if pixels.ndim == 2 else 3, int(picture.alpha is not None)
    floating, kind = pixels.dtype.kind == "f", {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    short = {
        258: (8 * pixels.itemsize,) * (colours + alphas),
        259: (8,),
        262: (1 if colours == 1 else 2,),
        277: (colours + alphas,),
        284: (1,),
        317: (1 if floating else 2,),
        339: (kind,) * (colours + alphas),
    }
    if alphas:
        short[338] = (2,)
    long = {256: width, 257: height, 278: rows}
    fields = {tag: tags.pack(tags.SHORT, values, order) for tag, values in short.items()}
    return fields | {tag: tags.pack(tags.LONG, (value,), order) for tag, value in long.items()}


def _metadata_fields(picture: Picture, order: tags.ByteOrder) -> dict[int, Field]:
    metadata, fields = picture.metadata, {}
    if metadata.dpi is not None:
        fields[296] = tags.pack(tags.SHORT, (2,), order)
        for tag, value in zip((282, 283), metadata.dpi, strict=True):
            dots = min(max(value, 1.0), float(_RESOLUTION_LIMIT))
            ratio = Fraction(dots).limit_denominator(min(10**6, int(_RESOLUTION_LIMIT / dots)))
            fields[tag] = tags.pack(tags.RATIONAL, (ratio.numerator, ratio.denominator), order)
    if metadata.icc is not None:
        fields[ICC] = Field(tags.UNDEFINED, metadata.icc)
    if metadata.xmp is not None:
        fields[XMP] = Field(tags.BYTE, metadata.xmp)
    return fields


def _strips(pixels: NDArray[Any], alpha: NDArray[Any] | None, rows: int, order: tags.ByteOrder) -> Iterator[bytes]:
    """Strips as bytes in file order; integers as differences from the pixel to the left (modulo their range)."""
    stored = np.dtype(f"{order}{pixels.dtype.kind}{pixels.itemsize}")
    for start in range(0, pixels.shape[0], rows):
        band = pixels[start : start + rows].reshape(-1, pixels.shape[1], 1 if pixels.ndim == 2 else 3)
        if alpha is not None:
            band = np.concatenate((band, alpha[start : start + rows, :, None]), axis=2)
        if band.dtype.kind in "iu":
            band = np.concatenate((band[:, :1], band[:, 1:] - band[:, :-1]), axis=1)
        yield band.astype(stored, copy=False).tobytes()
