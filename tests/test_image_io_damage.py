"""Truncated, damaged and oversized files, and files that are no pictures, give one clear sentence."""

from __future__ import annotations

import os
import re
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_samples import COLOUR, KINDS, RAMP, png, refused, save
from PIL import Image, ImageFile

from tnrd.image_io import ImageError, Metadata, Picture, encode_image, read_image

# --- damage and other files ---


@pytest.mark.parametrize(("format", "dtype"), KINDS)
def test_truncated_files_are_never_half_pictures(format: str, dtype: str) -> None:
    picture = Picture(COLOUR.astype(dtype))
    data = encode_image(picture, format)
    whole = read_image(data).pixels
    for length in range(len(data)):
        try:
            found = read_image(data[:length])
        except ImageError:
            continue
        # Only padding was cut off.
        assert len(data) - length < 4
        np.testing.assert_array_equal(found.pixels, whole)


@pytest.mark.parametrize("name", ["1", "P", "jpeg"])
def test_truncated_tiff_of_old_kinds(name: str) -> None:
    image = Image.fromarray(RAMP).convert("L" if name == "jpeg" else name)
    data = save(image, "TIFF", compression={"1": "group4", "P": "tiff_lzw", "jpeg": "jpeg"}[name])
    whole = read_image(data).pixels
    for length in range(0, len(data), 7):
        try:
            np.testing.assert_array_equal(read_image(data[:length]).pixels, whole)
        except ImageError:
            continue


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("colour", [0, 2])
def test_png_with_sound_chunks_but_too_few_pixels(depth: int, colour: int) -> None:
    row = b"\0" + bytes(31 * depth // 8 * (3 if colour else 1))
    assert read_image(png(31, 24, depth, colour, row * 24)).pixels.shape[:2] == (24, 31)
    refused(png(31, 24, depth, colour, row * 23), f"it holds {23 * len(row)} of {24 * len(row)} bytes")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 10**6), st.integers(1, 255))
def test_damaged_files_give_a_picture_or_one_sentence(kind: tuple[str, str], place: int, flip: int) -> None:
    data = bytearray(encode_image(Picture(COLOUR[:7, :9].astype(kind[1]), metadata=Metadata(dpi=(72, 72))), kind[0]))
    data[place % len(data)] ^= flip
    try:
        read_image(bytes(data), max_pixels=10**6)
    except ImageError as error:
        assert re.fullmatch(r"the given bytes: [^\n]+\.", str(error))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"just some words\n", "it is a text file; PNG, JPEG, TIFF, WebP and BMP pictures can be read"),
        (b"\xef\xbb\xbf <?xml version='1.0'?>\n<svg></svg>", "it is an SVG drawing"),
        (b"<svg xmlns='x'/>", "it is an SVG drawing"),
        (b"<!DOCTYPE HTML><html>", "it is a web page"),
        (b"%PDF-1.7", "it is a PDF document"),
        (b"\0\0\0\x18ftypheic", "it is a HEIC or AVIF picture"),
        (b"\0\1\2\3" * 40, "it is not a picture"),
        (b"GIF89a", "truncated, damaged"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, reason: str, tmp_path: Path) -> None:
    refused(data, reason)
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    refused(path, reason)


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    refused(tmp_path / "absent.png", r"cannot be read \(No such file or directory\)")
    refused(tmp_path, "it is a folder")
    if os.name == "posix":
        refused(Path("/dev/zero"), "it is a device")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encode_image(Picture(RAMP), "PNG"))
    path.chmod(0)
    refused(path, "Permission denied")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_named_pipe_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(encode_image(Picture(RAMP), "PNG"),))
    writer.start()
    np.testing.assert_array_equal(read_image(path).pixels, RAMP)
    writer.join()


# --- size ---


@pytest.mark.parametrize(("format", "dtype"), KINDS)
def test_pixel_limit_is_kept_by_every_format(format: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whatever limit another library has set for the process must neither refuse nor warn.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)
    data = encode_image(Picture(np.zeros((1200, 1500, 3), dtype)), format)
    if format != "WEBP":
        assert read_image(data, max_pixels=1800000).pixels.shape == (1200, 1500, 3)
    refused(data, "1500x1200, 1800000 pixels, above the limit of 1799999", max_pixels=1799999)
    assert Image.MAX_IMAGE_PIXELS == 10**6


def test_bombs_are_refused_by_their_header() -> None:
    bombs = {
        "PNG": png(50000, 40000, 8, 2, b""),
        "BMP": encode_image(Picture(RAMP), "BMP"),
        "TIFF": encode_image(Picture(RAMP), "TIFF"),
    }
    bmp, dimensions = bytearray(bombs["BMP"]), struct.pack("<ll", 50000, 40000)
    bmp[18:26] = dimensions
    tags = [struct.pack("<HHLL", tag, 4, 1, size) for tag, size in ((256, 31), (257, 24))]
    sizes = [struct.pack("<HHLL", tag, 4, 1, size) for tag, size in ((256, 50000), (257, 40000))]
    bombs |= {"BMP": bytes(bmp), "TIFF": bombs["TIFF"].replace(tags[0], sizes[0]).replace(tags[1], sizes[1])}
    for data in bombs.values():
        refused(data, "the picture is 50000x40000, 2000000000 pixels, above the limit of 400000000")
    jpeg = encode_image(Picture(RAMP), "JPEG")
    frame = jpeg.index(b"\xff\xc0") + 5
    refused(jpeg[:frame] + struct.pack(">HH", 40000, 50000) + jpeg[frame + 4 :], "the picture is 50000x40000")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (b"VP8L", {"lossless": True}),
        (b"VP8 ", {"quality": 50}),
        (b"VP8X", {"quality": 50, "icc_profile": b"profile"}),
    ],
)
def test_webp_size_is_known_before_the_decoder_allocates(kind: bytes, options: dict[str, object]) -> None:
    data = save(Image.fromarray(COLOUR), "WEBP", **options)
    assert data[12:16] == kind
    refused(data[:30], "the picture is 31x24, 744 pixels, above the limit of 743", max_pixels=743)


def test_no_pixels() -> None:
    refused(png(0, 5, 8, 0, b""), "the picture has no pixels: it is 0x5")
    bmp = bytearray(encode_image(Picture(RAMP), "BMP"))
    bmp[18:22] = bytes(4)
    refused(bytes(bmp), "damaged")
    height = struct.pack("<HHLL", 257, 4, 1, 24)
    refused(encode_image(Picture(RAMP), "TIFF").replace(height, height[:8] + bytes(4)), "no pixels: it is 31x0")


def test_limit_must_be_positive() -> None:
    with pytest.raises(ValueError, match="max_pixels must be at least 1, got 0"):
        read_image(b"", max_pixels=0)


def test_permissive_pillow_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    refused(encode_image(Picture(RAMP), "JPEG")[:-40], "LOAD_TRUNCATED_IMAGES")
