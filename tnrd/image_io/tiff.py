"""TIFF: 8 and 16 bit, floating point, grey or RGB with or without alpha, to the last bit.

Pillow cuts 16-bit colour to 8 bit, knows neither floating-point colour nor 16-bit grey with alpha, and rotates the
pixels; OpenCV premultiplies alpha; tifffile needs a codec package for LZW. So the samples are read here, and the
libtiff inside Pillow only unpacks what zlib cannot. Pictures of at most 8 bits in the older kinds (bilevel, palette,
JPEG, YCbCr, CMYK) are left to Pillow as a whole. Source: TIFF 6.0 (Adobe, 1992); its technical note 3 for the
floating-point predictor.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tnrd.image_io import directory as tags
from tnrd.image_io.directory import Directory, Header, read_at
from tnrd.image_io.picture import ImageError, Metadata, Picture, check_size

if TYPE_CHECKING:
    from PIL import Image

_PLAIN, _LZW, _ADOBE_DEFLATE, _PACKBITS, _DEFLATE, _LZMA, _ZSTD = 1, 5, 8, 32773, 32946, 34925, 50000
_COMPRESSIONS = (_PLAIN, _LZW, _ADOBE_DEFLATE, _PACKBITS, _DEFLATE, _LZMA, _ZSTD)
_WHITE_IS_ZERO, _RGB = 0, 2
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_CODES = {_UNSIGNED: "u", _SIGNED: "i", _FLOAT: "f"}  # of numpy
_ASSOCIATED_ALPHA = 1
XMP, ICC = 700, 34675
# Tags that describe the scene, the author or the place, not the layout of the file; the rest is not carried over.
DESCRIPTIVE = {
    *(269, 270, 271, 272, 274, 282, 283, 285, 296, 305, 306, 315, 316, 18246, 18249, 33432, 33723),
    *range(40091, 40096),
    *(33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113),
}
# Tags without which the samples cannot be found or would be misread.
_STRUCTURAL = {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 320, *range(322, 326), 338, 339}


@dataclass(frozen=True)
class _Layout:
    """What the tags say about the samples; ``extra`` is the meaning of the sample after the colours, or None."""

    order: tags.ByteOrder
    width: int
    height: int
    bits: int
    kind: int
    samples: int
    photometric: int
    compression: int
    predictor: int
    separate: bool
    extra: int | None
    segment: tuple[int, int]
    offsets: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def colours(self) -> int:
        return 3 if self.photometric == _RGB else 1


def read_tiff(source: BinaryIO, max_pixels: int) -> Picture:
    """Decode a TIFF of one page; half and double precision become float32, premultiplied alpha straight.

    Raises:
        ImageError: Truncated, damaged, too large, several pages, NaN or infinite values, or an unsupported kind.
    """
    header = tags.read_header(source)
    if header is None:
        raise ImageError("the file is truncated: the TIFF header is cut off.")
    main, _ = tags.read_directory(source, header, header.first)
    if main.lost & _STRUCTURAL:
        raise ImageError(f"the file is truncated or damaged: tag {min(main.lost & _STRUCTURAL)} cannot be read.")
    _refuse_pages(source, header)
    width, height = (_value(main, header, tag, 0) for tag in (256, 257))
    check_size(width, height, max_pixels)
    metadata = _read_metadata(main, header)
    bits = tags.integers(main.fields.get(258), header.order) or (1,)
    photometric = _value(main, header, 262, 1)
    simple = photometric in (0, 1, 2) and _value(main, header, 259, 1) in _COMPRESSIONS
    if simple and set(bits) <= {8, 16, 32, 64} and _value(main, header, 266, 1) == 1:
        pixels, alpha = _read_samples(source, _layout(main, header, bits, photometric))
        return Picture(pixels, alpha, "TIFF", metadata)
    if max(bits) > 8:
        compression = _value(main, header, 259, 1)
        raise ImageError(
            f"the samples have {max(bits)} bits with photometric interpretation {photometric} and compression "
            f"{compression}; 8- or 16-bit integers and floats, grey or RGB, deflated, LZW or plain, can be read."
        )
    return _read_with_pillow(source, main, header, metadata)


def _refuse_pages(source: BinaryIO, header: Header) -> None:
    seen, offset = set(), header.first
    while offset and offset not in seen:
        seen.add(offset)
        offset = tags.read_directory(source, header, offset)[1]
    if len(seen) > 1:
        raise ImageError(f"the file holds {len(seen)} pages, a stack: --stack denoises it, or tnrd.denoise_volume.")


def _value(main: Directory, header: Header, tag: int, default: int) -> int:
    return (tags.integers(main.fields.get(tag), header.order) or (default,))[0]


def _layout(main: Directory, header: Header, bits: tuple[int, ...], photometric: int) -> _Layout:
    """Gather and check the tags of a picture with whole bytes a sample.

    Raises:
        ImageError: A combination outside the supported ones, or missing data.
    """
    samples, kind = _value(main, header, 277, len(bits)), _value(main, header, 339, _UNSIGNED)
    width, height = _value(main, header, 256, 0), _value(main, header, 257, 0)
    names = {_UNSIGNED: "unsigned integers", _SIGNED: "signed integers", _FLOAT: "floating-point values"}
    if len(set(bits)) > 1 or (kind, bits[0]) not in {(1, 8), (1, 16), (2, 16), (3, 16), (3, 32), (3, 64)}:
        found = f"{'/'.join(map(str, bits))}-bit {names.get(kind, 'values of an unknown kind')}"
        raise ImageError(
            f"the samples are {found}; 8-bit unsigned and 16-bit integers and floats can be read: convert to floats."
        )
    if photometric == _WHITE_IS_ZERO and kind != _UNSIGNED:
        raise ImageError(f"{names[kind]} of which zero is white cannot be read.")
    colours = 3 if photometric == _RGB else 1
    extra = tags.integers(main.fields.get(338), header.order)
    # OpenCV and others write RGBA without saying what the fourth sample is.
    meaning = extra[0] if extra else 2 if (samples, colours) == (4, 3) else 0
    if samples != colours and (samples != colours + 1 or meaning not in (1, 2)):
        raise ImageError(f"the picture has {samples} channels; grey or RGB with at most one alpha channel can be read.")
    tiled = 324 in main.fields
    segment = (_value(main, header, 323, 0), _value(main, header, 322, 0))
    if not tiled:
        segment = (min(_value(main, header, 278, height), height), width)
    return _Layout(
        *(header.order, width, height, bits[0], kind, samples, photometric),
        *(_value(main, header, 259, 1), _value(main, header, 317, 1), _value(main, header, 284, 1) == 2),
        meaning if samples > colours else None,
        segment,
        tags.integers(main.fields.get(324 if tiled else 273), header.order),
        tags.integers(main.fields.get(325 if tiled else 279), header.order),
    )


def _read_samples(source: BinaryIO, layout: _Layout) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Unpack all strips or tiles into pixels, (M, N[, 3]), and alpha, (M, N)."""
    shape = (layout.height, layout.width)
    dtype = np.dtype(np.float32 if layout.kind == _FLOAT else f"{_CODES[layout.kind]}{layout.bits // 8}")
    pixels: NDArray[Any] = np.empty((*shape, layout.colours), dtype)
    alpha: NDArray[Any] | None = None if layout.extra is None else np.empty(shape, dtype)
    for (plane, y, x), offset, count in _segments(layout):
        block = _unpack_segment(source, layout, y, offset, count)[:, : layout.width - x]
        place = (slice(y, y + block.shape[0]), slice(x, x + block.shape[1]))
        with np.errstate(over="ignore"):
            if plane < layout.colours:
                pixels[(*place, slice(plane, layout.colours))] = block[..., : layout.colours]
            if alpha is not None and (plane == layout.colours or not layout.separate):
                alpha[place] = block[..., -1]
    if layout.colours == 1:
        pixels = pixels[..., 0]
    if layout.photometric == _WHITE_IS_ZERO:
        np.subtract(np.iinfo(dtype).max, pixels, out=pixels)
    for values in (pixels, alpha):
        check_finite(values)
    if alpha is not None and layout.extra == _ASSOCIATED_ALPHA:
        _make_straight(pixels, alpha)
    return pixels, alpha


