"""Noise: its reproducible addition and the blind estimate of its level."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import data, restoration
from skimage.util import img_as_float

from tnrd import noise_blocks
from tnrd.inference.levels import estimate_noise
from tnrd.noise import add_noise, estimate_sigma

LEVELS = (5, 15, 25, 50, 75)
# Natural pictures, plain textures and print that ship inside scikit-image's wheel.
BUNDLED = ("camera", "brick", "grass", "gravel", "coins", "moon", "page")


def gaussian(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(shape)


def ramp_with_stripes(size: int = 256) -> NDArray[np.float64]:
    """Smooth everywhere, with strong stripes of period 4 over the right half."""
    y, x = np.indices((size, size)) / size
    stripes = 0.2 * np.sin(2 * np.pi * np.indices((size, size))[1] / 4) * (x > 0.5)
    return 0.3 + 0.3 * y + 0.1 * np.sin(5 * x) + stripes


@pytest.fixture(scope="module")
def camera() -> NDArray[np.float64]:
    return np.asarray(data.camera()[100:356, 100:356] / 255)


@pytest.fixture(scope="module")
def noisy(camera: NDArray[np.float64]) -> NDArray[np.float32]:
    return add_noise(camera, 15 / 255, seed=15000)


def mean_errors(images: list[NDArray[Any]], level: int, estimate: Callable[..., Any]) -> NDArray[np.float64]:
    """Signed errors on the 8-bit scale, by the protocol, all channels in one array."""
    axis = -1 if images[0].ndim == 3 else None
    found = [
        np.atleast_1d(estimate(add_noise(image, level / 255, 1000 * level + i), channel_axis=axis))
        for i, image in enumerate(images)
    ]
    return 255 * np.concatenate(found) - level


# --- accuracy ---


@pytest.mark.parametrize("sigma", [0.002, 0.1, 0.4])
@pytest.mark.parametrize("shape", [(256, 256), (40, 1500), (700, 600)])
def test_pure_noise_is_measured_without_bias(shape: tuple[int, int], sigma: float) -> None:
    assert estimate_sigma(0.5 + sigma * gaussian(shape)) == pytest.approx(sigma, rel=0.02)


def test_products_are_small_enough_for_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenBLAS wakes threads for larger ones, which spin on while the compiled loops want the cores."""
    sizes = []

    def matmul(a: NDArray[Any], b: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
        sizes.append(a.shape[0] * a.shape[1] * b.shape[1])
        out[:] = a @ b
        return out

    monkeypatch.setattr(noise_blocks.np, "matmul", matmul)
    noisy = 0.1 * np.random.default_rng(0).standard_normal((100, 90)).astype(np.float32)
    assert estimate_sigma(noisy) == pytest.approx(0.1, rel=0.03)
    assert sizes
    assert max(sizes) <= 2**18


@pytest.mark.parametrize("level", [1, *LEVELS])
def test_structure_is_not_taken_for_noise(level: int) -> None:
    estimate = 255 * estimate_sigma(add_noise(ramp_with_stripes(), level / 255, seed=level))
    assert estimate == pytest.approx(level, rel=0.03)


@pytest.mark.parametrize("level", LEVELS)
def test_bundled_pictures_beat_scikit_image(level: int) -> None:
    images = [getattr(data, name)() / 255 for name in BUNDLED]
    ours = mean_errors(images, level, estimate_sigma)
    theirs = mean_errors(images, level, restoration.estimate_sigma)
    assert np.abs(ours).mean() < np.abs(theirs).mean()
    assert np.abs(ours).max() < 0.7 + 0.02 * level, dict(zip(BUNDLED, ours, strict=True))
    assert np.abs(ours).mean() < 0.2 + 0.01 * level


def test_clean_pictures_have_little_noise() -> None:
    for name in ("camera", "brick", "coins", "moon", "page"):
        assert 255 * estimate_sigma(getattr(data, name)()) < 0.8, name


@pytest.mark.data
@pytest.mark.parametrize("level", LEVELS)
def test_set12_is_no_worse_than_scikit_image(data_folder: Path, level: int) -> None:
    from tnrd.training.data import load_images

    images = [image / 255 for image in load_images(data_folder / "set12")]
    ours = np.abs(mean_errors(images, level, estimate_sigma)).mean()
    assert ours <= np.abs(mean_errors(images, level, restoration.estimate_sigma)).mean()
    assert ours < 0.4 + 0.01 * level


@pytest.mark.data
@pytest.mark.parametrize("level", [5, 50])
def test_colour_is_no_worse_than_scikit_image(data_folder: Path, level: int) -> None:
    from tnrd.training.data import load_images

    images = [image / 255 for image in load_images(data_folder / "mcmaster", channels=3)[:4]]
    ours = np.abs(mean_errors(images, level, estimate_sigma)).mean()
    assert ours <= np.abs(mean_errors(images, level, restoration.estimate_sigma)).mean()


# --- areas without noise, and pictures without any ---


def disc(shape: tuple[int, ...], share: float = 0.45) -> NDArray[np.bool_]:
    y, x = np.indices(shape[:2])
    return (y - shape[0] / 2) ** 2 + (x - shape[1] / 2) ** 2 < (share * min(shape[:2])) ** 2


def in_8_bit(image: NDArray[Any]) -> NDArray[np.uint8]:
    return np.clip(np.rint(255 * image), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("value", [0, 77, 128, 255])
@pytest.mark.parametrize("level", [3, 10, 25, 40])
def test_an_area_of_one_value_is_not_what_is_measured(level: int, value: int) -> None:
    """A round field on a plain ground, a box in a corner: they counted as flat, and the picture as free of noise."""
    noisy = in_8_bit(add_noise(data.camera()[:320, :320] / 255, level / 255, 1))
    assert 255 * estimate_sigma(noisy) == pytest.approx(level, rel=0.12)
    round_field, boxed = noisy.copy(), noisy.copy()
    round_field[~disc(noisy.shape)] = value
    boxed[:40, :90] = value
    for picture in (round_field, boxed):
        assert estimate_sigma(picture) == pytest.approx(estimate_sigma(noisy), rel=0.05)
        assert estimate_sigma(picture / 255) == pytest.approx(estimate_sigma(picture), rel=1e-3)


def test_a_noisy_photograph_on_a_screenshot_is_measured() -> None:
    screenshot = np.full((500, 700), 235, np.uint8)
    screenshot[:30], screenshot[40:300:12, 400:650] = 60, 90  # a bar, and lines of a text
    screenshot[100:356, 60:316] = in_8_bit(add_noise(data.camera()[:256, :256] / 255, 20 / 255, 1))
    assert 255 * estimate_sigma(screenshot) == pytest.approx(20, rel=0.05)


@pytest.mark.parametrize("ground", [255, 230])
def test_a_drawing_has_no_noise(ground: int) -> None:
    y, x = np.mgrid[:400, :600]
    drawing = np.full((400, 600), float(ground))
    for k in range(12):  # smooth curves with soft edges, of many slopes
        distance = np.abs(y - 200 - 150 * np.sin(x / (20 + 9 * k) + k))
        drawing = np.minimum(drawing, ground - 20 * k * np.clip(2 - distance, 0, 1))
    assert estimate_sigma(np.rint(drawing).astype(np.uint8)) == 0


@pytest.mark.parametrize("value", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (50, 130, 180)])
def test_of_colours_too_and_their_luminance_and_chrominance(value: tuple[int, int, int]) -> None:
    """A black patch has no chrominance, like much of any picture: it once made the noise of the colours 0."""
    noisy = in_8_bit(add_noise(data.astronaut()[:320, :320] / 255, 25 / 255, 2))
    noisy[~disc(noisy.shape)] = value
    noise = estimate_noise(noisy)
    assert noise.planes is not None
    np.testing.assert_allclose(255 * noise.levels, 25, rtol=0.08)
    np.testing.assert_allclose(255 * noise.planes, 25, rtol=0.08)
    assert noise.is_alike


def test_blown_out_highlights_do_not_hide_the_noise_of_colours() -> None:
    bright = np.clip(1.2 * data.astronaut()[:320, :320] / 255, 0, 1)
    noise = estimate_noise(in_8_bit(add_noise(bright, 15 / 255, 3)))
    assert noise.planes is not None
    np.testing.assert_allclose(255 * noise.planes, 15, rtol=0.12)


# --- what must not matter, and what must scale ---


@pytest.mark.parametrize("factor", [1e-6, 0.3, 255.0, 65535.0])
def test_scaling_the_picture_scales_the_estimate(noisy: NDArray[np.float32], factor: float) -> None:
    expected = factor * estimate_sigma(noisy)
    assert estimate_sigma(factor * noisy.astype(np.float64)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("offset", [-0.5, 1.0, 1000.0])
def test_a_constant_does_not_matter(noisy: NDArray[np.float32], offset: float) -> None:
    assert estimate_sigma(noisy.astype(np.float64) + offset) == pytest.approx(estimate_sigma(noisy), rel=1e-3)


@pytest.mark.parametrize("turn", [np.flipud, np.fliplr, np.transpose, np.rot90, lambda u: -u])
def test_symmetries_do_not_matter(noisy: NDArray[np.float32], turn: Callable[[Any], Any]) -> None:
    assert estimate_sigma(turn(noisy)) == pytest.approx(estimate_sigma(noisy), rel=1e-3)


def test_same_input_gives_the_same_number(noisy: NDArray[np.float32]) -> None:
    before = noisy.copy()
    assert estimate_sigma(noisy) == estimate_sigma(np.asfortranarray(noisy))
    np.testing.assert_array_equal(noisy, before)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32])
