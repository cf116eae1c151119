"""Reading PNG: every depth with or without alpha, and all that its chunks say about the pixels.

Pillow decodes 8-bit and 16-bit grey pixels, OpenCV 16-bit colour (Pillow would cut it to 8 bit); both see only the
chunks that make up the pixels. Source: Portable Network Graphics Specification, third edition (W3C, 2025).
"""

from __future__ import annotations

import bisect
import io
import itertools
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tnrd.image_io.directory import read_at
from tnrd.image_io.picture import ImageError, Metadata, Picture, check_size

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
_COLOUR_SPACE = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
XMP_KEYWORD = b"XML:com.adobe.xmp\0"
INCH = 0.0254
# No profile in use comes near this; it only bounds what a hostile file can make of a few compressed bytes.
_MAX_PROFILE = 64 << 20
# Bytes read at a time: small beside a large picture.
_BLOCK = 1 << 19


@dataclass(frozen=True)
class _Chunk:
    """A chunk's type and where its data lies in the file."""

    kind: bytes
    offset: int
    length: int


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool

    @property
    def channels(self) -> int:
        return _CHANNELS[self.colour]


class _Pieces(io.RawIOBase):
    """Some ranges (offset, length) of a file, read as one file, without a copy of a large picture in memory."""

    def __init__(self, source: BinaryIO, pieces: list[tuple[int, int]]) -> None:
        self._source, self._pieces, self._place = source, pieces, 0
        self._starts = list(itertools.accumulate((length for _, length in pieces), initial=0))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + (0, self._place, self._starts[-1])[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        if self._place >= self._starts[-1]:
            return 0
        index = bisect.bisect_right(self._starts, self._place) - 1
        offset, length = self._pieces[index]
        within = self._place - self._starts[index]
        found = read_at(self._source, offset + within, min(len(buffer), length - within))
        buffer[: len(found)] = found
        self._place += len(found)
        return len(found)


def read_png(source: BinaryIO, max_pixels: int) -> Picture:
    """Decode a PNG; palettes become grey or RGB, transparent colours an alpha channel, 1 to 4 bits become 8.

    Raises:
        ImageError: Truncated, damaged, animated or too large.
    """
    header = _read_header(read_at(source, 0, 33), max_pixels)
    chunks = list(_chunks(source))
    ancillary = {chunk.kind: chunk for chunk in reversed(chunks)}
    if b"acTL" in ancillary:
        frames = struct.unpack(">L", read_at(source, ancillary[b"acTL"].offset, 4))[0]
        if frames > 1:
            raise ImageError(f"the picture is animated with {frames} frames; only single pictures can be restored.")
    _check_complete(source, chunks, header)
    # Reduced to what the samples need, so that no decoder acts on metadata (gamma, texts, EXIF) or stumbles over it.
    pieces = [(0, len(SIGNATURE))]
    pieces += [(c.offset - 8, c.length + 12) for c in chunks if c.kind in (b"IHDR", b"PLTE", b"IDAT", b"IEND")]
    stream = io.BufferedReader(_Pieces(source, pieces), _BLOCK)
    samples = _decode_deep_colour(stream, header) if header.depth == 16 else _decode(stream, header)
    metadata = _read_metadata(source, chunks)
    tables = [ancillary.get(kind) for kind in (b"PLTE", b"tRNS")]
    palette, transparency = (read_at(source, c.offset, min(c.length, 768)) if c is not None else None for c in tables)
    pixels, alpha = _separate(samples, header, palette or b"", transparency, keep_rgb=metadata.icc is not None)
    return Picture(pixels, alpha, "PNG", metadata)


def _read_header(data: bytes, max_pixels: int) -> _Header:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise ImageError("the file is truncated: the PNG header is cut off.")
    width, height, depth, colour, compression, filtering, interlace = struct.unpack(">LLBBBBB", data[16:29])
    check_size(width, height, max_pixels)
    if colour not in _CHANNELS or depth not in (1, 2, 4, 8, 16) or compression or filtering or interlace > 1:
        raise ImageError(f"the PNG header is damaged: {data[16:29].hex()} describes no picture.")
    return _Header(width, height, depth, colour, bool(interlace))


def _chunks(source: BinaryIO) -> Iterator[_Chunk]:
    """All chunks up to IEND, checksums verified, so that a truncated file is known before pixels are decoded."""
    place = len(SIGNATURE)
    while len(start := read_at(source, place, 8)) == 8:
        length, kind = struct.unpack(">L4s", start)
        checksum, left = zlib.crc32(kind), length
        while left and (block := source.read(min(left, _BLOCK))):
            checksum, left = zlib.crc32(block, checksum), left - len(block)
        stored = source.read(4)
        if left or len(stored) < 4:
            break
        if checksum != struct.unpack(">L", stored)[0]:
            raise ImageError(f"the file is damaged: the checksum of its {kind.decode('latin-1')} chunk is wrong.")
        yield _Chunk(kind, place + 8, length)
        if kind == b"IEND":
            return
        place += 12 + length
    raise ImageError("the file is truncated: the PNG ends before its IEND chunk.")


def _decode(stream: BinaryIO, header: _Header) -> NDArray[Any]:
    """Samples of at most 8 bits, (M, N[, C]): palette indices as they are, 1 to 4 bit grey scaled to 0..255."""
    from PIL import PngImagePlugin

    from tnrd.image_io.pillow import copy_pixels

    image = PngImagePlugin.PngImageFile(stream)
    return copy_pixels(image.convert("L") if image.mode == "1" else image)


def _decode_deep_colour(stream: BinaryIO, header: _Header) -> NDArray[Any]:
    """16-bit samples, (M, N[, C]) in the order grey, red, green, blue, alpha."""
    if header.colour == GREY:
        return _decode(stream, header)
    import cv2

    decoded = cv2.imdecode(np.frombuffer(read_at(stream, 0, -1), np.uint8), cv2.IMREAD_UNCHANGED)
    wanted = 4 if header.colour in (GREY_ALPHA, RGB_ALPHA) else 3
    if decoded is None or decoded.dtype != np.uint16 or decoded.shape != (header.height, header.width, wanted):
        raise ImageError("the 16-bit PNG data is damaged and cannot be decoded.")
    order = {GREY_ALPHA: [0, 3], RGB: [2, 1, 0], RGB_ALPHA: [2, 1, 0, 3]}[header.colour]
    return np.take(decoded, order, axis=2)


def _check_complete(source: BinaryIO, chunks: list[_Chunk], header: _Header) -> None:
    """Inflate and count: both decoders would hand back half a picture without a word.

    An interlaced picture has one filter byte for each row of each of its seven passes instead of one a row.
    """
    passes = [(0, 0, 1, 1)]
    if header.interlaced:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    expected = 0
    for x, y, dx, dy in passes:
        columns, rows = -(-(header.width - x) // dx), -(-(header.height - y) // dy)
        stride = 1 + -(-columns * header.channels * header.depth // 8)
        expected += rows * stride if columns > 0 and rows > 0 else 0
    inflater, found = zlib.decompressobj(), 0
    for chunk in chunks:
        end = chunk.offset + chunk.length if chunk.kind == b"IDAT" else 0
        for place in range(chunk.offset, end, _BLOCK):
            block = read_at(source, place, min(_BLOCK, end - place))
            while block and found < expected:
                found += len(inflater.decompress(block, _BLOCK))
                block = inflater.unconsumed_tail
    if found < expected:
        raise ImageError(f"the file is damaged: it holds {found} of {expected} bytes of pixels.")


def _separate(
    samples: NDArray[Any], header: _Header, palette: bytes, transparency: bytes | None, *, keep_rgb: bool
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Split samples into pixels and alpha; a palette or a transparent colour is resolved here."""
    from tnrd.image_io.pillow import look_up

    if header.colour == PALETTE:
        colours = np.frombuffer(palette[: len(palette) // 3 * 3], np.uint8).reshape(-1, 3)
        return look_up(samples, colours, transparency, keep_rgb=keep_rgb)
    if header.colour in (GREY_ALPHA, RGB_ALPHA):
        colour = samples[..., 0] if header.colour == GREY_ALPHA else samples[..., :3]
        return np.ascontiguousarray(colour), np.ascontiguousarray(samples[..., -1])
    if transparency is None or len(transparency) != 2 * header.channels:
        return samples, None
    key = np.frombuffer(transparency, ">u2").astype(np.uint16)
    if header.depth < 16:
        key = (key & (2**header.depth - 1)) * (255 // (2**header.depth - 1))
    transparent = samples == key if header.colour == GREY else np.all(samples == key, axis=2)
    return samples, np.where(transparent, 0, np.iinfo(samples.dtype).max).astype(samples.dtype)


def _read_metadata(source: BinaryIO, chunks: list[_Chunk]) -> Metadata:
    found: dict[str, Any] = {}
    kept: list[tuple[bytes, bytes]] = []
    for chunk in chunks:
        if chunk.kind not in (b"iCCP", b"eXIf", b"pHYs", *_COLOUR_SPACE, *_TEXTS):
            continue
        kind, body = chunk.kind, read_at(source, chunk.offset, chunk.length)
        if kind == b"iCCP":
            found["icc"] = _inflate_profile(body)
        elif kind == b"eXIf":
            found["exif"] = body.removeprefix(b"Exif\0\0")
        elif kind == b"pHYs" and len(body) == 9 and body[8] == 1:
            found["dpi"] = tuple(per_metre * INCH for per_metre in struct.unpack(">LL", body[:8]))
        elif kind == b"iTXt" and body.startswith(XMP_KEYWORD + b"\0") and body.count(b"\0") >= 5:
            found["xmp"] = body[len(XMP_KEYWORD) + 2 :].split(b"\0", 2)[2]
        else:
            kept.append((kind, body))
    return Metadata(**found, png_chunks=tuple(kept))


def _inflate_profile(body: bytes) -> bytes:
    inflater = zlib.decompressobj()
    profile = inflater.decompress(body.partition(b"\0")[2][1:], _MAX_PROFILE)
    if not inflater.eof:
        raise ImageError(f"the colour profile is cut off, or larger than {_MAX_PROFILE} bytes.")
    return profile
