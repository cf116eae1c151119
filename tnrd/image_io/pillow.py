"""JPEG, WebP and BMP through Pillow, and the way from a Pillow image of any mode to arrays.

The format classes are called directly: ``Image.open`` would guess among dozens of formats, and check the size against
a limit that is global to the process, where this package takes its limit as an argument.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tnrd.image_io.directory import exif_orientation, read_at
from tnrd.image_io.picture import ImageError, Metadata, Picture, check_size

if TYPE_CHECKING:
    from PIL.Image import Image

# At 95 without chroma subsampling the coding error stays below the noise that restoration leaves.
JPEG_QUALITY = 95
# Pixels copied at a time; Pillow keeps RGB in 4 bytes a pixel and would copy the whole picture twice over.
_BAND = 1 << 22


def read_jpeg(source: BinaryIO, max_pixels: int) -> Picture:
    """Decode a JPEG, the first picture of a multi-picture file (the others are its previews and depth maps).

    CMYK becomes sRGB, through its colour profile where it has one; that profile is then dropped, since it no longer
    describes the pixels. A resolution that only the EXIF gives stays there.

    Raises:
        ImageError: Truncated, damaged or too large.
    """
    from PIL import JpegImagePlugin

    class JpegFile(JpegImagePlugin.JpegImageFile):
        def _read_dpi_from_exif(self) -> None:
            """Leave the EXIF unread: it is carried as bytes, and damage in it is no reason to warn."""

    image = JpegFile(source)
    return _read(image, "JPEG", image.info.get("dpi"), max_pixels)


def read_webp(source: BinaryIO, max_pixels: int) -> Picture:
    """Decode a WebP. The format knows no grey: equal channels without a colour profile are read as one.

    Raises:
        ImageError: Truncated, damaged, animated or too large (Pillow itself stops at 179 megapixels).
    """
    from PIL import WebPImagePlugin

    # The decoder allocates the picture as soon as it is made, so the size is checked before.
    check_size(*_webp_size(read_at(source, 0, 30)), max_pixels)
    source.seek(0)
    picture = _read(WebPImagePlugin.WebPImageFile(source), "WEBP", None, max_pixels)
    pixels = picture.pixels
    if picture.metadata.icc is None and all(np.array_equal(pixels[..., 0], pixels[..., c]) for c in (1, 2)):
        pixels = np.ascontiguousarray(pixels[..., 0])
    return Picture(pixels, picture.alpha, "WEBP", picture.metadata)


def read_bmp(source: BinaryIO, max_pixels: int) -> Picture:
    """Decode a BMP; 1 to 4 bits and palettes become 8-bit grey or RGB.

    Raises:
        ImageError: Truncated, damaged or too large.
    """
    from PIL import BmpImagePlugin

    image = BmpImagePlugin.BmpImageFile(source)
    return _read(image, "BMP", image.info.get("dpi"), max_pixels)


def _webp_size(start: bytes) -> tuple[int, int]:
    kind = start[12:16]
    if len(start) == 30 and kind == b"VP8X":
        return int.from_bytes(start[24:27], "little") + 1, int.from_bytes(start[27:30], "little") + 1
    if len(start) == 30 and kind == b"VP8L":
        bits = struct.unpack_from("<L", start, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if len(start) == 30 and kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", start, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ImageError("the file is truncated: the WebP header is cut off.")


def _read(image: Image, format: str, dpi: tuple[float, float] | None, max_pixels: int) -> Picture:
    check_size(*image.size, max_pixels)
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(f"the picture is animated with {frames} frames; only single pictures can be restored.")
    info, icc = image.info, None if image.mode == "CMYK" else image.info.get("icc_profile")
    exif = info.get("exif", b"").removeprefix(b"Exif\0\0") or None
    dpi = dpi if dpi and min(dpi) > 0 else None
    pixels, alpha = to_arrays(image)
    return Picture(pixels, alpha, format, Metadata(icc, exif, info.get("xmp") or None, dpi))


def to_arrays(image: Image) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Pixels and alpha of a Pillow image of at most 8 bits a sample.

    Raises:
        ImageError: The mode is none of grey, RGB, palette, CMYK, with or without alpha.
    """
    if image.mode == "P":
        palette = np.array(image.getpalette() or [], np.uint8).reshape(-1, 3)
        return look_up(copy_pixels(image), palette, None, keep_rgb="icc_profile" in image.info)
    if image.mode == "CMYK":
        image = _cmyk_to_rgb(image)
    target = {"1": "L", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)
    if target not in ("L", "LA", "RGB", "RGBA"):
        raise ImageError(f'the pixels are of the kind "{image.mode}"; only grey, RGB, palette and CMYK can be read.')
    samples = copy_pixels(image if image.mode == target else image.convert(target))
    if target in ("L", "RGB"):
        return samples, None
    colour = samples[..., 0] if target == "LA" else samples[..., :3]
    return np.ascontiguousarray(colour), np.ascontiguousarray(samples[..., -1])