def test_integers_count_as_img_as_float_scales_them(noisy: NDArray[np.float32], dtype: type) -> None:
    integers = np.rint(np.clip(noisy, 0, 1).astype(np.float64) * np.iinfo(dtype).max).astype(dtype)
    assert estimate_sigma(integers) == pytest.approx(estimate_sigma(img_as_float(integers)), rel=1e-3)
    assert estimate_sigma(integers) == pytest.approx(15 / 255, rel=0.03)


def test_half_precision_and_booleans_are_read(noisy: NDArray[np.float32]) -> None:
    assert estimate_sigma(noisy.astype(np.float16)) == pytest.approx(15 / 255, rel=0.03)
    assert estimate_sigma(gaussian((64, 64)) > 0) == pytest.approx(0.5, rel=0.1)


# --- clipping ---


@pytest.mark.parametrize("level", [5, 25])
def test_clipped_areas_are_left_out(camera: NDArray[np.float64], level: int) -> None:
    bright = np.clip(camera, 0.15, None)
    bright[:128] += 0.8  # above white even with the noise
    stored = np.rint(np.clip(add_noise(bright, level / 255, seed=level), 0, 1) * 255).astype(np.uint8)
    assert (stored[:128] == 255).mean() > 0.5
    assert 255 * estimate_sigma(stored) == pytest.approx(level, rel=0.05)


