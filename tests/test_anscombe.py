"""The generalised Anscombe transform and its unbiased inverse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tnrd.anscombe import mean_of_transform, stabilise, stabilised_range, unstabilise
from tnrd.degradations import add_poisson_gaussian

NOISES = [(1 / 5, 0.0), (1 / 20, 0.05), (1 / 80, 2 / 80), (1 / 1000, 0.01)]


@pytest.mark.parametrize(("gain", "read_noise"), NOISES)
@pytest.mark.parametrize("level", [0.02, 0.1, 0.5, 1.0])
def test_the_inverse_of_the_mean_is_the_intensity(gain: float, read_noise: float, level: float) -> None:
    """The claim itself: E[D] maps back to u, by sampling."""
    noisy = add_poisson_gaussian(np.full((1500, 1000), level), gain, read_noise, seed=1)
    transformed = stabilise(noisy, gain, read_noise)
    error = transformed.std() / math.sqrt(transformed.size)
    found = unstabilise(np.array([transformed.mean() - 4 * error, transformed.mean() + 4 * error]), gain, read_noise)
    assert found[0] - 1e-6 <= level <= found[1] + 1e-6


@pytest.mark.parametrize(("gain", "read_noise"), NOISES)
def test_the_noise_becomes_one(gain: float, read_noise: float) -> None:
    level = max(0.5, 8 * gain)
    noisy = add_poisson_gaussian(np.full((400, 400), level), gain, read_noise, seed=0)
    assert stabilise(noisy, gain, read_noise).std() == pytest.approx(1.0, abs=0.04)


def test_squaring_back_is_biased_and_this_is_not() -> None:
    """At one photon the algebraic inverse is wrong by a fifth of a photon."""
    mean = mean_of_transform(np.array([1.0]), 0.0)
    assert (mean[0] / 2) ** 2 - 0.375 == pytest.approx(1.0, abs=0.3)
    assert abs((mean[0] / 2) ** 2 - 0.375 - 1.0) > 0.15
    assert unstabilise(mean, 1.0, 0.0)[0] == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("relative", [0.0, 1.0, 3.0])
def test_table_and_closed_form_meet(relative: float) -> None:
    photons = np.array([150.0, 199.0, 201.0, 400.0, 3000.0])
    found = unstabilise(mean_of_transform(photons, relative), 1.0, relative)
    np.testing.assert_allclose(found, photons, rtol=1e-4)


@pytest.mark.parametrize("relative", [0.0, 2.0, 20.0])
def test_the_range_of_many_photons_is_that_of_the_sum(relative: float) -> None:
    for photons in (150.0, 201.0, 5000.0):
        exact = mean_of_transform(np.array([0.0, photons]), relative)
        np.testing.assert_allclose(stabilised_range(1.0, relative, photons), exact, atol=4e-5)
    assert stabilised_range(1e-9, 0.0)[1] == pytest.approx(2e9**0.5 * 2**0.5)


def test_it_rises_and_nothing_is_darker_than_black() -> None:
    values = np.linspace(-3, 60, 2000)
    found = unstabilise(values, 0.1, 0.2)
    assert (np.diff(found) >= 0).all()
    assert found[0] == 0.0
    low, high = stabilised_range(0.1, 0.2)
    np.testing.assert_allclose(unstabilise(np.array([low, high]), 0.1, 0.2), [0, 1], atol=1e-4)


@pytest.mark.parametrize(("gain", "read_noise"), [(0, 0), (-1, 0), (math.nan, 0), (0.1, -1), (0.1, math.inf)])
def test_impossible_noise_is_refused(gain: float, read_noise: float) -> None:
    for transform in (stabilise, unstabilise):
        with pytest.raises(ValueError, match=r"gain|read_noise"):
            transform(np.zeros(3), gain, read_noise)
