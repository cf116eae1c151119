"""Palettes, few bits, CMYK, animations and the many kinds of TIFF give a right result or one clear sentence."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import pytest
from image_samples import COLOUR, RAMP, png, refused, save, tiff
from PIL import Image

from tnrd.image_io import ImageError, Picture, encode_image, read_image

# --- palettes, few bits, transparent colours ---


def test_palettes() -> None:
    indices = RAMP % 7
    colours = np.random.default_rng(0).integers(0, 256, (7, 3), dtype=np.uint8)
    grey = np.repeat(colours[:, :1], 3, axis=1)
    for palette, expected in ((colours, colours[indices]), (grey, grey[indices, 0])):
        image = Image.fromarray(indices)
        image.putpalette(palette.tobytes())
        for format in ("PNG", "BMP", "TIFF"):
            found = read_image(save(image, format))
            np.testing.assert_array_equal(found.pixels, expected, strict=True)
            assert found.alpha is None
        found = read_image(save(image, "PNG", transparency=bytes([0, 128])))
        np.testing.assert_array_equal(found.pixels, expected, strict=True)
        np.testing.assert_array_equal(found.alpha, np.array([0, 128, *[255] * 5], np.uint8)[indices], strict=True)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("key", [None, 1])
def test_grey_of_few_bits(bits: int, key: int | None) -> None:
    values = (RAMP % 2**bits)[:, :16]
    packed = np.packbits(((values[..., None] >> np.arange(bits)[::-1]) & 1).reshape(24, -1).astype(np.uint8), axis=1)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    extra = [] if key is None else [(b"tRNS", struct.pack(">H", key))]
    found = read_image(png(16, 24, bits, 0, rows, *extra))
    np.testing.assert_array_equal(found.pixels, values * (255 // (2**bits - 1)), strict=True)
    assert (found.alpha is None) == (key is None)
    if key is not None:
        np.testing.assert_array_equal(found.alpha, np.where(values == key, 0, 255))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("rgb", [False, True])
def test_transparent_colour(depth: int, rgb: bool) -> None:
    pixels = (COLOUR if rgb else RAMP).astype(f"u{depth // 8}") * (1 if depth == 8 else 257)
    key = np.atleast_1d(pixels[3, 5])
    rows = b"".join(b"\0" + row.tobytes() for row in pixels.astype(f">u{depth // 8}"))
    found = read_image(png(31, 24, depth, 2 if rgb else 0, rows, (b"tRNS", key.astype(">u2").tobytes())))
    np.testing.assert_array_equal(found.pixels, pixels, strict=True)
    expected = np.where((pixels.reshape(24, 31, -1) == key).all(axis=2), 0, 2**depth - 1)
    np.testing.assert_array_equal(found.alpha, expected.astype(pixels.dtype), strict=True)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 9), (11, 6)])
def test_interlaced_deep_colour(size: tuple[int, int]) -> None:
    height, width = size
    pixels = np.random.default_rng(0).integers(0, 65536, (height, width, 3), dtype=np.uint16)
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    parts = [pixels[y::dy, x::dx].astype(">u2") for x, y, dx, dy in passes]
    rows = b"".join(b"\0" + row.tobytes() for part in parts if part.shape[1] for row in part)
    np.testing.assert_array_equal(read_image(png(width, height, 16, 2, rows, adam7=1)).pixels, pixels, strict=True)
    refused(png(width, height, 16, 2, rows[:-1], adam7=1), "the file is damaged: it holds")


def test_gamma_and_background_do_not_touch_pixels() -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in (COLOUR.astype(">u2") * 257))
    extra = [(b"gAMA", struct.pack(">L", 100000)), (b"bKGD", b"\1\2" * 3), (b"sBIT", b"\x0a\x0a\x0a")]
    found = read_image(png(31, 24, 16, 2, rows, *extra))
    np.testing.assert_array_equal(found.pixels, COLOUR.astype(np.uint16) * 257, strict=True)


# --- other formats' special kinds ---


def cmyk_profile() -> bytes:
    """A profile of its own kind: L* = 100 - 25 (C + M + Y + K), no colour at all."""
    corners = np.indices((2, 2, 2, 2)).reshape(4, -1).sum(axis=0)
    table = np.full((16, 3), 128, np.uint8)
    table[:, 0] = np.rint((4 - corners) * 63.75)
    ramp = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack(">9l", *np.eye(3, dtype=int).ravel() * 65536)
    a2b = lut + ramp * 4 + table.tobytes() + ramp * 3
    white = b"XYZ " + bytes(4) + struct.pack(">3l", 63190, 65536, 54061)
    body, entries, offset = b"", b"", 128 + 4 + 2 * 12
    for tag, block in ((b"A2B0", a2b), (b"wtpt", white)):
        entries += tag + struct.pack(">LL", offset + len(body), len(block))
        body += block + bytes(-len(block) % 4)
    head = struct.pack(">L4sL4s4s4s", offset + len(body), b"none", 0x02400000, b"prtr", b"CMYK", b"Lab ") + bytes(12)
    head += b"acsp" + bytes(28) + struct.pack(">3l", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">L", 2) + entries + body


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb_without_its_profile(format: str) -> None:
    inks = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    options = {"quality": 100} if format == "JPEG" else {}
    plain = read_image(save(inks, format, **options))
    np.testing.assert_allclose(plain.pixels[8, 8].astype(int), [0, 255, 255], atol=2)
    managed = read_image(save(inks, format, icc_profile=cmyk_profile(), **options))
    assert managed.metadata.icc is None
    assert managed.pixels.shape == (16, 16, 3)
    # L* = 75 is the sRGB grey 185: the profile was obeyed, not the formula.
    np.testing.assert_allclose(managed.pixels[8, 8].astype(int), 185, atol=3)


def test_webp_with_grey_and_alpha() -> None:
    found = read_image(encode_image(Picture(RAMP, RAMP[::-1].copy()), "WEBP"))
    np.testing.assert_array_equal(found.pixels, RAMP, strict=True)
    np.testing.assert_array_equal(found.alpha, RAMP[::-1], strict=True)
    colour = read_image(save(Image.fromarray(np.dstack((COLOUR, RAMP))), "WEBP", lossless=True, exact=True))
    np.testing.assert_array_equal(colour.pixels, COLOUR, strict=True)
    np.testing.assert_array_equal(colour.alpha, RAMP, strict=True)


def test_webp_opaque_alpha_goes_and_hidden_colours_stay() -> None:
    assert read_image(encode_image(Picture(COLOUR, np.full_like(RAMP, 255)), "WEBP")).alpha is None
    hidden = Picture(COLOUR, np.zeros_like(RAMP))
    np.testing.assert_array_equal(read_image(encode_image(hidden, "WEBP")).pixels, COLOUR)


def test_bmp_kinds() -> None:
    with_alpha = cv2.imencode(".bmp", np.dstack((COLOUR[..., ::-1], RAMP)), [cv2.IMWRITE_BMP_COMPRESSION, 3])[1]
    found = read_image(with_alpha.tobytes())
    np.testing.assert_array_equal(found.pixels, COLOUR, strict=True)
    np.testing.assert_array_equal(found.alpha, RAMP, strict=True)
    bilevel = read_image(save(Image.fromarray(RAMP > 99), "BMP"))
    np.testing.assert_array_equal(bilevel.pixels, np.where(RAMP > 99, 255, 0).astype(np.uint8), strict=True)


def test_first_picture_of_a_multi_picture_jpeg() -> None:
    first, second = (Image.fromarray(pixels) for pixels in (COLOUR, COLOUR[:12]))
    data = save(first, "MPO", save_all=True, append_images=[second], quality=95)
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 2
    assert read_image(data).pixels.shape == COLOUR.shape


def test_several_frames_or_pages_are_refused() -> None:
    frames = [Image.fromarray(COLOUR[k:] // 2 * 2 + k % 2).resize((31, 24)) for k in range(3)]
    for format in ("PNG", "WEBP"):
        data = save(frames[0], format, save_all=True, append_images=frames[1:], duration=40)
        refused(data, "the picture is animated with 3 frames")
    refused(save(frames[0], "TIFF", save_all=True, append_images=frames[1:]), "the file holds 3 pages")
    refused(save(frames[0], "GIF", save_all=True, append_images=frames[1:]), "it is a GIF picture with 3 frames; PNG,")


# --- TIFF ---


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_tiff_with_white_as_zero(dtype: str) -> None:
    pixels = RAMP.astype(dtype) * 3
    found = read_image(tiff(pixels, photometric="miniswhite"))
    np.testing.assert_array_equal(found.pixels, np.iinfo(dtype).max - pixels, strict=True)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("rgb", [False, True])
def test_tiff_premultiplied_alpha_becomes_straight(dtype: str, rgb: bool) -> None:
    full = 1.0 if dtype == "float32" else np.iinfo(dtype).max
    opacity = np.linspace(0, 1, 31)[None] * np.ones((24, 1))
    straight = (COLOUR if rgb else RAMP[..., None]) / 255.0
    stored = np.dstack((straight * opacity[..., None], opacity)) * full
    stored = (stored if dtype == "float32" else np.rint(stored)).astype(dtype)
    found = read_image(tiff(stored, photometric="rgb" if rgb else "minisblack", planarconfig=1, extrasamples=[1]))
    np.testing.assert_array_equal(found.alpha, stored[..., -1], strict=True)
    assert not found.pixels[:, 0].any()
    expected = (straight if rgb else straight[..., 0])[:, 1:] * full
    # Colour and opacity are stored rounded, half a unit each, and the quotient is rounded again.
    bound = 1e-6 if dtype == "float32" else 0.5 + 1.1 / (opacity[:, 1:, None] if rgb else opacity[:, 1:])
    assert np.all(np.abs(found.pixels[:, 1:].astype(float) - expected) <= bound)


@pytest.mark.parametrize(
    ("data", "options", "reason"),
    [
        (RAMP.astype(np.int32), {}, "the samples are 32-bit signed integers"),
        (RAMP.astype(np.int8), {}, "the samples are 8-bit signed integers"),
        (RAMP.astype(np.uint32), {}, "the samples are 32-bit unsigned integers"),
        (RAMP.astype(np.complex64), {}, "the samples are 64-bit values of an unknown kind"),
        (
            np.dstack((RAMP, RAMP)),
            {"photometric": "minisblack", "planarconfig": 1, "extrasamples": [0]},
            "has 2 channels",
        ),
        (np.dstack((COLOUR, RAMP)), {"photometric": "rgb", "extrasamples": [0]}, "has 4 channels"),
        (np.dstack((COLOUR, RAMP, RAMP)), {"photometric": "rgb", "extrasamples": [2, 0]}, "has 5 channels"),
        (np.dstack((COLOUR, RAMP)).astype(np.uint16), {"photometric": "separated"}, "photometric interpretation 5"),
    ],
)
def test_tiff_kinds_that_are_refused(data: np.ndarray, options: dict[str, object], reason: str) -> None:
    refused(tiff(data, **{"photometric": "minisblack", **options}), reason)


def test_tiff_of_twelve_bits_is_refused() -> None:
    data = bytearray(tiff(RAMP.astype(np.uint16), photometric="minisblack", byteorder="<"))
    place = data.index(struct.pack("<HHL", 258, 3, 1))
    data[place + 8] = 12
    refused(bytes(data), "the samples have 12 bits")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_a_number_is_refused_on_both_ways(value: float) -> None:
    pixels = COLOUR.astype(np.float32)
    pixels[4, 7, 1] = pixels[9, 2, 0] = value
    reason = "2 samples are NaN or infinite, the first at row 4, column 7"
    refused(tiff(pixels, photometric="rgb"), reason)
    with pytest.raises(ImageError, match=reason):
        encode_image(Picture(pixels), "TIFF")
    refused(tiff(RAMP.astype(np.float64) * 1e300, photometric="minisblack"), "samples are NaN or infinite")


def test_tiff_jpeg_and_fax() -> None:
    found = read_image(save(Image.fromarray(COLOUR), "TIFF", compression="jpeg", quality=95))
    assert np.abs(found.pixels.astype(int) - COLOUR).mean() < 4
    fax = read_image(save(Image.fromarray(RAMP > 99), "TIFF", compression="group4"))
    np.testing.assert_array_equal(fax.pixels, np.where(RAMP > 99, 255, 0).astype(np.uint8), strict=True)