def test_a_black_frame_does_not_hide_the_noise(noisy: NDArray[np.float32]) -> None:
    framed = np.pad(np.clip(noisy, 0, 1), 60)
    assert 255 * estimate_sigma(framed) == pytest.approx(15, rel=0.05)


@pytest.mark.parametrize("width", [1, 5, 30])
@pytest.mark.parametrize("value", [0.0, 0.5, 0.8])
def test_a_frame_of_any_value_does_not_hide_the_noise(noisy: NDArray[np.float32], width: int, value: float) -> None:
    framed = np.pad(np.clip(noisy, 0, 1), ((width, 2 * width), (0, width)), constant_values=value)
    framed = np.pad(framed, 9, constant_values=0.3)
    assert estimate_sigma(framed) == estimate_sigma(np.clip(noisy, 0, 1))


def test_a_picture_in_a_wide_frame_is_measured_if_it_is_one() -> None:
    """Of fewer than 16 rows or columns nothing is cut."""
    for side, level in ((15, 0.0), (40, 0.1)):
        framed = np.pad(0.5 + 0.1 * gaussian((side, side)), 60, constant_values=0.45)
        assert estimate_sigma(framed) == pytest.approx(level, rel=0.1)


def test_unclipped_blocks_are_only_used_when_there_are_enough() -> None:
    drawing = np.ones((200, 200))
    drawing[100:112, 100:112] = 0.5 + 0.2 * gaussian((12, 12))
    assert estimate_sigma(drawing) == 0