def _segments(layout: _Layout) -> Iterator[tuple[tuple[int, int, int], int, int]]:
    """((plane, row, column) of the corner, offset, byte count) of each strip or tile, in file order."""
    rows, columns = layout.segment
    if rows < 1 or columns < 1:
        raise ImageError(f"the file is damaged: its pieces are {columns}x{rows} pixels.")
    planes = layout.samples if layout.separate else 1
    needed = planes * -(-layout.height // rows) * -(-layout.width // columns)
    counts = layout.counts if layout.compression != _PLAIN else layout.offsets
    if min(len(layout.offsets), len(counts)) < needed:
        raise ImageError(f"the file is damaged: it lists {len(layout.offsets)} of {needed} pieces of the picture.")
    corners = product(range(planes), range(0, layout.height, rows), range(0, layout.width, columns))
    return zip(corners, layout.offsets, counts, strict=False)


def _unpack_segment(source: BinaryIO, layout: _Layout, y: int, offset: int, count: int) -> NDArray[Any]:
    """One strip or tile as (rows, columns, samples), predictor undone, rows below the picture cut off."""
    rows, columns = layout.segment
    rows = min(rows, layout.height - y)
    samples, size = 1 if layout.separate else layout.samples, layout.bits // 8
    stride = columns * samples * size
    if layout.compression == _PLAIN:
        raw = read_at(source, offset, rows * stride)
    else:
        packed = read_at(source, offset, count)
        if len(packed) != count:
            raise ImageError(f"the file is truncated: a piece of the picture has {len(packed)} of {count} bytes.")
        raw = _decompress(packed, layout.compression, rows, stride)
    if len(raw) != rows * stride:
        raise ImageError(f"the file is truncated: a piece of the picture has {len(raw)} of {rows * stride} bytes.")
    if layout.predictor == 3 and layout.kind == _FLOAT:
        planes = np.cumsum(np.frombuffer(raw, np.uint8).reshape(rows, -1, samples), axis=1, dtype=np.uint8)
        shuffled = planes.reshape(rows, size, -1).swapaxes(1, 2)
        return np.ascontiguousarray(shuffled).view(f">f{size}").reshape(rows, columns, samples)
    kind = _CODES[layout.kind]
    if layout.predictor == 2:
        steps = np.frombuffer(raw, f"{layout.order}u{size}").reshape(rows, columns, samples)
        return np.cumsum(steps, axis=1, dtype=f"u{size}").view(f"{kind}{size}")
    if layout.predictor != 1:
        raise ImageError(f"predictor {layout.predictor} does not go with these samples.")
    return np.frombuffer(raw, f"{layout.order}{kind}{size}").reshape(rows, columns, samples)


def _decompress(packed: bytes, compression: int, rows: int, stride: int) -> bytes:
    """Unpack one segment; libtiff gets it as an 8-bit grey picture of the same number of bytes."""
    if compression in (_ADOBE_DEFLATE, _DEFLATE):
        inflater = zlib.decompressobj()
        raw = inflater.decompress(packed, rows * stride)
        # The checksum at the end is only compared once the inflater is asked for more.
        inflater.decompress(inflater.unconsumed_tail, 1)
        return raw
    shape = {256: stride, 257: rows, 258: 8, 259: compression, 262: 1, 277: 1, 278: rows, 279: len(packed)}
    main = Directory({tag: tags.pack(tags.LONG, (value,), "<") for tag, value in shape.items()})
    header = Header("<", False, 8)
    main.fields[273] = tags.pack(tags.LONG, (0,), "<")
    start = 8 + len(tags.write_directory(main, header, 8))
    main.fields[273] = tags.pack(tags.LONG, (start,), "<")
    file = header.to_bytes() + tags.write_directory(main, header, 8) + packed
    return _opened_by_pillow(file).tobytes()


def check_finite(values: NDArray[Any] | None) -> None:
    """Raise for NaN and infinite samples.

    Raises:
        ImageError: Naming their number and the first of them.
    """
    if values is None or values.dtype.kind != "f" or np.isfinite(values).all():
        return
    bad = np.argwhere(~np.isfinite(values))
    row, column = bad[0][:2]
    raise ImageError(
        f"{len(bad)} samples are NaN or infinite, the first at row {row}, column {column}; fill them first."
    )


def _make_straight(pixels: NDArray[Any], alpha: NDArray[Any]) -> None:
    """Divide premultiplied colours by their alpha, in place; fully transparent pixels become black."""
    full = 1.0 if pixels.dtype.kind == "f" else float(np.iinfo(pixels.dtype).max)
    for row, opacity in zip(pixels, alpha, strict=True):
        inverse = np.divide(full, opacity, out=np.zeros(opacity.shape, np.float64), where=opacity > 0)
        straight = row * (inverse if row.ndim == 1 else inverse[:, None])
        row[...] = straight if pixels.dtype.kind == "f" else np.rint(np.clip(straight, 0, full))


def _read_with_pillow(source: BinaryIO, main: Directory, header: Header, metadata: Metadata) -> Picture:
    """The older kinds of at most 8 bits."""
    from tnrd.image_io.pillow import to_arrays

    file = read_at(source, 0, -1)
    for offsets, counts in ((273, 279), (324, 325)):
        places = (tags.integers(main.fields.get(tag), header.order) for tag in (offsets, counts))
        if any(offset + count > len(file) for offset, count in zip(*places, strict=False)):
            raise ImageError("the file is truncated: a piece of the picture lies beyond its end.")
    image = _opened_by_pillow(file)
    icc = None if image.mode == "CMYK" else metadata.icc
    pixels, alpha = to_arrays(image)
    return Picture(pixels, alpha, "TIFF", Metadata(icc, metadata.exif, metadata.xmp, metadata.dpi))


def _opened_by_pillow(file: bytes) -> Image.Image:
    """A TIFF whose size was checked by us, and which is not to be turned, whatever its tags or its XMP say."""
    from PIL import ImageFile, TiffImagePlugin

    class TiffFile(TiffImagePlugin.TiffImageFile):
        def load_prepare(self) -> None:
            """As it is stored, and without Pillow's own limit, which counts the bytes of a strip for pixels."""
            self._size = self._tile_size
            ImageFile.ImageFile.load_prepare(self)

        def load_end(self) -> None:
            """Nothing is turned."""

    return TiffFile(io.BytesIO(file))


def _read_metadata(main: Directory, header: Header) -> Metadata:
    """Colour profile, XMP, resolution, and an EXIF block built of the descriptive tags and the EXIF directories.

    The maker note is left behind: its own offsets count from the start of this very file.
    """
    kept = Directory({tag: item for tag, item in main.fields.items() if tag in DESCRIPTIVE and item.type < 14})
    kept.children = main.children
    exif = main.children.get(tags.EXIF_DIRECTORY)
    if exif is not None:
        exif.fields.pop(tags.MAKER_NOTE, None)
    has_exif = bool(kept.children or kept.fields.keys() - {282, 283, 296})
    unit = {2: 1.0, 3: 2.54}.get(_value(main, header, 296, 2))
    found = tuple(tags.numbers(main.fields.get(tag), header.order) for tag in (282, 283))
    dpi = (found[0][0] * unit, found[1][0] * unit) if unit and all(found) and min(found)[0] > 0 else None
    blocks = (main.fields.get(tag) for tag in (ICC, XMP))
    icc, xmp = (block.raw if block is not None else None for block in blocks)
    return Metadata(icc, tags.write_exif(kept, header.order) if has_exif else None, xmp, dpi)
