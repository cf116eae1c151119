"""Round trips of pixels and alpha, interchange with other libraries, and the promises of the output file."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from image_samples import assert_same, random_picture
from PIL import Image, ImageOps

from tnrd.image_io import (
    Picture,
    encode_image,
    read_image,
)
from tnrd.image_io.pillow import turn_upright
from tnrd.image_io.png_encode import _filter
from tnrd.image_io.tiff_encode import write_tiff

DEPTHS = {"PNG": ("uint8", "uint16"), "TIFF": ("uint8", "uint16", "float32"), "WEBP": ("uint8",), "BMP": ("uint8",)}


@st.composite
def storable(draw: st.DrawFn) -> tuple[str, Picture]:
    """A lossless format and a picture that it can hold."""
    format = draw(st.sampled_from(sorted(DEPTHS)))
    dtype = np.dtype(draw(st.sampled_from(DEPTHS[format])))
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=19))
    values = hnp.from_dtype(dtype, **({"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}))
    pixels = draw(hnp.arrays(dtype, (*shape, 3) if draw(st.booleans()) else shape, elements=values))
    alpha = draw(st.booleans()) and format != "BMP"
    return format, Picture(pixels, draw(hnp.arrays(dtype, shape, elements=values)) if alpha else None)


@settings(max_examples=120, deadline=None)
@given(storable())
def test_lossless_formats_return_every_bit(case: tuple[str, Picture]) -> None:
    format, picture = case
    data = encode_image(picture, format)
    found = read_image(data)
    assert found.format == format
    assert encode_image(picture, format) == data
    if format == "WEBP":
        # WebP has no grey and drops an alpha channel that is opaque everywhere.
        equal = picture.pixels.ndim == 3 and np.all(picture.pixels == picture.pixels[..., :1])
        opaque = picture.alpha is not None and np.all(picture.alpha == 255)
        picture = Picture(picture.pixels[..., 0] if equal else picture.pixels, None if opaque else picture.alpha)
        assert np.array_equal(found.pixels, picture.pixels)
    else:
        assert_same(found, picture)


@pytest.mark.parametrize("format", sorted(DEPTHS))
@pytest.mark.parametrize("rgb", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
def test_pictures_of_several_bands_and_strips(format: str, rgb: bool, alpha: bool) -> None:
    for dtype in DEPTHS[format]:
        if not (format == "BMP" and alpha):
            picture = random_picture((523, 611), dtype, rgb=rgb, alpha=alpha)
            assert_same(read_image(encode_image(picture, format)), picture)


@pytest.mark.parametrize("step", [1, 2, 3, 8])
def test_png_filters_follow_the_specification(step: int) -> None:
    # Few distinct values, so that the ties of the Paeth predictor occur.
    raw, above = np.random.default_rng(step).integers(0, 5, (7, 24), dtype=np.uint8), np.arange(24, dtype=np.uint8)
    for row, previous, *filtered in zip(raw, np.vstack((above, raw)), *_filter(raw, above, step), strict=False):
        for x in range(24):
            a, b, c = (int(line[x - d]) if x >= d else 0 for line, d in ((row, step), (previous, 0), (previous, step)))
            paeth = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
            expected = [(int(row[x]) - guess) % 256 for guess in (0, a, b, (a + b) // 2, paeth)]
            assert [int(line[x]) for line in filtered] == expected


@pytest.mark.parametrize("rgb", [False, True])
def test_jpeg_is_close(rgb: bool) -> None:
    ramp = np.add.outer(np.arange(61), 2 * np.arange(47)).astype(np.uint8)
    pixels = np.dstack((ramp, ramp[::-1], 255 - ramp)) if rgb else ramp
    data = encode_image(Picture(pixels), "JPEG")
    found = read_image(data).pixels
    assert found.shape == pixels.shape
    assert np.abs(found.astype(int) - pixels).mean() < 2
    if rgb:
        assert [layer[1:3] for layer in Image.open(io.BytesIO(data)).layer] == [(1, 1)] * 3


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("rgb", [False, True])
def test_other_libraries_read_our_png(dtype: str, rgb: bool) -> None:
    picture = random_picture((31, 22), dtype, rgb=rgb, alpha=rgb)
    decoded = cv2.imdecode(np.frombuffer(encode_image(picture, "PNG"), np.uint8), cv2.IMREAD_UNCHANGED)
    expected = np.dstack((picture.pixels[..., ::-1], picture.alpha)) if rgb else picture.pixels
    np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("rgb", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("limit", [0, 10**9])
def test_other_libraries_read_our_tiff(dtype: str, rgb: bool, alpha: bool, limit: int) -> None:
    picture = random_picture((301, 417), dtype, rgb=rgb, alpha=alpha)
    stream = io.BytesIO()
    write_tiff(picture, stream, classic_limit=limit)
    assert_same(read_image(stream.getvalue()), picture)
    with tifffile.TiffFile(io.BytesIO(stream.getvalue())) as file:
        assert file.is_bigtiff == (limit == 0)
        page = file.pages[0]
        assert [int(sample) for sample in page.extrasamples] == ([2] if alpha else [])
        expected = picture.pixels if picture.alpha is None else np.dstack((picture.pixels, picture.alpha))
        np.testing.assert_array_equal(page.asarray(), expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_other_libraries_in_every_layout(dtype: str, samples: int, order: str) -> None:
    rng = np.random.default_rng(samples)
    pixels = (rng.random((21, 37, samples)) * 250).astype(dtype)
    for compression, planar, tile, big in [
        (None, "contig", None, False),
        (None, "separate", (16, 32), True),
        ("zlib", "contig", (16, 16), False),
        ("zlib", "separate", None, True),
    ]:
        data = pixels[..., 0] if samples == 1 else pixels if planar == "contig" else np.moveaxis(pixels, -1, 0)
        options = {"planarconfig": planar, "extrasamples": [2] if samples in (2, 4) else []} if samples > 1 else {}
        predictor = compression == "zlib" and np.dtype(dtype).kind == "u"
        stream = io.BytesIO()
        tifffile.imwrite(
            *(stream, data),
            photometric="rgb" if samples > 2 else "minisblack",
            compression=compression,
            predictor=predictor,
            tile=tile,
            byteorder=order,
            bigtiff=big,
            rowsperstrip=None if tile else 5,
            metadata=None,
            **options,
        )
        found = read_image(stream.getvalue())
        joined = found.pixels if found.alpha is None else np.dstack((found.pixels, found.alpha))
        expected = pixels[..., 0] if samples == 1 else pixels
        np.testing.assert_array_equal(joined, expected.astype(joined.dtype))
        assert joined.dtype == (np.float32 if np.dtype(dtype).kind == "f" else dtype)


@pytest.mark.parametrize("compression", [5, 8, 32773, 32946])
@pytest.mark.parametrize(("predictor", "dtype"), [(1, "uint16"), (2, "uint16"), (1, "float32"), (3, "float32")])
def test_tiff_of_opencv_with_libtiff_codecs(compression: int, predictor: int, dtype: str) -> None:
    picture = random_picture((33, 29), dtype, rgb=True, alpha=False)
    options = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_PREDICTOR, predictor]
    _, data = cv2.imencode(".tif", picture.pixels[..., ::-1], options)
    np.testing.assert_array_equal(read_image(data.tobytes()).pixels, picture.pixels)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_pillow_s_own_limit_does_not_count(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It warns and refuses by the bytes of a strip; the limit here is on pixels, and told beforehand."""
    data = io.BytesIO()
    image = Image.fromarray(np.arange(200, dtype=np.uint8).reshape(10, 20)).convert(mode)
    image.save(data, "TIFF", compression="tiff_lzw")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    np.testing.assert_array_equal(read_image(data.getvalue()).pixels, np.asarray(image.convert("L")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turn_upright_agrees_with_pillow(orientation: int) -> None:
    pixels = np.arange(15, dtype=np.uint8).reshape(3, 5)
    image = Image.fromarray(pixels)
    image.getexif()[274] = orientation
    np.testing.assert_array_equal(turn_upright(pixels, orientation), np.asarray(ImageOps.exif_transpose(image)))
