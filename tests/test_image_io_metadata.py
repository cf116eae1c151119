"""Colour profile, EXIF, orientation, XMP and resolution, within a format and from each format to each other."""

from __future__ import annotations

import dataclasses
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, TiffImagePlugin

from tnrd.image_io import Metadata, Picture, encode_image, lost_metadata, read_image
from tnrd.image_io.directory import EXIF_DIRECTORY, MAKER_NOTE, exif_orientation, read_exif

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><a>Jos\u00e9</a></x:xmpmeta>'.encode()
EXPOSURE, USER_COMMENT, GPS_LATITUDE, ARTIST, MAKE, SOFTWARE = 33434, 37510, 2, 315, 271, 305
CARRIERS = ("PNG", "JPEG", "WEBP", "TIFF")


def make_exif(orientation: int = 6, order: str = "<") -> bytes:
    exif = Image.Exif()
    exif.endian = order
    exif[274] = orientation
    exif[MAKE] = "Camera"
    exif[ARTIST] = "Jos\u00e9".encode()
    exif.get_ifd(EXIF_DIRECTORY).update(
        {EXPOSURE: TiffImagePlugin.IFDRational(1, 125), USER_COMMENT: b"ASCII\0\0\0noisy", MAKER_NOTE: b"secret" * 9}
    )
    exif.get_ifd(34853).update({1: "N", GPS_LATITUDE: (52.0, 31.0, 12.25)})
    return exif.tobytes().removeprefix(b"Exif\0\0")


def noise(dtype: str = "uint8", *, alpha: bool = False, **metadata: object) -> Picture:
    rng = np.random.default_rng(0)
    high = np.iinfo(dtype).max
    extra = rng.integers(0, high, (13, 17), dtype=dtype) if alpha else None
    return Picture(rng.integers(0, high, (13, 17, 3), dtype=dtype), extra, metadata=Metadata(**metadata))


def as_seen_by_pillow(data: bytes) -> Image.Exif:
    return Image.open(io.BytesIO(data)).getexif()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("source", CARRIERS)
@pytest.mark.parametrize("target", CARRIERS)
def test_metadata_survives_a_change_of_format(source: str, target: str, order: str) -> None:
    picture = noise(icc=PROFILE, exif=make_exif(order=order), xmp=XMP, dpi=(300.0, 150.0))
    first = read_image(encode_image(picture, source))
    data = encode_image(first, target)
    second = read_image(data)
    assert second.metadata.icc == PROFILE
    assert second.metadata.xmp == XMP
    if "TIFF" not in (source, target):
        assert second.metadata.exif == picture.metadata.exif
    if "WEBP" not in (source, target):
        assert second.metadata.dpi == pytest.approx((300.0, 150.0), rel=1e-4)
    for exif in (as_seen_by_pillow(data), parse(second.metadata.exif)):
        assert exif[274] == 6
        assert exif[MAKE] == "Camera"
        assert exif.get_ifd(EXIF_DIRECTORY)[EXPOSURE] == TiffImagePlugin.IFDRational(1, 125)
        assert exif.get_ifd(EXIF_DIRECTORY)[USER_COMMENT] == b"ASCII\0\0\0noisy"
        assert exif.get_ifd(34853)[GPS_LATITUDE] == (52.0, 31.0, 12.25)
        assert (MAKER_NOTE in exif.get_ifd(EXIF_DIRECTORY)) == ("TIFF" not in (source, target))
    # Text is copied as bytes; neither side guesses an encoding.
    assert read_exif(second.metadata.exif)[1].fields[ARTIST].raw == "Jos\u00e9".encode() + b"\0"


