"""Pictures from and to files: which format it is, and an output that is complete or absent."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from tnrd.image_io.completion import completed
from tnrd.image_io.directory import read_at
from tnrd.image_io.picture import DEFAULT_MAX_PIXELS, ImageError, Picture, check_storable, output_format

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
}
_OTHERS = {
    b"%PDF": "a PDF document",
    b"8BPS": "a Photoshop document",
    b"v/1\x01": "an OpenEXR picture",
    b"\xff\x0a": "a JPEG XL picture",
    b"\0\0\0\x0cJXL ": "a JPEG XL picture",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 picture",
    b"<svg": "an SVG drawing",
    b"<html": "a web page",
    b"<!doctype html": "a web page",
    b"<": "an XML document",
}
_UNREADABLE = "the picture cannot be read; it is truncated, damaged or of an unsupported kind"
_UNWRITABLE = "the picture cannot be written"
_READABLE = "PNG, JPEG, TIFF, WebP and BMP pictures can be read"


def read_image(source: str | os.PathLike[str] | bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Picture:
    """Read a picture exactly as it is stored: depth, alpha and metadata kept, pixels not rotated.

    The format is told by the content, not by the name. 1- to 4-bit and palette pictures become 8-bit grey or RGB, a
    transparent colour becomes an alpha channel, CMYK becomes sRGB, half and double precision become float32.

    Args:
        source: A path, or the bytes of a file.
        max_pixels: Refuse larger pictures by their header alone, before any pixel is decoded.

    Returns:
        The picture; intensities in the full range of the dtype (0 to 255, 0 to 65535), floats as stored.

    Raises:
        ImageError: In one sentence: no such file, not a picture, truncated, damaged, no pixels, animated, several
            pages, NaN, above ``max_pixels``, or a kind that is not supported.
        ValueError: ``max_pixels`` is below 1.
    """
    if max_pixels < 1:
        raise ValueError(f"max_pixels must be at least 1, got {max_pixels}.")
    name = "the given bytes" if isinstance(source, bytes) else os.fspath(source)
    with _reported(name, _UNREADABLE), _open(source) as stream:
        return _decode(stream, max_pixels)


def write_image(target: str | os.PathLike[str], picture: Picture, *, overwrite: bool = False) -> None:
    """Write a picture in the format of the suffix; the file is complete or absent.

    The bytes go to a temporary file beside the target, are synced to disk, and only then take the target's name; a
    symbolic link is followed. Permissions are those of any new file under the umask.

    Args:
        target: The path to write; see `output_format` for the suffixes.
        picture: Pixels, alpha and metadata; see `lost_metadata` for what the format has no place for.
        overwrite: Replace an existing file. Otherwise it is left alone, even one that appears during the writing.

    Raises:
        ImageError: The suffix is unknown, the format cannot hold the picture, or the file cannot be written.
    """
    format, name = output_format(target), os.fspath(target)
    check_target(target, overwrite=overwrite)
    with _reported(name, _UNWRITABLE):
        check_storable(picture, format)
        with completed(target, overwrite=overwrite) as temporary, open(temporary, "wb") as stream:
            _encode(picture, format, stream)


def encode_image(picture: Picture, format: str) -> bytes:
    """The bytes of the file that `write_image` would write, for a pipe; the same picture gives the same bytes.

    Raises:
        ImageError: The format is unknown or cannot hold the picture.
    """
    check_storable(picture, format)
    stream = io.BytesIO()
    with _reported("the output", _UNWRITABLE):
        _encode(picture, format, stream)
    return stream.getvalue()


def check_target(target: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Raise if a file cannot be created at a path, before the work whose result it is to hold.

    Raises:
        ImageError: The folder is missing or read-only, or the target exists (a folder, a device, or no ``overwrite``).
    """
    name, path = os.fspath(target), os.path.realpath(target)
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise ImageError(f"{name}: the folder {folder} does not exist.")
    if os.path.lexists(path):
        if not os.path.isfile(path):
            raise ImageError(f"{name}: the output is a folder or a device, not a file.")
        if not overwrite:
            raise ImageError(f"{name}: the file exists already; it is replaced only when overwriting is asked for.")
    if not os.access(folder, os.W_OK):
        raise ImageError(f"{name}: the folder {folder} cannot be written to.")


@contextlib.contextmanager
def _reported(name: str, failure: str) -> Iterator[None]:
    """Turn whatever goes wrong into one sentence that names the file."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except Exception as error:
        # Codecs answer untrusted bytes with exceptions of every kind; to the user they all mean this one thing.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, MemoryError):
            reason = "there is not enough memory"
        elif isinstance(error, OSError) and error.strerror:
            reason, failure = error.strerror, failure.partition(";")[0]
        raise ImageError(f"{name}: {failure} ({reason}).") from error


def _open(source: str | os.PathLike[str] | bytes) -> BinaryIO:
    """A seekable stream; a pipe is read to its end first."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if os.path.isdir(source):
        raise ImageError("it is a folder, not a picture.")
    mode = os.stat(source).st_mode
    if stat.S_ISREG(mode):
        return open(source, "rb")
    if not stat.S_ISFIFO(mode):
        raise ImageError("it is a device, not a picture.")
    with open(source, "rb") as stream:
        return io.BytesIO(stream.read())


def _decode(stream: BinaryIO, max_pixels: int) -> Picture:
    from PIL import ImageFile

    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ImageError("Pillow was told to pass half pictures off as whole (ImageFile.LOAD_TRUNCATED_IMAGES).")
    format = _sniff(stream)
    stream.seek(0)
    if format == "PNG":
        from tnrd.image_io.png import read_png

        return read_png(stream, max_pixels)
    if format == "TIFF":
        from tnrd.image_io.tiff import read_tiff

        return read_tiff(stream, max_pixels)
    from tnrd.image_io import pillow

    readers = {"JPEG": pillow.read_jpeg, "WEBP": pillow.read_webp, "BMP": pillow.read_bmp}
    return readers[format](stream, max_pixels)


def _encode(picture: Picture, format: str, stream: BinaryIO) -> None:
    if format == "PNG":
        from tnrd.image_io.png_encode import write_png

        return write_png(picture, stream)
    if format == "TIFF":
        from tnrd.image_io.tiff_encode import write_tiff

        return write_tiff(picture, stream)
    from tnrd.image_io import pillow

    writers = {"JPEG": pillow.write_jpeg, "WEBP": pillow.write_webp, "BMP": pillow.write_bmp}
    return writers[format](picture, stream)


def _sniff(stream: BinaryIO) -> str:
    """The format by the first bytes.

    Raises:
        ImageError: Empty, or something else, which the sentence names where it is known.
    """
    start = read_at(stream, 0, 512)
    if not start:
        raise ImageError("the file is empty.")
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    for signature, format in _SIGNATURES.items():
        if start.startswith(signature):
            return format
    raise ImageError(f"it is {_name_other(stream, start)}; {_READABLE}.")


def _name_other(stream: BinaryIO, start: bytes) -> str:
    if start.startswith(b"GIF8"):
        from PIL import GifImagePlugin

        stream.seek(0)
        frames = getattr(GifImagePlugin.GifImageFile(stream), "n_frames", 1)
        return f"a GIF picture with {frames} frame{'s' if frames > 1 else ''}"
    if start[4:8] == b"ftyp":
        return "a HEIC or AVIF picture, or a film"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for signature, name in _OTHERS.items():
        if start.startswith(signature) or text.startswith(signature):
            return "an SVG drawing" if b"<svg" in text and signature == b"<" else name
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in start):
        return "a text file"
    return "not a picture, or one in an unknown format"
