"""What was removed: its autocorrelation against plain sums, and verdicts on residuals of known making."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage import data

import tnrd
from tnrd.degradations import add_poisson_gaussian
from tnrd.noise import add_noise
from tnrd.whiteness import ResidualReport, autocorrelation, judge_residual

SIGMA = 25 / 255


def white(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.fixture(scope="module")
def camera() -> NDArray[np.float64]:
    return np.asarray(data.camera()[100:356, 100:356] / 255)


@pytest.fixture(scope="module")
def noisy(camera: NDArray[np.float64]) -> NDArray[np.float32]:
    return add_noise(camera, SIGMA, seed=25000)


# --- autocorrelation


def plain_autocorrelation(r: NDArray[np.float64], max_lag: int) -> NDArray[np.float64]:
    """Mean products over the pairs that overlap, one lag after the other."""
    r = r - r.mean()
    height, width = r.shape
    rho = np.zeros((2 * max_lag + 1, 2 * max_lag + 1))
    for dy in range(-max_lag, max_lag + 1):
        for dx in range(-max_lag, max_lag + 1):
            if abs(dy) < height and abs(dx) < width:
                here = r[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
                there = r[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
                rho[max_lag + dy, max_lag + dx] = np.mean(here * there) / np.mean(r**2)
    return rho


@given(st.integers(1, 12), st.integers(2, 12), st.integers(0, 14))
@settings(max_examples=40)
def test_it_equals_the_plain_sums(height: int, width: int, max_lag: int) -> None:
    r = white((height, width)) + 3
    found = autocorrelation(r, max_lag)
    np.testing.assert_allclose(found, plain_autocorrelation(r, max_lag), atol=1e-10)
    np.testing.assert_allclose(found, found[::-1, ::-1], atol=1e-12)
    assert found[max_lag, max_lag] == 1


@given(st.floats(0.01, 100), st.floats(-10, 10))
@settings(max_examples=15)
def test_scale_and_mean_do_not_matter(scale: float, mean: float) -> None:
    r = white((17, 23))
    np.testing.assert_allclose(autocorrelation(scale * r + mean), autocorrelation(r), atol=1e-9)


def test_white_noise_stays_within_its_standard_error() -> None:
    z = autocorrelation(white((200, 300)), 8) * np.sqrt(200 * 300)
    z[8, 8] = 0
    assert 0.8 < z.std() < 1.2
    assert np.abs(z).max() < 4.5


def test_a_moving_average_has_its_known_correlation() -> None:
    r = white((400, 401))
    rho = autocorrelation(r[:, 1:] + r[:, :-1], 2)
    np.testing.assert_allclose(rho[2], [0, 0.5, 1, 0.5, 0], atol=0.02)
    np.testing.assert_allclose(rho[[0, 1, 3, 4]], 0, atol=0.02)


def test_channels_are_averaged() -> None:
    r = np.dstack([white((20, 30), seed) for seed in range(3)])
    expected = np.mean([autocorrelation(r[..., c], 3) for c in range(3)], axis=0)
    np.testing.assert_allclose(autocorrelation(r, 3), expected, atol=1e-12)


@pytest.mark.parametrize("r", [np.zeros((9, 7)), np.full((9, 7), 0.1), np.full((1, 1), 5.0)], ids=["0", "0.1", "pixel"])
def test_of_a_constant_only_the_centre_is_known(r: NDArray[np.float64]) -> None:
    expected = np.zeros((5, 5))
    expected[2, 2] = 1
    np.testing.assert_array_equal(autocorrelation(r, 2), expected)


@pytest.mark.parametrize(
    ("residual", "lag", "sentence"),
    [
        (np.zeros(4), 1, r"shape \(M, N\) or \(M, N, C\) with pixels, got \(4,\)"),
        (np.zeros((0, 4)), 1, "with pixels"),
        (np.full((4, 4), np.nan), 1, "residual holds values that are NaN"),
        (np.zeros((4, 4), complex), 1, "must hold real numbers"),
        (np.zeros((4, 4)), -1, "max_lag must be at least 0, got -1"),
    ],
)
def test_bad_residuals_are_refused(residual: Any, lag: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        autocorrelation(residual, lag)


# --- verdicts


def judge(noisy: NDArray[Any], result: NDArray[Any], sigma: float = SIGMA) -> ResidualReport:
    report = judge_residual(noisy, result, sigma)
    assert 0 <= report.structure <= 1
    assert -1 <= report.correlation <= 1
    assert report.expected == sigma
    assert report.level == pytest.approx(np.std(noisy.astype(float) - result, axis=(0, 1)), rel=1e-9, abs=1e-15)
    assert ("looks like plain noise" in report.sentence) == (report.verdict == "white")
    return report


def test_the_very_noise_is_white(camera: NDArray[np.float64], noisy: NDArray[np.float32]) -> None:
    report = judge(noisy, camera)
    assert report.verdict == "white"
    assert report.level == pytest.approx(SIGMA, rel=0.02)
    assert abs(report.correlation) < 0.02
    assert report.structure < 0.05
    assert "25.0 declared" in report.sentence


@pytest.mark.parametrize("level", [15, 25, 50])
def test_what_the_model_removes_is_white(camera: NDArray[np.float64], level: int) -> None:
    sigma = level / 255
    noisy = add_noise(camera, sigma, 1000 * level)
    report = judge(noisy, tnrd.denoise(noisy, sigma, model="gray", device="cpu"), sigma)
    assert report.verdict == "white", report


def test_twice_the_level_removes_structure(noisy: NDArray[np.float32]) -> None:
    report = judge(noisy, tnrd.denoise(noisy, 2 * SIGMA, model="gray", device="cpu"))
    assert report.verdict == "structure", report
    assert "Detail of the picture was removed" in report.sentence


def test_half_the_level_is_a_part(noisy: NDArray[np.float32]) -> None:
    report = judge(noisy, tnrd.denoise(noisy, SIGMA / 2, model="gray", device="cpu"))
    assert report.verdict == "partial", report
    assert f"{255 * report.level:.1f} removed, 25.0 declared" in report.sentence


@pytest.mark.parametrize("width", [1.0, 2.0])
def test_a_blur_removes_structure(noisy: NDArray[np.float32], width: float) -> None:
    assert judge(noisy, gaussian_filter(noisy, width)).verdict == "structure"


def test_structure_grows_with_the_blur(camera: NDArray[np.float64], noisy: NDArray[np.float32]) -> None:
    measured = [judge(noisy, gaussian_filter(camera, width)).structure for width in (0.0, 0.5, 1.0, 2.0)]
    assert measured == sorted(measured)
    assert measured[0] < 0.05 < 0.2 < measured[-1]


@pytest.mark.parametrize("model", ["the noise itself", "gray"])
def test_coloured_noise_is_correlated(camera: NDArray[np.float64], model: str) -> None:
    noise = gaussian_filter(white(camera.shape), 0.7)
    noisy = (camera + SIGMA * noise / noise.std()).astype(np.float32)
    result = camera if model != "gray" else tnrd.denoise(noisy, SIGMA, model=model, device="cpu")
    report = judge(noisy, result)
    assert report.verdict == "correlated"
    assert report.correlation > 0.15
    assert "from pixel to pixel" in report.sentence


def test_fine_grain_alone_is_correlated_too(camera: NDArray[np.float64]) -> None:
    noise = white(camera.shape)
    fine = noise - 1.1 * gaussian_filter(noise, 0.6)
    report = judge(camera + SIGMA * fine / fine.std(), camera)
    assert report.verdict == "correlated"
    assert report.correlation < -0.3
    assert "fine grain" in report.sentence


def test_nothing_was_removed(noisy: NDArray[np.float32]) -> None:
    for result, sigma in ((noisy, SIGMA), (noisy, 0.0), (0.01 * white(noisy.shape) * SIGMA + noisy, SIGMA)):
        assert judge(noisy, result, sigma).verdict == "nothing"
    assert judge(noisy, noisy + 0.5).verdict == "nothing", "a shift of brightness removes no noise"


def test_without_noise_everything_removed_is_structure(camera: NDArray[np.float64]) -> None:
    report = judge(camera, gaussian_filter(camera, 1.0), 0.0)
    assert report.verdict == "structure"
    assert report.structure == 1


@pytest.mark.parametrize("factor", [1.05, 1.3, 3.0])
def test_stronger_noise_than_declared_is_white(
    camera: NDArray[np.float64], noisy: NDArray[np.float32], factor: float
) -> None:
    report = judge(noisy, camera, SIGMA / factor)
    assert report.verdict == "white"
    assert ("stronger than declared" in report.sentence) == (factor > 1.2)


def test_clipped_noise_in_the_dark_is_not_structure(camera: NDArray[np.float64]) -> None:
    clean = camera.copy()
    clean[:, :128] = 0  # a night sky: half of its noise is clipped away, and it is the smoothest part
    clean[:, 128:] = 0.4 + 0.2 * clean[:, 128:]
    clipped = np.clip(add_noise(clean, SIGMA, 0), 0, 1)
    assert np.var((clipped - clean)[:, :128]) < 0.5 * SIGMA**2
    assert judge(clipped, clean).structure < 0.05


def test_noise_that_grows_with_the_light_is_not_structure(camera: NDArray[np.float64]) -> None:
    """Busy areas of this picture are its bright ones: across all brightnesses their noise is the stronger."""
    y, x = np.indices(camera.shape)
    clean = 0.1 + 0.4 * (x > 127) * (1 + 0.5 * np.sin(x * y / 200))
    noisy = add_poisson_gaussian(clean, 0.02, 0.02, seed=0)
    assert judge(noisy, clean, float(np.std(noisy - clean))).verdict == "white"
    lost = clean - gaussian_filter(clean, 2.0)
    assert judge(noisy, clean - lost, float(np.std(noisy - clean))).verdict == "structure"


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("size", [(8, 8), (24, 24), (40, 64)], ids=str)
def test_small_pictures_are_not_judged_by_chance(size: tuple[int, int], seed: int) -> None:
    y, x = np.indices(size)
    clean = 0.5 + 0.1 * np.sin(x * y / 20)
    assert judge(clean + SIGMA * white(size, seed), clean).verdict == "white"


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 4), (8, 7)], ids=str)
def test_any_size_is_judged(size: tuple[int, int]) -> None:
    report = judge_residual(SIGMA * white(size), np.zeros(size), SIGMA)
    assert report.structure == 0
    assert report.verdict in ("white", "partial", "nothing")


def test_colour_and_grey_agree(camera: NDArray[np.float64], noisy: NDArray[np.float32]) -> None:
    blurred = gaussian_filter(noisy, 1.0)
    grey = judge(noisy, blurred)
    colour = judge_residual(np.dstack([noisy] * 3), np.dstack([blurred] * 3), SIGMA)
    for name in ("level", "correlation", "structure"):
        assert getattr(colour, name) == pytest.approx(getattr(grey, name), rel=1e-6)
    assert colour.verdict == grey.verdict


@pytest.mark.parametrize("change", ["mirror", "transpose", "shift"])
def test_pose_and_brightness_do_not_matter(noisy: NDArray[np.float32], change: str) -> None:
    changes = {"mirror": lambda a: a[::-1], "transpose": lambda a: a.T, "shift": lambda a: a + 2.0}
    result = gaussian_filter(noisy.astype(float), 1.0)
    before, after = judge(noisy, result), judge(changes[change](noisy.astype(float)), changes[change](result))
    for field in ("level", "correlation", "structure"):
        assert getattr(after, field) == pytest.approx(getattr(before, field), rel=1e-6)


def test_a_report_is_fixed(camera: NDArray[np.float64], noisy: NDArray[np.float32]) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        judge(noisy, camera).verdict = "white"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("noisy_shape", "result_shape", "sigma", "sentence"),
    [
        ((4, 4), (4, 5), 0.1, r"one shape, got \(4, 4\) and \(4, 5\)"),
        ((4,), (4,), 0.1, "noisy picture must have the shape"),
        ((4, 4), (0, 4), 0.1, "result must have the shape"),
        ((4, 4), (4, 4), -1.0, "at least 0, got -1.0"),
        ((4, 4), (4, 4), np.nan, "at least 0, got nan"),
    ],
)
def test_bad_arguments_are_refused(noisy_shape: Any, result_shape: Any, sigma: float, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        judge_residual(np.zeros(noisy_shape), np.zeros(result_shape), sigma)