def copy_pixels(image: Image) -> NDArray[Any]:
    """The samples of a Pillow image, (M, N) or (M, N, C), copied band by band to keep the peak of memory low."""
    from PIL import Image as Pillow

    image.load()
    width, height = image.size
    # Pillow 12 holds a band, too, against the limit for whole pictures that is global to the process.
    rows = max(1, min(_BAND, Pillow.MAX_IMAGE_PIXELS or _BAND) // width)
    first = np.asarray(image.crop((0, 0, width, min(rows, height))))
    out = np.empty((height, *first.shape[1:]), first.dtype)
    for start in range(0, height, rows):
        out[start : start + rows] = np.asarray(image.crop((0, start, width, min(start + rows, height))))
    return out


def look_up(
    indices: NDArray[Any], palette: NDArray[np.uint8], transparency: bytes | None, *, keep_rgb: bool = False
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Replace palette indices, (M, N), by their colours; an index beyond the palette is black.

    Args:
        indices: uint8, (M, N).
        palette: uint8, (K, 3), K <= 256.
        transparency: Alpha of the first entries, the others are opaque; None where the picture has no alpha.
        keep_rgb: Return RGB even where every entry of the palette is grey.
    """
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    grey = not keep_rgb and bool(np.all(colours == colours[:, :1]))
    pixels = (colours[:, 0] if grey else colours)[indices]
    if transparency is None:
        return pixels, None
    alphas = np.full(256, 255, np.uint8)
    alphas[: len(transparency)] = np.frombuffer(transparency[:256], np.uint8)
    return pixels, alphas[indices]


def _cmyk_to_rgb(image: Image) -> Image:
    """To sRGB: colorimetric with black point compensation by the profile, else R = (255 - C)(255 - K)/255."""
    profile = image.info.get("icc_profile")
    if not profile:
        return image.convert("RGB")
    from PIL import ImageCms

    converted = ImageCms.profileToProfile(
        image,
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if converted is None:
        raise ImageError("the CMYK colours cannot be converted by the colour profile in the file.")
    return converted


def write_jpeg(picture: Picture, target: BinaryIO) -> None:
    """Encode at quality 95 without chroma subsampling (4:4:4)."""
    metadata = picture.metadata
    options: dict[str, Any] = {"icc_profile": metadata.icc, "xmp": metadata.xmp, "dpi": (0, 0)}
    if metadata.dpi is not None:
        options["dpi"] = tuple(min(value, 65535) for value in metadata.dpi)
    if metadata.exif is not None:
        options["exif"] = b"Exif\0\0" + metadata.exif
    _to_image(picture).save(target, "JPEG", quality=JPEG_QUALITY, subsampling=0, **options)


def write_webp(picture: Picture, target: BinaryIO) -> None:
    """Encode without loss, colours under transparent pixels included; a grey profile does not fit the RGB of WebP."""
    metadata = picture.metadata
    icc = None if picture.pixels.ndim == 2 and metadata.icc and metadata.icc[16:20] == b"GRAY" else metadata.icc
    options = {"icc_profile": icc or b"", "exif": metadata.exif or b"", "xmp": metadata.xmp or b""}
    _to_image(picture).save(target, "WEBP", lossless=True, exact=True, **options)


def write_bmp(picture: Picture, target: BinaryIO) -> None:
    """Encode as BMP, which has no EXIF: the pixels are turned upright, so that the orientation is not lost."""
    orientation, dpi = exif_orientation(picture.metadata.exif), picture.metadata.dpi or (0.0, 0.0)
    upright = Picture(np.ascontiguousarray(turn_upright(picture.pixels, orientation)))
    _to_image(upright).save(target, "BMP", dpi=dpi if orientation < 5 else dpi[::-1])


def turn_upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """A view of (M, N[, 3]) pixels as they are meant to be seen, for an EXIF orientation from 1 to 8."""
    if orientation >= 5:
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels[::-1] if orientation in (3, 4, 7, 8) else pixels


def _to_image(picture: Picture) -> Image:
    from PIL import Image

    return Image.fromarray(picture.pixels if picture.alpha is None else np.dstack((picture.pixels, picture.alpha)))
