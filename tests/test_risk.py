"""Stein's estimate against the true error: exactly what a linear filter has, and near it for the trained model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage import data

import tnrd
from tnrd.noise import add_noise
from tnrd.risk import estimated_psnr, monte_carlo_sure


def mse(result: NDArray[Any], clean: NDArray[Any]) -> float:
    return float(np.mean((result.astype(float) - clean) ** 2))


def blur(f: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(gaussian_filter(f, 1.0, mode="reflect"))


@pytest.fixture(scope="module")
def camera() -> NDArray[np.float64]:
    return np.asarray(data.camera()[100:228, 180:308] / 255)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sigma", [1 / 255, 25 / 255, 0.3])
def test_the_probe_finds_the_trace_of_a_linear_filter(dtype: type, sigma: float) -> None:
    """F(f) = A f has the divergence tr A: here the sum of the blur's central weights, borders included."""
    size = (48, 40)
    noisy = add_noise(np.full(size, 0.5), sigma, 0).astype(dtype)
    trace = 0.0
    for axis in (0, 1):
        matrix = gaussian_filter(np.eye(size[axis]), (1.0, 0), mode="reflect")
        trace = np.trace(matrix) if axis == 0 else trace * np.trace(matrix)
    exact = mse(blur(noisy), noisy) - sigma**2 + 2 * sigma**2 * trace / noisy.size
    estimates = [monte_carlo_sure(blur, noisy, sigma, seed=seed) for seed in range(10)]
    # The Hutchinson estimate of tr A/N has a variance of at most 2 |A|_F^2/N^2.
    spread = 2 * sigma**2 * math.sqrt(2 * 0.08 / noisy.size / len(estimates))
    assert np.mean(estimates) == pytest.approx(exact, abs=4 * spread)


@pytest.mark.parametrize("sigma", [5 / 255, 25 / 255, 50 / 255])
@pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
def test_the_risk_of_a_linear_filter(camera: NDArray[np.float64], sigma: float, width: float) -> None:
    noisy = add_noise(camera, sigma, 1)
    result = np.asarray(gaussian_filter(noisy, width))
    estimate = monte_carlo_sure(lambda f: np.asarray(gaussian_filter(f, width)), noisy, sigma, result)
    # SURE - MSE is a mean over N pixels, mostly of n^2 - sigma^2 and of 2 n (F(f) - u) less its mean.
    spread = math.sqrt((2 * sigma**4 + 4 * sigma**2 * mse(result, camera)) / noisy.size)
    assert estimate == pytest.approx(mse(result, camera), abs=4 * spread)


@pytest.mark.parametrize("level", [15, 25, 50])
def test_the_risk_of_the_trained_model(camera: NDArray[np.float64], level: int) -> None:
    sigma = level / 255

    def restore(f: NDArray[Any]) -> NDArray[Any]:
        return tnrd.denoise(f, sigma, model="fast", device="cpu")

    errors, spreads = [], []
    for seed in range(6):
        noisy = add_noise(camera, sigma, seed)
        result = restore(noisy)
        truth = mse(result, camera)
        errors.append(monte_carlo_sure(restore, noisy, sigma, result, seed) - truth)
        spreads.append(math.sqrt((2 * sigma**4 + 4 * sigma**2 * truth) / noisy.size))
    assert np.all(np.abs(errors) < 4 * np.array(spreads))
    # The noise of a crop this small leaves a PSNR open by up to a dB; the mean over draws comes nearer.
    assert np.mean(errors) == pytest.approx(0, abs=4 * np.mean(spreads) / math.sqrt(len(errors)))


def test_it_ranks_filters_as_the_truth_does(camera: NDArray[np.float64]) -> None:
    """Filters judged on one noisy picture share most of the estimate's error: their order is safer than its value."""
    noisy, widths = add_noise(camera, 25 / 255, 2), (0.3, 0.6, 0.9, 1.5, 3.0)
    truth = [mse(gaussian_filter(noisy, w), camera) for w in widths]
    found = [monte_carlo_sure(lambda f, w=w: np.asarray(gaussian_filter(f, w)), noisy, 25 / 255) for w in widths]
    assert np.argsort(found).tolist() == np.argsort(truth).tolist()


def test_simple_maps_have_simple_risks() -> None:
    noisy = add_noise(np.full((64, 64, 3), 0.4), 0.1, 0).astype(np.float64)
    assert monte_carlo_sure(lambda f: f, noisy, 0.1) == pytest.approx(0.01, abs=1e-12)
    constant = monte_carlo_sure(lambda f: np.full_like(f, 0.4), noisy, 0.1)
    assert constant == pytest.approx(mse(noisy, np.full_like(noisy, 0.4)) - 0.01, abs=1e-12)


def test_a_perfect_result_may_have_a_negative_estimate() -> None:
    noisy = add_noise(np.full((32, 32), 0.4), 0.1, 0)
    found = [
        monte_carlo_sure(lambda f: np.full_like(f, 0.4), add_noise(np.full_like(noisy, 0.4), 0.1, s), 0.1)
        for s in range(8)
    ]
    assert min(found) < 0 < max(found)


def test_a_result_at_hand_saves_a_call() -> None:
    calls = []

    def counted(f: NDArray[Any]) -> NDArray[Any]:
        calls.append(f.dtype)
        return blur(f)

    noisy = add_noise(np.full((16, 16), 0.5), 0.1, 0)
    without = monte_carlo_sure(counted, noisy, 0.1)
    assert calls == [np.float32, np.float32]
    assert monte_carlo_sure(counted, noisy, 0.1, blur(noisy)) == without
    assert len(calls) == 3


def test_without_noise_nothing_is_asked_but_the_result() -> None:
    noisy = add_noise(np.full((16, 16), 0.5), 0.1, 0)

    def fail(f: NDArray[Any]) -> NDArray[Any]:
        raise AssertionError("The denoiser was called.")

    assert monte_carlo_sure(fail, noisy, 0.0, noisy + np.float32(0.5)) == pytest.approx(0.25, rel=1e-6)


def test_errors_name_what_is_wrong() -> None:
    noisy = add_noise(np.full((8, 8), 0.5), 0.1, 0)
    for sigma in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"at least 0, got {sigma}"):
            monte_carlo_sure(blur, noisy, sigma)
    with pytest.raises(ValueError, match="must hold floats, got uint8"):
        monte_carlo_sure(blur, np.zeros((8, 8), np.uint8), 0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must hold floats, got float64 of shape"):
        monte_carlo_sure(blur, np.zeros((0, 8)), 0.1)
    with pytest.raises(ValueError, match=r"the shape of the picture, \(8, 8\), got \(8, 7\)"):
        monte_carlo_sure(lambda f: f[:, 1:], noisy, 0.1)
    with pytest.raises(ValueError, match=r"got \(4, 8\)"):
        monte_carlo_sure(blur, noisy, 0.1, result=noisy[:4])
    with pytest.raises(ValueError, match="not a number"):
        estimated_psnr(np.nan)


def test_psnr_of_an_estimate_ends_at_what_8_bits_can_hold() -> None:
    assert estimated_psnr(0.01) == pytest.approx(20)
    assert estimated_psnr(-0.1) == estimated_psnr(0.0) == pytest.approx(58.92, abs=0.01)
