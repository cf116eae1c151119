"""Noise that is white, and noise that is not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage import data

from tnrd.correlated_noise import noise_across_scales
from tnrd.degradations import compress_jpeg
from tnrd.noise import add_noise


@pytest.fixture(scope="module")
def clean() -> NDArray[np.float64]:
    return np.asarray(data.camera() / 255)


@pytest.mark.parametrize("sigma", [5, 15, 40])
def test_white_noise_is_white(clean: NDArray[np.float64], sigma: float) -> None:
    found = noise_across_scales(add_noise(clean, sigma / 255, seed=0))
    assert not found.is_correlated
    assert found.coarse == pytest.approx(found.fine, rel=0.12)


@pytest.mark.parametrize("width", [0.5, 0.8])
@pytest.mark.parametrize("sigma", [8, 30])
def test_blurred_noise_is_found(clean: NDArray[np.float64], width: float, sigma: float) -> None:
    noise = gaussian_filter(np.random.default_rng(0).standard_normal(clean.shape), width)
    found = noise_across_scales(clean + sigma / 255 * noise / noise.std())
    assert found.is_correlated
    assert 255 * found.coarse > 0.9 * sigma


def test_noise_that_is_correlated_at_half_the_size_too_is_not_underestimated(clean: NDArray[np.float64]) -> None:
    noise = gaussian_filter(np.random.default_rng(0).standard_normal(clean.shape), 1.5)
    found = noise_across_scales(clean + 20 / 255 * noise / noise.std())
    assert 255 * found.coarse > 35  # white noise of this level leaves as much at a quarter of the size
    few = noise_across_scales((clean + 20 / 255 * noise / noise.std())[:128, :128])
    assert few.is_correlated


def test_the_noise_of_a_jpeg_is_found(clean: NDArray[np.float64]) -> None:
    assert noise_across_scales(compress_jpeg(add_noise(clean, 8 / 255, seed=0), 70)).is_correlated


def test_a_clean_picture_has_no_noise_to_speak_of() -> None:
    assert not noise_across_scales(np.full((64, 64), 0.4)).is_correlated
    steps = np.rint(255 * np.linspace(0, 1, 128)[None, :].repeat(128, 0)).astype(np.uint8)
    assert not noise_across_scales(steps).is_correlated


def test_colour_is_one_number(clean: NDArray[np.float64]) -> None:
    colour = add_noise(np.dstack([clean, clean, 1 - clean]), 20 / 255, seed=0)
    found = noise_across_scales(colour, channel_axis=-1)
    assert 255 * found.fine == pytest.approx(20, rel=0.05)
    assert not found.is_correlated


def test_of_a_large_picture_the_middle_is_measured() -> None:
    noisy = np.random.default_rng(0).normal(0.5, 0.1, (1100, 1300)).astype(np.float32)
    assert noise_across_scales(noisy) == noise_across_scales(noisy[38:1062, 138:1162])
