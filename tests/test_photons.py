"""Denoising pictures with photon and read noise."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

import tnrd
from tnrd.degradations import add_poisson_gaussian
from tnrd.inference.photons import denoise_photon_noise
from tnrd.inference.stabilisation import enlarged
from tnrd.metrics import psnr
from tnrd.pixels import binned


@pytest.fixture(scope="module")
def clean() -> NDArray[np.float64]:
    return np.asarray(data.camera()[100:292, 120:312] / 255)


@pytest.mark.parametrize(("photons", "electrons"), [(20, 1), (80, 2)])
def test_it_beats_treating_the_noise_as_gaussian(clean: NDArray[np.float64], photons: int, electrons: int) -> None:
    gain, read_noise = 1 / photons, electrons / photons
    noisy = add_poisson_gaussian(clean, gain, read_noise, seed=0)
    level = float(np.sqrt(np.mean(gain * clean) + read_noise**2))
    plain = psnr(clean, tnrd.denoise(noisy, level, model="fast"))
    known = psnr(clean, denoise_photon_noise(noisy, gain, read_noise, model="fast"))
    found = psnr(clean, denoise_photon_noise(noisy, model="fast"))
    assert known > plain + 0.2
    assert found > known - 0.3


@pytest.mark.parametrize(("photons", "gain_in_db"), [(0.5, 0.8), (1.0, 0.8), (2.0, 0.3), (8.0, 0.0)])
def test_pixels_are_added_up_where_light_is_scarce(
    photons: float, gain_in_db: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By no more and no less than serves the picture; there is no read noise."""
    clean = data.camera()[64:320, 64:320] / 255
    noisy = add_poisson_gaussian(clean, 1 / photons, 0.0, seed=1)
    with_sums = psnr(clean, denoise_photon_noise(noisy, 1 / photons))
    monkeypatch.setattr("tnrd.inference.stabilisation._SCARCE", 100.0)
    without = psnr(clean, denoise_photon_noise(noisy, 1 / photons))
    assert with_sums >= without + gain_in_db


def test_few_counts_on_an_offset_are_denoised_as_well_as_on_none(clean: NDArray[np.float64]) -> None:
    """A camera of 16 bits: some hundred counts of 65,535, black at 100 of them."""
    counts = 65535 * add_poisson_gaussian(100 * clean / 65535, 2.2 / 65535, 3.5 / 65535, seed=3)
    known = denoise_photon_noise(counts / 65535, 2.2 / 65535, 3.5 / 65535, model="fast") * 655.35
    found = denoise_photon_noise(np.rint(counts + 100).astype(np.uint16), model="fast") * 655.35 - 1
    assert psnr(clean, known) > 25
    assert psnr(clean, found) > psnr(clean, known) - 0.3


def test_strength_0_gives_the_picture() -> None:
    noisy = np.random.default_rng(0).poisson(5, (20, 30)).astype(np.float32) / 10 - 0.1
    np.testing.assert_array_equal(denoise_photon_noise(noisy, 0.1, 0.1, strength=0), noisy)


def test_in_the_dark_pixels_are_added_up(clean: NDArray[np.float64]) -> None:
    noisy = add_poisson_gaussian(clean, 1 / 4, 2 / 4, seed=0)
    result = denoise_photon_noise(noisy, 1 / 4, 2 / 4, model="fast")
    assert result.shape == clean.shape
    assert psnr(clean, result) > psnr(clean, noisy) + 10
    assert result.mean() == pytest.approx(clean.mean(), abs=0.02)


@pytest.mark.parametrize("level", [0.05, 0.3, 0.9])
def test_the_mean_of_a_flat_picture_stays(level: float) -> None:
    """Without the unbiased inverse, five photons would lose a twentieth of them."""
    noisy = add_poisson_gaussian(np.full((128, 128), level), 1 / 20, 1 / 20, seed=0)
    result = denoise_photon_noise(noisy, 1 / 20, 1 / 20, model="fast")
    assert result.mean() == pytest.approx(level, abs=0.012)


def test_without_photon_noise_it_is_plain_denoising(clean: NDArray[np.float64]) -> None:
    noisy = (clean + 0.05 * np.random.default_rng(0).standard_normal(clean.shape)).astype(np.float32)
    result = denoise_photon_noise(noisy, 1e-9, 0.05, model="fast")
    assert np.array_equal(result, tnrd.denoise(noisy, 0.05, model="fast"))


def test_colour_and_axes(clean: NDArray[np.float64]) -> None:
    colour = np.stack([clean, 0.7 * clean, 0.4 * clean])
    noisy = add_poisson_gaussian(np.moveaxis(colour, 0, -1), 1 / 60, 0.02, seed=0)
    last = denoise_photon_noise(noisy, 1 / 60, 0.02, model="fast", channel_axis=-1)
    first = denoise_photon_noise(np.moveaxis(noisy, -1, 0), 1 / 60, 0.02, model="fast", channel_axis=0)
    np.testing.assert_array_equal(np.moveaxis(first, 0, -1), last)
    assert psnr(np.moveaxis(colour, 0, -1), last) > psnr(np.moveaxis(colour, 0, -1), noisy) + 6


def test_integers_are_scaled(clean: NDArray[np.float64]) -> None:
    noisy = np.clip(add_poisson_gaussian(clean, 1 / 60, 0.02, seed=0), 0, 1)
    steps = np.rint(noisy * 65535).astype(np.uint16)
    np.testing.assert_allclose(
        denoise_photon_noise(steps, 1 / 60, 0.02, model="fast"),
        denoise_photon_noise(noisy, 1 / 60, 0.02, model="fast"),
        atol=2e-3,
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [((0.0, 0.1), "gain"), ((0.1, -1.0), "read_noise"), ((None, 0.1), "without the gain")],
)
def test_what_makes_no_sense_is_said(arguments: tuple[float | None, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        denoise_photon_noise(np.zeros((20, 20)), *arguments)


@pytest.mark.parametrize("shape", [(6, 8), (7, 9), (7, 9, 3)])
def test_adding_up_keeps_light_and_enlarging_the_size(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    small = binned(image)
    assert small.shape[:2] == (-(-shape[0] // 2), -(-shape[1] // 2))
    np.testing.assert_allclose(small[0, 0], image[:2, :2].mean(axis=(0, 1)), rtol=1e-6)
    assert enlarged(small, shape).shape == shape
