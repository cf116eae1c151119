"""Sensor noise, impulses and JPEG: their statistics, their reproducibility, and what they refuse."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from skimage.util import img_as_float

from tnrd.degradations import add_poisson_gaussian, add_salt_and_pepper, compress_jpeg

shapes = st.sampled_from([(5,), (3, 4), (1, 1), (2, 5, 3)])
RAMP = np.tile(np.linspace(0, 1, 256), (64, 1))


def poisson(image: Any, seed: int) -> NDArray[np.float32]:
    return add_poisson_gaussian(image, 0.01, 0.02, seed)


def impulses(image: Any, seed: int) -> NDArray[np.float32]:
    return add_salt_and_pepper(image, 0.3, seed)


def jpeg(image: Any, seed: int) -> NDArray[np.float32]:
    return compress_jpeg(image, 50)


@pytest.mark.parametrize("spoil", [poisson, impulses, jpeg])
def test_the_contract_that_all_share(spoil: Any) -> None:
    for clean in (RAMP, np.dstack([RAMP, RAMP[::-1], 1 - RAMP])):
        before = clean.copy()
        spoilt = spoil(clean, 3)
        assert spoilt.dtype == np.float32
        assert spoilt.shape == clean.shape
        np.testing.assert_array_equal(clean, before)
        np.testing.assert_array_equal(spoil(clean, 3), spoilt)
    steps = np.rint(RAMP * 255).astype(np.uint8)
    np.testing.assert_allclose(spoil(steps, 1), spoil(img_as_float(steps), 1), atol=1e-6)
    for bad in (np.full((4, 4), np.nan), np.full((4, 4), np.inf), np.ones((4, 4), complex), np.array([["a"]])):
        with pytest.raises(ValueError, match=r"must be finite|must hold real numbers"):
            spoil(bad, 0)


@pytest.mark.parametrize("spoil", [poisson, impulses])
def test_another_seed_gives_other_noise(spoil: Any) -> None:
    assert np.any(spoil(RAMP, 0) != spoil(RAMP, 1))


# --- sensor noise


@pytest.mark.parametrize(("gain", "read_noise"), [(0.01, 0.0), (0.002, 0.03), (0.2, 0.01)])
def test_mean_and_variance_follow_the_sensor_s_law(gain: float, read_noise: float) -> None:
    levels, samples = np.array([0.0, 0.1, 0.5, 1.0]), 40000
    noisy = add_poisson_gaussian(np.repeat(levels[:, None], samples, axis=1), gain, read_noise, seed=0).astype(float)
    variance = gain * levels + read_noise**2
    np.testing.assert_array_less(np.abs(noisy.mean(1) - levels), 5 * np.sqrt(variance / samples) + 1e-7)
    np.testing.assert_allclose(noisy.var(1), variance, rtol=0.06, atol=1e-9)


@given(st.integers(0, 10**6), shapes, st.floats(1e-4, 0.5))
@settings(max_examples=20)
def test_counts_are_whole_photons_and_darkness_has_none(seed: int, shape: tuple[int, ...], gain: float) -> None:
    photons = add_poisson_gaussian(np.full(shape, 0.7), gain, 0.0, seed) / gain
    np.testing.assert_allclose(photons, np.rint(photons), atol=1e-6 / gain)
    np.testing.assert_array_equal(add_poisson_gaussian(np.full(shape, -0.2), gain, 0.0, seed), 0)


def test_sensor_noise_is_not_clipped() -> None:
    noisy = add_poisson_gaussian(RAMP, 0.01, 0.05, seed=0)
    assert noisy.min() < 0
    assert noisy.max() > 1


@pytest.mark.parametrize(
    ("gain", "read_noise", "sentence"),
    [
        (0.0, 0.1, "gain must be a finite number above 0, got 0.0"),
        (np.inf, 0.1, "got inf"),
        (0.1, -0.5, "read_noise must be a finite number of at least 0, got -0.5"),
        (0.1, np.nan, "got nan"),
        (1e-30, 0.0, "A gain of 1e-30 means more than 1e18 photons"),
    ],
)
def test_absurd_sensors_are_refused(gain: float, read_noise: float, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        add_poisson_gaussian(RAMP, gain, read_noise, 0)


# --- impulses


def test_the_share_of_impulses_and_of_their_colours() -> None:
    spoilt = add_salt_and_pepper(np.full((300, 300), 0.5), 0.2, seed=0)
    black, white = np.mean(spoilt == 0), np.mean(spoilt == 1)
    assert black + white == pytest.approx(0.2, abs=0.005)
    assert black == pytest.approx(white, abs=0.005)
    assert np.all(spoilt[(spoilt != 0) & (spoilt != 1)] == 0.5)


@given(st.integers(0, 10**6), shapes, st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=30)
def test_more_impulses_add_to_the_same_ones(seed: int, shape: tuple[int, ...], one: float, other: float) -> None:
    few, many = (add_salt_and_pepper(np.full(shape, 0.5), amount, seed) for amount in sorted((one, other)))
    assert np.all((few == 0.5) | (few == many))


def test_channels_are_spoilt_together_and_the_extremes_are_all_or_nothing() -> None:
    clean = np.random.default_rng(0).uniform(0.1, 0.9, (40, 50, 3)).astype(np.float32)
    spoilt = add_salt_and_pepper(clean, 0.5, seed=1)
    changed = spoilt != clean
    assert np.array_equal(changed.any(2), changed.all(2))
    assert np.all(np.ptp(spoilt[changed.all(2)], axis=1) == 0)
    np.testing.assert_array_equal(add_salt_and_pepper(clean, 0.0, 1), clean)
    assert set(np.unique(add_salt_and_pepper(clean, 1.0, 1))) == {0.0, 1.0}


@pytest.mark.parametrize("amount", [-0.1, 1.5, np.nan])
def test_a_share_beyond_all_is_refused(amount: float) -> None:
    with pytest.raises(ValueError, match=rf"amount must lie in \[0, 1\], got {amount}"):
        add_salt_and_pepper(RAMP, amount, 0)


# --- JPEG


@pytest.mark.parametrize("picture", [data.camera()[:97, :61], data.astronaut()[:61, :97]], ids=["grey", "colour"])
def test_it_is_what_a_file_would_hold(picture: NDArray[np.uint8]) -> None:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=30)
    np.testing.assert_array_equal(np.rint(255 * compress_jpeg(picture, 30)), np.asarray(Image.open(file)))


def test_lower_quality_is_farther_from_the_picture() -> None:
    clean = data.camera()[:256, :256] / 255
    errors = [float(np.mean((compress_jpeg(clean, quality) - clean) ** 2)) for quality in (5, 20, 50, 80, 100)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-5 < 1e-3 < errors[0]


def test_values_beyond_the_range_are_clipped() -> None:
    np.testing.assert_array_equal(compress_jpeg(3 * RAMP - 1, 90), compress_jpeg(np.clip(3 * RAMP - 1, 0, 1), 90))


@pytest.mark.parametrize("quality", [0, 101, 50.0, True, "90"])
def test_a_quality_that_jpeg_has_not_is_refused(quality: Any) -> None:
    with pytest.raises(ValueError, match="quality must be a whole number from 1 to 100, got"):
        compress_jpeg(RAMP, quality)


@pytest.mark.parametrize("shape", [(4,), (4, 4, 1), (4, 4, 4), (0, 4), (4, 0, 3), (1, 65501), (2, 2, 2, 3)], ids=str)
def test_a_shape_that_jpeg_has_not_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="A JPEG file h"):
        compress_jpeg(np.zeros(shape), 90)
