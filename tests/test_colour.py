"""Luminance and chrominance: orthonormal, invertible, true to the noise level, and better than three grey runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tnrd.colour import PLANE_SCALES, from_planes, opponent_matrix, plane_levels, to_planes

levels = st.floats(0, 0.4, allow_nan=False)


def white_noise(sigma: tuple[float, float, float], side: int = 500) -> torch.Tensor:
    noise = np.random.default_rng(3).standard_normal((3, side, side)) * np.array(sigma)[:, None, None]
    return torch.from_numpy(noise)


def test_the_matrix_is_orthonormal_and_its_first_row_the_luminance() -> None:
    M = opponent_matrix()
    torch.testing.assert_close(M @ M.T, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(M[0], torch.full((3,), 3**-0.5, dtype=torch.float64))


def test_it_is_the_dct_across_the_channels() -> None:
    i = np.arange(3)
    dct = np.cos(np.pi * i[:, None] * (2 * i[None, :] + 1) / 6)
    dct /= np.linalg.norm(dct, axis=1, keepdims=True)
    np.testing.assert_allclose(opponent_matrix().numpy(), dct, atol=1e-15)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 2e-6)])
def test_round_trip(dtype: torch.dtype, tolerance: float) -> None:
    rgb = torch.rand(3, 9, 7, dtype=dtype, generator=torch.Generator().manual_seed(0))
    back = from_planes(to_planes(rgb))
    assert back.dtype == dtype
    torch.testing.assert_close(back, rgb, rtol=0, atol=tolerance)


def test_the_luminance_is_the_mean_and_grey_has_no_chrominance() -> None:
    rgb = torch.rand(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(to_planes(rgb)[0], rgb.mean(0))
    grey = rgb[:1].expand(3, -1, -1)
    torch.testing.assert_close(to_planes(grey)[1:], torch.zeros(2, 4, 5, dtype=torch.float64))


@pytest.mark.parametrize("sigma", [(0.1, 0.1, 0.1), (0.05, 0.1, 0.2), (0.0, 0.3, 0.0)])
def test_noise_has_the_stated_level_in_every_plane(sigma: tuple[float, float, float]) -> None:
    planes = to_planes(white_noise(sigma))
    # 250,000 samples: the standard deviation is known to 0.14 %.
    torch.testing.assert_close(planes.std(dim=(1, 2)), plane_levels(torch.tensor(sigma).double()), rtol=0.01, atol=0)


def test_equal_noise_stays_uncorrelated_and_white() -> None:
    planes = to_planes(white_noise((0.1, 0.1, 0.1)))
    correlation = torch.corrcoef(planes.reshape(3, -1))
    torch.testing.assert_close(correlation, torch.eye(3, dtype=torch.float64), rtol=0, atol=0.01)
    neighbours = (planes[:, :, 1:] * planes[:, :, :-1]).mean((1, 2)) / planes.var((1, 2))
    assert neighbours.abs().max() < 0.01


@given(levels)
def test_equal_levels_are_only_scaled(sigma: float) -> None:
    expected = torch.tensor(PLANE_SCALES, dtype=torch.float64) * sigma
    torch.testing.assert_close(plane_levels(torch.full((3,), sigma, dtype=torch.float64)), expected)


def test_a_map_is_scaled_for_every_plane() -> None:
    noise_map = torch.rand(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    planes = plane_levels(noise_map)
    assert planes.shape == (3, 1, 4, 5)
    for plane, scale in zip(planes, PLANE_SCALES, strict=True):
        torch.testing.assert_close(plane[0], scale * noise_map)


def test_measured_planes_are_only_scaled() -> None:
    measured = torch.tensor([0.3, 0.2, 0.1], dtype=torch.float64)
    expected = torch.tensor(PLANE_SCALES, dtype=torch.float64) * measured
    torch.testing.assert_close(plane_levels(torch.full((3,), 0.5).double(), measured), expected)


def test_another_count_of_levels_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"3 values or be a map .* got the shape \(2,\)"):
        plane_levels(torch.zeros(2))
