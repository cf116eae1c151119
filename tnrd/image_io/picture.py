"""A picture as a file holds it, and what each file format is able to hold."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A 100-megapixel camera fits four times; the decoded picture then takes at most 400 MB a channel and byte.
DEFAULT_MAX_PIXELS = 400_000_000

_DEPTHS = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.int16), np.dtype(np.float32))
_DEPTH_NAMES = {"uint8": "8-bit", "uint16": "16-bit", "int16": "signed 16-bit", "float32": "floating-point"}


class ImageError(ValueError):
    """A picture that cannot be read or written; the message is one sentence fit for the user."""


@dataclass(frozen=True)
class Metadata:
    """What travels with the pixels. Everything is kept as stored; nothing here has been applied to the pixels.

    Attributes:
        icc: The ICC colour profile.
        exif: The EXIF block, from its TIFF header (``II*`` or ``MM*``) on, orientation included.
        xmp: The XMP packet (UTF-8 XML).
        dpi: Horizontal and vertical pixels per inch.
        png_chunks: PNG chunks (type, data) without a home elsewhere: colour space (gAMA, cHRM, sRGB, cICP, mDCV,
            cLLI), texts, and a pHYs that only gives the pixels' aspect. They survive from PNG to PNG.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels in the depth of their file, with all that must come out again beside them.

    To store a restored picture, replace its pixels: ``dataclasses.replace(picture, pixels=restored)``.

    Attributes:
        pixels: (M, N) grey or (M, N, 3) RGB; uint8, uint16, int16 or float32. Never rotated: orientation stays
            in the EXIF.
        alpha: (M, N), same dtype, straight (not premultiplied), or None.
        format: "PNG", "JPEG", "TIFF", "WEBP" or "BMP": where the picture came from.
        metadata: Colour profile, EXIF, resolution and the like.

    Raises:
        ImageError: The arrays have another shape or dtype.
    """

    pixels: NDArray[Any]
    alpha: NDArray[Any] | None = None
    format: str = "PNG"
    metadata: Metadata = field(default_factory=Metadata)

    def __post_init__(self) -> None:
        pixels, alpha = self.pixels, self.alpha
        if pixels.dtype not in _DEPTHS:
            raise ImageError(f"Pixels must be uint8, uint16, int16 or float32, got {pixels.dtype}.")
        if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
            raise ImageError(f"Pixels must have the shape (M, N) or (M, N, 3), got {pixels.shape}.")
        if alpha is not None and (alpha.shape != pixels.shape[:2] or alpha.dtype != pixels.dtype):
            raise ImageError(
                f"The alpha channel must be {pixels.dtype} of shape {pixels.shape[:2]}, "
                f"got {alpha.dtype} of shape {alpha.shape}."
            )


@dataclass(frozen=True)
class _Capability:
    """What a format can hold; ``max_side`` is the largest width or height, in pixels."""

    depths: tuple[str, ...]
    alpha: bool
    max_side: int
    metadata: tuple[str, ...]


# 65500 is libjpeg's own limit, a little below the 65535 of the JPEG header.
_CAPABILITIES = {
    "PNG": _Capability(("uint8", "uint16"), True, 2**31 - 1, ("icc", "exif", "xmp", "dpi", "png_chunks")),
    "JPEG": _Capability(("uint8",), False, 65500, ("icc", "exif", "xmp", "dpi")),
    "TIFF": _Capability(("uint8", "uint16", "int16", "float32"), True, 2**31 - 1, ("icc", "exif", "xmp", "dpi")),
    "WEBP": _Capability(("uint8",), True, 16383, ("icc", "exif", "xmp")),
    "BMP": _Capability(("uint8",), False, 2**31 - 1, ("dpi",)),
}
_SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".bmp": "BMP",
}
# A JPEG segment holds 65533 bytes; the EXIF and XMP signatures take 6 and 29 of them.
_JPEG_SEGMENT = {"exif": 65533 - 6, "xmp": 65533 - 29}
_METADATA_NAMES = {
    "icc": "ICC profile",
    "exif": "EXIF",
    "xmp": "XMP",
    "dpi": "resolution",
    "png_chunks": "PNG texts and colour-space chunks",
}


def output_format(path: str | os.PathLike[str]) -> str:
    """The format that the suffix of an output path asks for, in any case of letters.

    Raises:
        ImageError: The suffix is missing or unknown.
    """
    suffix = os.path.splitext(os.fspath(path))[1]
    if suffix.lower() not in _SUFFIXES:
        got = f'"{suffix}"' if suffix else "no suffix"
        raise ImageError(f"{os.fspath(path)}: the output must end in {_alternatives(list(_SUFFIXES))}, got {got}.")
    return _SUFFIXES[suffix.lower()]


def check_storable(picture: Picture, format: str) -> None:
    """Raise if a picture cannot be stored in a format without loss of depth, alpha or size; cheap, decodes nothing.

    JPEG is lossy by nature (written at quality 95 without chroma subsampling); that alone is no reason to refuse.

    Raises:
        ImageError: The format is unknown or cannot hold the depth, alpha, size or metadata, or there are no pixels.
    """
    capability = _capability(format)
    height, width = picture.pixels.shape[:2]
    depth = picture.pixels.dtype.name
    if height == 0 or width == 0:
        raise ImageError(f"The picture has no pixels: it is {width}x{height}.")
    if depth not in capability.depths:
        able = _alternatives([name for name, other in _CAPABILITIES.items() if depth in other.depths])
        raise ImageError(f"{format} cannot hold {_DEPTH_NAMES[depth]} pixels; choose {able}.")
    if picture.alpha is not None and not capability.alpha:
        able = _alternatives([k for k, other in _CAPABILITIES.items() if other.alpha and depth in other.depths])
        raise ImageError(f"{format} cannot hold the picture's transparency; choose {able}.")
    if max(height, width) > capability.max_side:
        limit = capability.max_side
        raise ImageError(f"{format} holds at most {limit} pixels a side, the picture is {width}x{height}.")
    for name, longest in _JPEG_SEGMENT.items() if format == "JPEG" else ():
        block = getattr(picture.metadata, name)
        if block is not None and len(block) > longest:
            raise ImageError(f"JPEG holds at most {longest} bytes of {name.upper()}, the picture has {len(block)}.")


def lost_metadata(picture: Picture, format: str) -> tuple[str, ...]:
    """Names of the picture's metadata that a format has no place for, for a remark to the user.

    A BMP loses the EXIF but not the orientation: its pixels are turned upright instead.
    """
    carried = _capability(format).metadata
    return tuple(
        label for name, label in _METADATA_NAMES.items() if getattr(picture.metadata, name) and name not in carried
    )


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise for a picture without pixels or with more than ``max_pixels``, before anything is decoded.

    Raises:
        ImageError: Naming the size that the file claims.
    """
    if width < 1 or height < 1:
        raise ImageError(f"the picture has no pixels: it is {width}x{height}.")
    if width * height > max_pixels:
        raise ImageError(
            f"the picture is {width}x{height}, {width * height} pixels, above the limit of {max_pixels} "
            "that guards against decompression bombs; raise max_pixels if the file is trusted."
        )


def _capability(format: str) -> _Capability:
    if format not in _CAPABILITIES:
        raise ImageError(f'The format must be {_alternatives(list(_CAPABILITIES))}, got "{format}".')
    return _CAPABILITIES[format]


def _alternatives(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
