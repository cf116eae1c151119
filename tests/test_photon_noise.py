"""Photon and read noise, measured in the picture."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from tnrd.degradations import add_poisson_gaussian
from tnrd.photon_noise import estimate_photon_noise, noise_curve


@pytest.fixture(scope="module")
def clean() -> NDArray[np.float64]:
    return np.asarray(data.camera() / 255)


@pytest.mark.parametrize(("photons", "electrons"), [(5, 1), (20, 2), (80, 3), (400, 8)])
def test_both_parameters_are_found(clean: NDArray[np.float64], photons: int, electrons: int) -> None:
    found = estimate_photon_noise(add_poisson_gaussian(clean, 1 / photons, electrons / photons, seed=0))
    assert found.gain == pytest.approx(1 / photons, rel=0.12)
    assert found.read_noise == pytest.approx(electrons / photons, rel=0.2)


def test_gaussian_noise_has_no_gain(clean: NDArray[np.float64]) -> None:
    noisy = clean + 0.06 * np.random.default_rng(0).standard_normal(clean.shape)
    found = estimate_photon_noise(noisy)
    assert found.gain < 0.001
    assert found.read_noise == pytest.approx(0.06, rel=0.06)


def test_colour_is_measured_together(clean: NDArray[np.float64]) -> None:
    colour = np.dstack([clean, 0.5 * clean, 1 - clean])
    found = estimate_photon_noise(add_poisson_gaussian(colour, 1 / 40, 0.03, seed=0), channel_axis=-1)
    assert found.gain == pytest.approx(1 / 40, rel=0.1)
    assert found.read_noise == pytest.approx(0.03, rel=0.25)


def test_it_follows_the_scale(clean: NDArray[np.float64]) -> None:
    noisy = add_poisson_gaussian(clean, 1 / 30, 0.02, seed=0)
    one = estimate_photon_noise(noisy)
    for scale in (1 / 2, 1 / 5000):  # the few hundred counts of a camera of 16 bits
        less = estimate_photon_noise(noisy * np.float32(scale))
        assert less.gain == pytest.approx(one.gain * scale, rel=1e-3)
        assert less.read_noise == pytest.approx(one.read_noise * scale, rel=1e-3)


@pytest.mark.parametrize("offset", [100, 500])
def test_what_the_sensor_adds_is_found(clean: NDArray[np.float64], offset: int) -> None:
    """Noise of no intensity below the offset less what the read noise is worth, of the same gain above it."""
    random = np.random.default_rng(0)
    counts = 2.2 * random.poisson(300 * clean) + random.normal(offset, 3.5, clean.shape)
    gain, read_noise, found = (65535 * value for value in estimate_photon_noise(np.rint(counts).astype(np.uint16)))
    assert gain == pytest.approx(2.2, rel=0.1)
    assert read_noise == 0
    assert found == pytest.approx(offset - 3.5**2 / 2.2, abs=12)


def test_the_dark_end_of_photon_noise_is_no_offset(clean: NDArray[np.float64]) -> None:
    for photons in (5, 30, 300):
        found = estimate_photon_noise(add_poisson_gaussian(clean, 1 / photons, 0.0, seed=2))
        assert found.offset == 0
        assert found.gain == pytest.approx(1 / photons, rel=0.1)


def test_the_curve_belongs_to_the_intensities() -> None:
    """Two flat halves: their means and variances, exactly where they lie."""
    halves = np.repeat([[0.2, 0.8]], 256, axis=0).repeat(128, axis=1)
    noisy = add_poisson_gaussian(halves, 0.02, 0.0, seed=0)
    means, variances, _ = noise_curve(noisy)
    for level in (0.2, 0.8):
        near = np.abs(means - level) < 0.02
        assert near.any()
        assert np.median(variances[near]) == pytest.approx(0.02 * level, rel=0.08)


def test_one_intensity_gives_read_noise() -> None:
    noisy = 0.5 + 0.05 * np.random.default_rng(0).standard_normal((64, 64))
    found = estimate_photon_noise(noisy)
    assert found.gain * 0.5 + found.read_noise**2 == pytest.approx(0.05**2, rel=0.25)
    assert estimate_photon_noise(np.full((32, 32), 0.3)) == (0.0, 0.0, 0.0)
    assert found.offset == 0


def test_a_drawing_has_no_noise() -> None:
    drawing = np.zeros((128, 128))
    drawing[:, 64:] = 0.5
    drawing[:64] += 0.2
    assert estimate_photon_noise(drawing) == (0.0, 0.0, 0.0)
    assert estimate_photon_noise(np.stack([drawing] * 3), channel_axis=0) == (0.0, 0.0, 0.0)
    ramp = np.tile(np.linspace(0, 1, 128), (128, 1))
    assert estimate_photon_noise(ramp) == pytest.approx((0.0, 0.0, 0.0), abs=1e-6)


def test_too_small_is_said() -> None:
    with pytest.raises(ValueError, match="at least 16 x 16"):
        estimate_photon_noise(np.zeros((15, 40)))
