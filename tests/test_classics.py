"""The fast classic denoisers: each against its formula, and what holds for it whatever the picture."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tnrd.baselines import BASELINES, heat, median, non_local_means_opencv, wavelet
from tnrd.baselines.bilateral import bilateral, blur_among_alike
from tnrd.baselines.guided import fit_to_guide
from tnrd.baselines.heat import diffuse_linearly
from tnrd.baselines.non_local_means import mean_of_alike
from tnrd.baselines.opponents import LUMINANCE_NOISE, by_plane, from_planes, to_planes
from tnrd.baselines.perona_malik import EdgeStopping, diffuse
from tnrd.baselines.rules import PowerLaw, PowerLaws, nearest
from tnrd.baselines.total_variation import least_variation
from tnrd.baselines.wiener import shrink_to_mean

CLASSICS = ("heat", "tv", "nlm", "nlm_opencv", "wavelet", "bilateral", "median", "guided", "wiener")
every_classic = pytest.mark.parametrize("name", CLASSICS)
Image = NDArray[np.float32]


def silent(done: int, total: int) -> None:
    pass


def noise(*shape: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def windows(u: Image, radius: int) -> NDArray[np.float64]:
    """(M, N, side^2): the square around each pixel, mirrored boundary."""
    padded = np.pad(u.astype(np.float64), radius, mode="symmetric")
    seen = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1, 2 * radius + 1))
    return seen.reshape(*u.shape, -1)


# -- rules and planes ------------------------------------------------------------------------------------------------


def test_a_power_law_passes_through_its_value_at_25() -> None:
    law = PowerLaw(0.3, 1.5)
    assert law(25 / 255) == pytest.approx(0.3)
    assert law(50 / 255) / law(25 / 255) == pytest.approx(2**1.5)
    assert 0 < law(1e-30) < 1e-6


def test_power_laws_pass_through_their_points_and_go_on() -> None:
    laws = PowerLaws((5, 10, 40), (1.0, 2.0, 32.0))
    assert [laws(s / 255) for s in (5, 10, 20, 40)] == pytest.approx([1, 2, 8, 32])
    assert [laws(s / 255) for s in (2.5, 80)] == pytest.approx([0.5, 128])
    assert 0 < laws(1e-30) < 1e-5


@pytest.mark.parametrize(
    ("level", "expected"), [(1e-30, "a"), (10, "a"), (125**0.5, "a"), (11.3, "b"), (25, "b"), (200, "b")]
)
def test_the_nearest_level_is_that_of_the_smallest_ratio(level: float, expected: str) -> None:
    assert nearest({5: "a", 25: "b"}, level / 255) == expected


def test_planes_keep_white_noise_and_come_back() -> None:
    u = noise(64, 64, 3)
    planes = to_planes(u)
    np.testing.assert_allclose(from_planes(planes), u, atol=1e-6)
    ratio = planes.std(axis=(1, 2)) / u.std(axis=(0, 1)).mean()
    np.testing.assert_allclose(ratio, [LUMINANCE_NOISE, 1, 1], rtol=0.05)
    np.testing.assert_allclose(planes[0], u.mean(-1), atol=1e-6)


def test_each_plane_gets_its_method_and_its_level() -> None:
    seen: list[tuple[str, float, float]] = []
    told: list[float] = []

    def method(name: str) -> Callable[..., Image]:
        def run(u: Image, sigma: float, progress: Callable[[int, int], None]) -> Image:
            seen.append((name, sigma, float(u.max())))
            progress(1, 2)
            progress(2, 2)
            return u

        return run

    u = np.zeros((2, 2, 3), np.float32)
    u[0, 0] = 1, 0, 0
    result = by_plane(u, 0.3, lambda d, t: told.append(d / t), method("grey"), method("chrominance"))
    np.testing.assert_allclose(result, u, atol=1e-6)
    chrominances = [("chrominance", 0.3, 1 / np.sqrt(2)), ("chrominance", 0.3, 1 / np.sqrt(6))]
    for got, expected in zip(seen, [("grey", 0.3 / np.sqrt(3), 1 / 3), *chrominances], strict=True):
        assert got[0] == expected[0]
        assert got[1:] == pytest.approx(expected[1:], rel=1e-5)
    np.testing.assert_allclose(told, np.arange(1, 7) / 6)


@every_classic
def test_grey_in_colour_stays_grey(name: str) -> None:
    grey = noise(24, 20)
    result = BASELINES[name].denoise(np.repeat(grey[..., None], 3, -1), 0.1, channel_axis=-1)
    assert np.ptp(result, axis=-1).max() < 0.01
    expected = BASELINES[name].denoise(grey, 0.1 * LUMINANCE_NOISE)
    np.testing.assert_allclose(result[..., 0], expected, atol=0.01)


@every_classic
def test_transposing_the_picture_transposes_the_result(name: str) -> None:
    u = noise(40, 33, seed=1)
    a, b = BASELINES[name].denoise(u, 0.15), BASELINES[name].denoise(u.T, 0.15)
    np.testing.assert_allclose(a, b.T, atol=0.01 if name == "nlm_opencv" else 2e-4)


@every_classic
def test_brighter_in_brighter_out(name: str) -> None:
    u = 0.2 + 0.4 * noise(32, 40, seed=2)
    shifted = BASELINES[name].denoise(u + 0.25, 0.1) - 0.25
    np.testing.assert_allclose(shifted, BASELINES[name].denoise(u, 0.1), atol=0.01 if name == "nlm_opencv" else 2e-4)


@every_classic
@pytest.mark.parametrize("sigma", [1e-30, 1e-6, 1.0])
def test_extreme_levels_and_values_outside_the_unit_range(name: str, sigma: float) -> None:
    u = 6 * noise(20, 30, seed=3) - 3
    result = BASELINES[name].denoise(u, sigma)
    assert np.isfinite(result).all()
    # OpenCV's median has no weaker setting than its smallest window, its means are of 8 bits over [0, 1].
    if sigma < 1e-3 and name not in ("median", "nlm_opencv"):
        np.testing.assert_allclose(result, u, atol=1e-3)


# -- the formulas ----------------------------------------------------------------------------------------------------


def test_heat_is_many_small_steps_of_linear_diffusion() -> None:
    u = noise(11, 14)
    steps = diffuse(torch.from_numpy(u.astype(np.float64))[None, None], EdgeStopping(1e6), 1.3, step=1e-3)[0, 0]
    np.testing.assert_allclose(diffuse_linearly(u, 1.3), steps.numpy(), atol=5e-4)


def test_heat_keeps_the_mean_and_never_leaves_the_range() -> None:
    u = noise(9, 17)
    for time in (0.1, 1.0, 100.0):
        result = diffuse_linearly(u, time)
        assert result.mean() == pytest.approx(u.mean(), abs=1e-6)
        assert u.min() - 1e-6 <= result.min() <= result.max() <= u.max() + 1e-6
    np.testing.assert_allclose(result, u.mean(), atol=1e-2)


def test_heat_for_two_times_is_heat_for_their_sum() -> None:
    u = noise(12, 7)
    np.testing.assert_allclose(diffuse_linearly(diffuse_linearly(u, 0.4), 0.9), diffuse_linearly(u, 1.3), atol=1e-6)


def test_heat_is_linear() -> None:
    u, v = noise(16, 16), noise(16, 16, seed=1)
    both = heat.heat(2 * u - v, 0.1)
    np.testing.assert_allclose(both, 2 * heat.heat(u, 0.1) - heat.heat(v, 0.1), atol=1e-5)


def rof(u: Image, f: Image, weight: float) -> float:
    down, right = np.diff(u, axis=0, append=u[-1:]), np.diff(u, axis=1, append=u[:, -1:])
    return float(weight * np.hypot(down, right).sum() + 0.5 * ((u - f) ** 2).sum())


def test_total_variation_is_least_nearby() -> None:
    clean = np.zeros((24, 24), np.float32)
    clean[6:18, 6:18] = 1
    f = clean + 0.2 * (noise(24, 24) - 0.5)
    u = least_variation(f, 0.1, tolerance=1e-9, most_steps=3000)
    least = rof(u, f, 0.1)
    assert least < rof(f, f, 0.1) and least < rof(clean, f, 0.1)
    for seed in range(20):
        assert rof(u + 0.01 * (noise(24, 24, seed=seed) - 0.5), f, 0.1) > least
    assert rof(least_variation(f, 0.1), f, 0.1) < 1.005 * least


def plain_non_local_means(u: Image, sigma: float, patch: int, cut: float, distance: int) -> NDArray[np.float64]:
    offsets = slice(1 - patch // 2, patch // 2 + 1)  # without the first row and column, as scikit-image's fast mode
    margin = distance + patch
    f = np.pad(u.astype(np.float64), margin, mode="reflect")
    out = np.empty(u.shape)
    near = range(-distance, distance + 1)
    for i, j in np.ndindex(*u.shape):
        y, x = i + margin, j + margin
        here = f[y + offsets.start : y + offsets.stop, x + offsets.start : x + offsets.stop]
        total = weights = 0.0
        for p, q in itertools.product(near, near):
            there = f[y + p + offsets.start : y + p + offsets.stop, x + q + offsets.start : x + q + offsets.stop]
            w = np.exp(-max(np.sum((here - there) ** 2 - 2 * sigma**2), 0) / (patch * cut) ** 2)
            total, weights = total + w * f[y + p, x + q], weights + w
        out[i, j] = total / weights
    return out


def test_non_local_means_are_those_of_the_formula() -> None:
    u = noise(12, 10)
    got = mean_of_alike(u, 0.1, 5, 0.2, silent, distance=2)
    expected = plain_non_local_means(u, 0.1, 5, 0.2, distance=2)
    # scikit-image's exponential is a quick one, right to a few hundredths.
    np.testing.assert_allclose(got, expected, atol=1e-2)


@pytest.mark.parametrize("strip", [1, 7, 16, 32])
def test_non_local_means_by_strips_are_those_of_the_whole(strip: int) -> None:
    u = noise(45, 20)
    whole = mean_of_alike(u, 0.1, 5, 0.1, silent, strip=100)
    np.testing.assert_allclose(mean_of_alike(u, 0.1, 5, 0.1, silent, strip=strip), whole, atol=1e-6)


@pytest.mark.parametrize("value", [-3.0, 0.0, 0.3, 0.7123, 1.0, 5.0])
def test_opencv_means_keep_any_flat_picture(value: float) -> None:
    flat = np.full((16, 20), value, np.float32)
    np.testing.assert_allclose(non_local_means_opencv.mean_of_alike(flat, 0.1, 5, 0.1), flat, atol=1e-6)


def test_opencv_means_are_not_biased_at_black() -> None:
    f = 0.1 * np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    assert abs(float(BASELINES["nlm_opencv"].denoise(f, 0.1).mean())) < 0.003
    assert abs(float(np.clip(f, 0, 1).mean())) > 0.03


def test_the_wavelets_of_one_grid_shrink_by_the_formula() -> None:
    u, sigma = noise(128, 128), 0.2
    pywt = pytest.importorskip("pywt")
    base, *details = pywt.wavedecn(u.astype(np.float64), "db2", level=wavelet.LEVELS)
    for level in details:
        for key, c in level.items():
            t = sigma**2 / np.sqrt(max(np.mean(c**2) - sigma**2, np.finfo(float).eps))
            level[key] = np.sign(c) * np.maximum(np.abs(c) - t, 0)
    expected = pywt.waverecn([base, *details], "db2")
    np.testing.assert_allclose(wavelet.shrink_details(u, sigma, silent, "db2", span=1), expected, atol=1e-6)


def test_spinning_helps_wavelets_and_tells_its_progress() -> None:
    clean = np.zeros((64, 64), np.float32)
    clean[:, 29:] = np.linspace(0.2, 0.8, 64)[:, None]
    f = clean + 0.1 * np.random.default_rng(0).standard_normal(clean.shape).astype(np.float32)
    seen: list[int] = []
    spun = wavelet.shrink_details(f, 0.1, lambda done, total: seen.append(done))
    still = wavelet.shrink_details(f, 0.1, silent, span=1)
    assert np.mean((spun - clean) ** 2) < 0.9 * np.mean((still - clean) ** 2)
    assert seen == list(range(1, wavelet.SPAN**2 + 1))


def test_the_bilateral_filter_is_that_of_the_formula() -> None:
    u, reach, tolerance = noise(14, 12), 1.1, 0.2
    radius = 3
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    near = ((x**2 + y**2) <= radius**2) * np.exp(-(x**2 + y**2) / (2 * reach**2))
    f = windows(u, radius)
    w = near.ravel() * np.exp(-((f - u[..., None]) ** 2) / (2 * tolerance**2))
    expected = (w * f).sum(-1) / w.sum(-1)
    np.testing.assert_allclose(blur_among_alike(u, reach, tolerance), expected, atol=1e-3)


def test_the_bilateral_filter_keeps_an_edge_that_heat_blurs() -> None:
    edge = np.zeros((16, 16), np.float32)
    edge[:, 8:] = 1
    assert np.abs(bilateral(edge, 0.05) - edge).max() < 0.01 < np.abs(heat.heat(edge, 0.05) - edge).max()


@pytest.mark.parametrize("side", [3, 5])
def test_the_median_is_numpys(side: int) -> None:
    u = noise(9, 13)
    expected = np.median(windows(u, side // 2), axis=-1)
    np.testing.assert_array_equal(median.take_medians(u, median.Window(side, 1)), expected.astype(np.float32))
    once = median.take_medians(u, median.Window(side, 1))
    np.testing.assert_array_equal(
        median.take_medians(u, median.Window(side, 2)), median.take_medians(once, median.Window(side, 1))
    )


def test_the_median_of_a_cross_is_numpys() -> None:
    u = noise(7, 6)
    expected = np.median(windows(u, 1)[..., median.CROSS.ravel()], axis=-1)
    np.testing.assert_array_equal(median.take_medians(u, median.Window(1, 1)), expected.astype(np.float32))


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("radius", [1, 3])
def test_the_guided_filter_is_that_of_the_formula(own: bool, radius: int) -> None:
    u = noise(10, 13)
    guide = u if own else noise(10, 13, seed=1)
    # Windows of the picture's mirror images, those beyond its border included, as they hold its pixels.
    far = 2 * radius
    seen, p = windows(np.pad(guide, far, mode="symmetric"), radius), windows(np.pad(u, far, mode="symmetric"), radius)
    a = ((seen * p).mean(-1) - seen.mean(-1) * p.mean(-1)) / (seen.var(-1) + 0.02)
    b = p.mean(-1) - a * seen.mean(-1)
    inside = (slice(far, -far), slice(far, -far))
    expected = windows(a, radius).mean(-1)[inside] * guide + windows(b, radius).mean(-1)[inside]
    np.testing.assert_allclose(fit_to_guide(guide, u, radius, 0.02), expected, atol=1e-5)


@pytest.mark.parametrize("radius", [1, 2])
def test_the_wiener_filter_is_that_of_the_formula(radius: int) -> None:
    u, sigma, strength = noise(11, 8), 0.25, 1.3
    mean, variance = windows(u, radius).mean(-1), windows(u, radius).var(-1)
    expected = mean + np.maximum(1 - strength * sigma**2 / variance, 0) * (u - mean)
    assert 0 < np.mean(variance < strength * sigma**2) < 1  # both branches
    np.testing.assert_allclose(shrink_to_mean(u, sigma, radius, strength), expected, atol=1e-5)
