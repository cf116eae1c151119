"""WNNM: block matching and shrinkage against plain references, invariances, noise, the published score."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tnrd.baselines.block_matching import grid, least_candidates, match_patches
from tnrd.baselines.wnnm import RADIUS, STEP, WEIGHT, estimate, setting_for, wnnm
from tnrd.noise import add_noise
from tnrd.training.data import load_images
from tnrd.training.validation import score

SIGMA = 25 / 255


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def scene(rows: int = 48, columns: int = 60) -> NDArray[np.float64]:
    """Stripes beside a ramp with a disc in it."""
    y, x = np.mgrid[0:rows, 0:columns]
    picture = np.where(x < columns // 2, 0.5 + 0.3 * np.sign(np.sin(0.9 * x + 0.5 * y)), 0.2 + 0.5 * y / rows)
    picture[(y - rows // 2) ** 2 + (x - 3 * columns // 4) ** 2 < (rows // 5) ** 2] = 0.9
    return picture


def random_planes(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def distances(u: NDArray[np.float32], size: int, y: int, x: int) -> NDArray[np.float64]:
    patches = sliding_window_view(u.astype(np.float64), (size, size), axis=(1, 2))
    return np.sum((patches - patches[:, y : y + 1, x : x + 1]) ** 2, axis=(0, 3, 4))


@pytest.mark.parametrize(("channels", "size", "radius"), [(1, 6, 30), (1, 7, 9), (3, 5, 4), (1, 1, 2)])
def test_matching_finds_the_nearest_patches(channels: int, size: int, radius: int) -> None:
    u = random_planes(channels, 29, 83)
    rows, columns = grid(29, size, 5), grid(83, size, 3)
    count = min(20, least_candidates((29, 83), size, radius))
    found = match_patches(u, size, rows, columns, radius, count)
    for (r, y), (c, x) in itertools.product(enumerate(rows), enumerate(columns)):
        distance = distances(u, size, y, x)
        row, column = np.indices(distance.shape)
        distance[(abs(row - y) > radius) | (abs(column - x) > radius)] = np.inf
        nearest = np.argsort(distance, axis=None)[:count]
        assert set(row.ravel()[nearest] * 83 + column.ravel()[nearest]) == set(found[r, c])


def test_among_equal_patches_the_reference_and_then_the_earliest_are_taken() -> None:
    rows = columns = np.array([0, 8, 20])
    found = match_patches(np.full((1, 24, 24), 0.3, np.float32), 4, rows, columns, 8, 5)
    for (r, y), (c, x) in itertools.product(enumerate(rows), enumerate(columns)):
        top, left = max(y - 8, 0), max(x - 8, 0)
        expected = [24 * y + x, *(24 * top + left + k for k in range(5))]
        assert sorted(found[r, c]) == sorted(list(dict.fromkeys(expected))[:5])


def test_references_reach_the_last_pixel() -> None:
    assert grid(20, 7, 3).tolist() == [0, 3, 6, 9, 12, 13]
    assert grid(7, 7, 3).tolist() == [0]


def shrunk_by_reweighting(X: NDArray[np.float64], variance: float) -> NDArray[np.float64]:
    """Weights from the last singular values, again and again: what the closed form is the limit of."""
    left, s, right = np.linalg.svd(X, full_matrices=False)
    z = s.copy()
    for _ in range(5000):
        z = np.maximum(s - WEIGHT * math.sqrt(X.shape[1]) * variance / (z + 1e-16), 0)
    return (left * z) @ right


def estimate_plainly(
    y: NDArray[Any], f: NDArray[Any], places: NDArray[np.int32], owners: NDArray[np.int64], size: int, sigma: float,
    strength: float,
) -> NDArray[np.float64]:  # fmt: skip
    def cut(picture: NDArray[Any], place: int) -> NDArray[Any]:
        row, column = divmod(int(place), picture.shape[1])
        return picture[row : row + size, column : column + size]

    total, weight = np.zeros(y.shape), np.zeros(y.shape)
    for group, owner in zip(places, owners, strict=True):
        X = np.stack([cut(y, place).astype(np.float64).ravel() for place in group], axis=1)
        mean = X.mean(axis=1, keepdims=True)
        left = abs(sigma**2 - np.mean((cut(f, owner) - cut(y, owner)) ** 2))
        Z = mean + shrunk_by_reweighting(X - mean, strength**2 * left if strength else sigma**2)
        for place, patch in zip(group, Z.T, strict=True):
            cut(total, place)[...] += patch.reshape(size, size)
            cut(weight, place)[...] += 1
    return total / weight


@pytest.mark.parametrize("count", [1, 2, 11, 30])
@pytest.mark.parametrize("strength", [0.0, 0.56])
def test_a_step_is_that_of_the_singular_value_decomposition(count: int, strength: float) -> None:
    f = add_noise(scene(23, 37), 0.1, seed=1)
    y = (0.6 * scene(23, 37) + 0.4 * f).astype(np.float32)  # 5 x 5 pixels: groups smaller and larger than patches
    rows, columns = grid(23, 5, STEP), grid(37, 5, STEP)
    places = match_patches(y[np.newaxis], 5, rows, columns, RADIUS, count)
    result = estimate(y, f, places, rows, columns, 5, 0.1, strength, lambda: None)
    owners = (rows[:, np.newaxis] * 37 + columns).ravel()
    expected = estimate_plainly(y, f, places.reshape(-1, count), owners, 5, 0.1, strength)
    assert count == 1 or np.abs(expected - y).max() > 0.02
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("size", [6, 9])
def test_groups_of_low_rank_pass_where_the_noise_is_weak(size: int) -> None:
    y = np.outer(np.linspace(0, 1, 40), np.linspace(1, 0.2, 44)).astype(np.float32)
    rows, columns = grid(40, size, STEP), grid(44, size, STEP)
    places = match_patches(y[np.newaxis], size, rows, columns, RADIUS, 120)
    result = estimate(y, y, places, rows, columns, size, 1e-6, 0.0, lambda: None)
    np.testing.assert_allclose(result, y, atol=1e-5)


def test_a_group_without_any_signal_becomes_its_mean() -> None:
    y = random_planes(1, 20, 20)[0]
    rows = columns = np.array([0, 10])
    places = np.arange(15, dtype=np.int32).reshape(1, 1, 15) + np.zeros((2, 2, 1), np.int32)
    pixels = sliding_window_view(y, (5, 5))[0, :15].mean(axis=0)
    with np.errstate(invalid="ignore"):  # pixels outside all patches are 0 / 0
        result = estimate(y, y, places, rows, columns, 5, 100.0, 0.0, lambda: None)
    assert result[0, 0] == pytest.approx(pixels[0, 0], abs=1e-6)


@pytest.mark.usefixtures("threads")
def test_the_number_of_threads_does_not_matter() -> None:
    noisy = add_noise(scene(), SIGMA, seed=2)
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        results.append(wnnm(noisy, SIGMA))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("sigma", [10, 25, 50, 90])
def test_noise_goes_from_repeating_and_plain_parts(sigma: int) -> None:
    clean = scene()
    noisy = add_noise(clean, sigma / 255, seed=sigma)
    result = wnnm(noisy, sigma / 255)
    assert np.mean((result - clean) ** 2) < 0.15 * np.mean((noisy - clean) ** 2)


def test_transposing_and_brightening_change_nothing_else() -> None:
    noisy = add_noise(scene(45, 45), SIGMA, seed=3)
    result = wnnm(noisy, SIGMA)
    # Rounding decides between nearly equally distant patches.
    np.testing.assert_allclose(wnnm(noisy.T.copy(), SIGMA).T, result, atol=5e-3)
    np.testing.assert_allclose(wnnm(noisy + 0.25, SIGMA) - 0.25, result, atol=5e-3)


def test_three_noisy_channels_tell_more_than_one() -> None:
    clean = scene()
    noisy = add_noise(np.stack([clean] * 3, axis=-1), SIGMA, seed=4)
    grey, colour = wnnm(noisy[..., 0], SIGMA), wnnm(noisy, SIGMA, channel_axis=-1)
    assert np.mean((colour - clean[..., np.newaxis]) ** 2) < 0.6 * np.mean((grey - clean) ** 2)
    assert np.ptp(colour, axis=-1).mean() < 0.25 * np.ptp(noisy, axis=-1).mean()


@pytest.mark.parametrize(("level", "size"), [(1, 6), (20, 6), (20.1, 7), (40, 7), (41, 8), (60, 8), (61, 9), (255, 9)])
def test_patches_grow_with_the_noise(level: float, size: int) -> None:
    assert setting_for(level / 255).size == size


@pytest.mark.data
@pytest.mark.slow
def test_the_published_score_of_a_picture(data_folder: Path) -> None:
    clean = load_images(data_folder / "set12")[1] / 255  # house
    assert score(wnnm, clean, 25, 1).psnr == pytest.approx(33.22, abs=0.15)  # as published