# --- small, flat, large ---


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (8, 8), (64, 50)])
@pytest.mark.parametrize("value", [0.0, 0.3, 1e20, -7.0])
def test_constants_hold_no_noise(shape: tuple[int, int], value: float) -> None:
    assert estimate_sigma(np.full(shape, value)) == 0


def test_flat_drawings_hold_no_noise() -> None:
    drawing = np.zeros((96, 96))
    drawing[20:60, 20:70] = 0.4
    drawing[50:90, 5:40] = 1.0
    assert estimate_sigma(drawing) == 0


@settings(max_examples=60)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32 - 1), st.sampled_from("fdBH"))
def test_any_small_picture_has_an_estimate(rows: int, columns: int, seed: int, code: str) -> None:
    samples = (
        np.random.default_rng(seed).uniform(0, 200, (rows, columns)).astype(np.dtype(code if code != "u" else "B"))
    )
    scale = np.iinfo(samples.dtype).max if samples.dtype.kind == "u" else 1
    estimate = estimate_sigma(samples)
    assert isinstance(estimate, float)
    assert 0 <= estimate <= 200 / scale * 1.01
    assert (estimate > 0) == (samples.size > 1 and samples.min() < samples.max())


@pytest.mark.parametrize(("size", "low", "high"), [(8, 0.6, 1.05), (16, 0.9, 1.05), (32, 0.95, 1.02)])
def test_small_pictures_are_right_in_the_mean(size: int, low: float, high: float) -> None:
    estimates = [estimate_sigma(0.1 * gaussian((size, size), seed)) for seed in range(200)]
    assert low < np.mean(estimates) / 0.1 < high


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_the_number_of_blocks_is_bounded(rows: int, columns: int) -> None:
    stride = noise_blocks.block_stride(rows, columns)
    assert stride % 2 == 1
    count = [-(-rows // s) * -(-columns // s) for s in (stride, max(1, stride - 2))]
    assert count[0] <= noise_blocks._MAX_BLOCKS
    assert stride == 1 or count[1] > noise_blocks._MAX_BLOCKS


def test_large_pictures_take_little_memory() -> None:
    tile = np.random.default_rng(0).normal(120, 12, (500, 500))
    image = np.tile(np.rint(tile).astype(np.uint8), (8, 10))
    tracemalloc.start()
    estimate = estimate_sigma(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 255 * estimate == pytest.approx(12, rel=0.02)
    assert peak < 160e6, f"{peak / 1e6:.0f} MB for {image.nbytes / 1e6:.0f} MB of pixels"


# --- channels ---


def test_each_channel_is_measured_on_its_own(camera: NDArray[np.float64]) -> None:
    sigmas = np.array([0.02, 0.05, 0.2])
    image = camera[..., None] + sigmas * gaussian((*camera.shape, 3))
    estimates = estimate_sigma(image, channel_axis=-1)
    assert isinstance(estimates, np.ndarray)
    np.testing.assert_allclose(estimates, sigmas, rtol=0.04)
    np.testing.assert_array_equal(estimates, [estimate_sigma(image[..., c]) for c in range(3)])
    np.testing.assert_array_equal(estimates, estimate_sigma(np.moveaxis(image, -1, 0), channel_axis=0))
    np.testing.assert_array_equal(estimates, estimate_sigma(np.moveaxis(image, -1, 1), channel_axis=-2))
    mean = estimate_sigma(image, channel_axis=-1, average_sigmas=True)
    assert isinstance(mean, float)
    assert mean == pytest.approx(float(np.sqrt(np.mean(estimates**2))))


# --- refusals ---


@pytest.mark.parametrize(
    ("image", "axis", "sentence"),
    [
        (np.full((9, 9), np.nan), None, "finite values"),
        (np.where(np.eye(9) > 0, np.inf, 0.0), None, "finite values"),
        (np.where(np.eye(9) > 0, -np.inf, 0.0), None, "finite values"),
        (np.array([[0.0, 1e31]]), None, r"below 1e30, got values from 0\.0 to 1e\+31"),
        (np.zeros((0, 5)), None, r"no pixels, got shape \(0, 5\)"),
        (np.zeros((5, 5, 0)), -1, "no pixels"),
        (np.zeros((5, 5, 3)), None, r"2 dimensions, got shape \(5, 5, 3\)"),
        (np.zeros((5, 5)), -1, r"3 dimensions, got shape \(5, 5\)"),
        (np.float64(1.0), None, "2 dimensions"),
        (np.zeros((5, 5, 3)), 3, "got 3"),
    ],
)
def test_bad_pictures_are_refused(image: Any, axis: int | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        estimate_sigma(image, channel_axis=axis)


@pytest.mark.parametrize("image", [np.zeros((5, 5), complex), np.array([["a"]]), np.array([[None]])])
def test_other_things_than_real_numbers_are_refused(image: Any) -> None:
    with pytest.raises(TypeError, match="real floats, got dtype"):
        estimate_sigma(image)


def test_torch_is_not_imported() -> None:
    code = "import sys, numpy, tnrd; tnrd.estimate_sigma(numpy.eye(9)); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- adding noise ---


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.floats(0, 1), st.sampled_from([(3, 4), (2, 5, 3), (1,)]))
def test_noise_is_the_generator_s(seed: int, sigma: float, shape: tuple[int, ...]) -> None:
    noisy = add_noise(np.full(shape, 0.9), sigma, seed)
    assert noisy.dtype == np.float32
    np.testing.assert_array_equal(noisy, (0.9 + sigma * gaussian(shape, seed)).astype(np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int8, np.int16])
def test_noise_is_added_to_what_img_as_float_gives(dtype: type) -> None:
    extremes = np.array([[np.iinfo(dtype).min, 3, np.iinfo(dtype).max]], dtype=dtype)
    np.testing.assert_allclose(add_noise(extremes, 0.0, 0), img_as_float(extremes), rtol=1e-6)


@pytest.mark.parametrize("sigma", [-0.1, np.nan, np.inf])
def test_absurd_noise_is_refused(sigma: float) -> None:
    with pytest.raises(ValueError, match=f"at least 0, got {sigma}"):
        add_noise(np.zeros((3, 3)), sigma, 0)


# --- the script ---


def test_the_comparison_writes_a_table_and_every_estimate(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    folder, report = tmp_path / "pictures", tmp_path / "report.json"
    folder.mkdir()
    for name, picture in {"b": data.camera()[::4, ::4], "a": data.coins()[:100, :120]}.items():
        Image.fromarray(np.ascontiguousarray(picture)).save(folder / f"{name}.png")
    monkeypatch.syspath_prepend(root / "scripts")  # as when Python runs a script
    script = str(root / "scripts" / "compare_noise_estimators.py")
    options = ["--data", str(folder), "--sigma", "15", "50", "--color", "--json", str(report)]
    monkeypatch.setattr(sys, "argv", [script, *options])
    runpy.run_path(script, run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| estimator | sigma 15 | sigma 50 | s/Mpx |"
    assert [line.split("|")[1].strip() for line in lines[2:4]] == ["tnrd", "scikit-image"]
    rows = json.loads(report.read_text())["estimates"]
    assert len(rows) == 2 * 2 * 2
    first = next(row for row in rows if row["image"] == "a.png" and row["method"] == "tnrd" and row["sigma"] == 15)
    noisy = add_noise(np.repeat(data.coins()[:100, :120, None], 3, axis=2), 15 / 255, seed=15000)
    np.testing.assert_allclose(first["estimates"], 255 * estimate_sigma(noisy, channel_axis=-1), rtol=1e-4)
