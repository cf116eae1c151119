"""Read and write pictures without losing depth, alpha, colour profile, EXIF or orientation.

| format | depths | alpha | kept metadata |
|---|---|---|---|
| PNG | 8, 16 bit | yes | ICC, EXIF, XMP, resolution, texts, gamma and the other colour-space chunks |
| TIFF | 8, 16 bit, float32 | yes | ICC, XMP, resolution, EXIF without its maker note and thumbnail |
| JPEG | 8 bit, written at quality 95, 4:4:4 | no | ICC, EXIF, XMP, resolution |
| WebP | 8 bit, written without loss | yes | ICC, EXIF, XMP |
| BMP | 8 bit | read only | resolution; the pixels are turned upright, since there is no EXIF |

Pixels are never rotated on reading: the orientation stays a tag, and goes out with the EXIF. What a format cannot
hold is refused with one sentence (depth, alpha, size) or can be asked for beforehand (`lost_metadata`).

JPEG comments, IPTC blocks of JPEG, modification times and embedded previews are not kept.
"""

from __future__ import annotations

from tnrd.image_io.files import check_target, encode_image, read_image, write_image
from tnrd.image_io.picture import (
    DEFAULT_MAX_PIXELS,
    ImageError,
    Metadata,
    Picture,
    check_storable,
    lost_metadata,
    output_format,
)

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "ImageError",
    "Metadata",
    "Picture",
    "check_storable",
    "check_target",
    "encode_image",
    "lost_metadata",
    "output_format",
    "read_image",
    "write_image",
]