def parse(block: bytes | None) -> Image.Exif:
    exif = Image.Exif()
    exif.load(block or b"")
    return exif


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_deep_colour_with_alpha_keeps_everything(format: str, dtype: str) -> None:
    picture = noise(dtype, alpha=True, icc=PROFILE, exif=make_exif(8), xmp=XMP, dpi=(72.0, 72.0))
    found = read_image(encode_image(picture, format))
    np.testing.assert_array_equal(found.pixels, picture.pixels, strict=True)
    np.testing.assert_array_equal(found.alpha, picture.alpha, strict=True)
    assert found.metadata.icc == PROFILE
    assert found.metadata.xmp == XMP
    assert exif_orientation(found.metadata.exif) == 8
    again = read_image(encode_image(dataclasses.replace(found, pixels=found.pixels // 2), format))
    assert dataclasses.replace(again.metadata, dpi=None) == dataclasses.replace(found.metadata, dpi=None)
    assert again.metadata.dpi == pytest.approx(found.metadata.dpi, rel=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", CARRIERS)
def test_pixels_are_not_rotated(format: str, orientation: int) -> None:
    picture = noise(exif=make_exif(orientation))
    found = read_image(encode_image(picture, format))
    assert found.pixels.shape == picture.pixels.shape
    assert exif_orientation(found.metadata.exif) == orientation
    if format != "JPEG":
        np.testing.assert_array_equal(found.pixels, picture.pixels)


@pytest.mark.parametrize("mode", ["1", "P", "L"])
@pytest.mark.parametrize("compression", [None, "jpeg", "group4", "tiff_lzw"])
def test_old_kinds_of_tiff_are_not_rotated(mode: str, compression: str | None) -> None:
    if (compression == "jpeg" and mode != "L") or (compression == "group4" and mode != "1"):
        mode = "L" if compression == "jpeg" else "1"
    image = Image.fromarray(np.tile(np.arange(0, 250, 10, dtype=np.uint8), (8, 1))).convert(mode)
    plain, turned = io.BytesIO(), io.BytesIO()
    image.save(plain, "TIFF", compression=compression)
    image.save(turned, "TIFF", compression=compression, tiffinfo={274: 6})
    found = read_image(turned.getvalue())
    np.testing.assert_array_equal(found.pixels, read_image(plain.getvalue()).pixels)
    assert found.pixels.shape[:2] == (8, 25)
    assert exif_orientation(found.metadata.exif) == 6


@pytest.mark.parametrize("where", ["LONG", "XMP"])
def test_old_kinds_of_tiff_are_not_rotated_by_what_pillow_finds_elsewhere(where: str) -> None:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    if where == "LONG":
        info[274], info.tagtype[274] = 6, 4
    else:
        xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
        info[700], info.tagtype[700] = xmp, 1
    image = Image.fromarray(np.tile(np.arange(0, 250, 10, dtype=np.uint8), (8, 1))).convert("P")
    turned = io.BytesIO()
    image.save(turned, "TIFF", tiffinfo=info)
    found = read_image(turned.getvalue())
    np.testing.assert_array_equal(found.pixels, np.asarray(image.convert("L")))
    assert exif_orientation(found.metadata.exif) == (6 if where == "LONG" else 1)


def test_bmp_is_turned_upright_since_it_has_no_exif() -> None:
    picture = noise(exif=make_exif(6), icc=PROFILE, dpi=(200.0, 100.0))
    assert lost_metadata(picture, "BMP") == ("ICC profile", "EXIF")
    assert lost_metadata(picture, "TIFF") == ()
    found = read_image(encode_image(picture, "BMP"))
    np.testing.assert_array_equal(found.pixels, np.rot90(picture.pixels, -1))
    assert found.metadata.dpi == pytest.approx((100.0, 200.0), rel=1e-3)
    assert read_image(encode_image(noise(), "BMP")).metadata == Metadata()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))


def test_png_chunks_survive_in_png() -> None:
    kept = (
        (b"gAMA", struct.pack(">L", 45455)),
        (b"cHRM", struct.pack(">8L", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
        (b"sRGB", b"\0"),
        (b"pHYs", struct.pack(">LLB", 2, 3, 0)),
        (b"tEXt", b"Comment\0caf\xe9"),
        (b"zTXt", b"Long\0\0" + zlib.compress(b"text " * 500_000)),
        (b"iTXt", b"Title\0\0\0de\0Titel\0" + "\u00dcbung".encode()),
    )
    dropped = png_chunk(b"tIME", b"\7\xe8\1\1\0\0\0")
    for dtype in ("uint8", "uint16"):
        data = encode_image(noise(dtype), "PNG")
        data = data[:33] + b"".join(png_chunk(*chunk) for chunk in kept) + dropped + data[33:]
        found = read_image(data)
        np.testing.assert_array_equal(found.pixels, noise(dtype).pixels)
        assert found.metadata == Metadata(png_chunks=kept)
        assert encode_image(found, "PNG") == data.replace(dropped, b"")
    assert lost_metadata(found, "TIFF") == ("PNG texts and colour-space chunks",)
    with_profile = dataclasses.replace(found, metadata=Metadata(icc=PROFILE, png_chunks=kept))
    assert b"sRGB" not in dict(read_image(encode_image(with_profile, "PNG")).metadata.png_chunks)


def test_grey_profile_does_not_go_into_webp() -> None:
    grey = PROFILE[:16] + b"GRAY" + PROFILE[20:]
    picture = dataclasses.replace(noise(icc=grey), pixels=noise().pixels[..., 0])
    assert read_image(encode_image(picture, "PNG")).metadata.icc == grey
    found = read_image(encode_image(picture, "WEBP"))
    assert found.metadata.icc is None
    np.testing.assert_array_equal(found.pixels, picture.pixels, strict=True)


def test_equal_channels_with_an_rgb_profile_stay_rgb() -> None:
    pixels = np.repeat(noise().pixels[..., :1], 3, axis=2)
    found = read_image(encode_image(Picture(pixels, metadata=Metadata(icc=PROFILE)), "WEBP"))
    np.testing.assert_array_equal(found.pixels, pixels, strict=True)
    indexed = Image.fromarray(pixels[..., 0])
    indexed.putpalette(bytes(value for value in range(256) for _ in range(3)))
    for format in ("PNG", "TIFF"):
        stream = io.BytesIO()
        indexed.save(stream, format, icc_profile=PROFILE)
        np.testing.assert_array_equal(read_image(stream.getvalue()).pixels, pixels, strict=True)


def test_tiff_descriptions_and_georeference_survive() -> None:
    tags = [
        (33550, "d", 3, (0.5, 0.5, 0.0), True),
        (34735, "H", 4, (1, 1, 0, 0), True),
        (34264, "d", 2, (1.5, 2.5), True),
    ]
    stream = io.BytesIO()
    options = {"description": "a field", "software": "survey", "resolution": (40.0, 40.0), "resolutionunit": 3}
    tifffile.imwrite(stream, noise("uint16").pixels, photometric="rgb", metadata=None, extratags=tags, **options)
    found = read_image(stream.getvalue())
    assert found.metadata.dpi == pytest.approx((101.6, 101.6))
    with tifffile.TiffFile(io.BytesIO(encode_image(found, "TIFF"))) as file:
        page = file.pages[0]
        assert (page.description, page.software) == ("a field", "survey")
        assert [page.tags[code].value for code, *_ in tags] == [values for *_, values, _ in tags]
        assert page.get_resolution("CENTIMETER") == pytest.approx((40.0, 40.0))


@pytest.mark.parametrize(
    "block", [b"garbage", b"II*\0\xff\xff\xff\0", b"MM\0*\0\0\0\x08\xff\xff", b"II*\0\x08\0\0\0\0\0\0\0\0\0"]
)
def test_damaged_exif_does_not_cost_the_picture(block: bytes) -> None:
    picture = noise(exif=block)
    assert exif_orientation(block) == 1
    for format in CARRIERS:
        assert read_image(encode_image(picture, format)).pixels.shape == picture.pixels.shape
    assert read_image(encode_image(picture, "PNG")).metadata.exif == block


def test_exif_pointing_at_itself_ends() -> None:
    entry = struct.pack("<HHLL", EXIF_DIRECTORY, 4, 1, 8)
    block = b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + b"\0\0\0\0"
    assert encode_image(noise(exif=block), "TIFF")


def test_repeated_writing_gives_the_same_bytes() -> None:
    picture = noise(icc=PROFILE, exif=make_exif(), xmp=XMP, dpi=(300.0, 300.0))
    for format in (*CARRIERS, "BMP"):
        assert encode_image(picture, format) == encode_image(picture, format)


@pytest.mark.parametrize("planar", [True, False])
def test_the_shape_that_tifffile_notes_fits_the_page_or_is_dropped(
    planar: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (13, 17, 3), dtype=np.uint8)
    stored = np.ascontiguousarray(np.moveaxis(pixels, -1, 0)) if planar else pixels
    tifffile.imwrite(tmp_path / "in.tif", stored, photometric="rgb", planarconfig="separate" if planar else "contig")
    (tmp_path / "out.tif").write_bytes(encode_image(read_image(tmp_path / "in.tif"), "TIFF"))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), pixels)
    assert caplog.records == []
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert ("ImageDescription" in file.pages[0].tags) != planar
