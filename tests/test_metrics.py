"""PSNR and SSIM against closed forms and scikit-image."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tnrd.metrics import psnr, round_to_8bit, ssim

FloatArray = NDArray[np.float64]


def pair(shape: tuple[int, ...] = (24, 31), noise: float = 0.1) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(len(shape))
    clean = rng.random(shape)
    return clean, clean + noise * rng.standard_normal(shape)


@given(difference=st.floats(1e-6, 1), sign=st.sampled_from([-1, 1]))
@settings(max_examples=40)
def test_psnr_of_a_constant_difference(difference: float, sign: int) -> None:
    reference = np.full((3, 4), 0.5)
    assert psnr(reference, reference + sign * difference) == pytest.approx(-20 * math.log10(difference), abs=1e-6)


@pytest.mark.parametrize("shape", [(24, 31), (16, 17, 3), (1, 1), (5,)])
def test_psnr_is_that_of_scikit_image(shape: tuple[int, ...]) -> None:
    clean, noisy = pair(shape)
    assert psnr(clean, noisy) == pytest.approx(peak_signal_noise_ratio(clean, noisy, data_range=1.0))
    assert psnr(clean, noisy) == psnr(noisy, clean)


def test_psnr_of_identical_images_is_infinite() -> None:
    clean, _ = pair()
    assert psnr(clean, clean) == math.inf


def test_psnr_of_float32_images_is_computed_in_float64() -> None:
    clean, noisy = (image.astype(np.float32) for image in pair((200, 200)))
    assert psnr(clean, noisy) == pytest.approx(psnr(clean.astype(np.float64), noisy.astype(np.float64)), rel=1e-13)


@pytest.mark.parametrize("shape", [(24, 31), (16, 17, 3), (11, 11)])
def test_ssim_is_that_of_scikit_image_with_the_constants_of_the_paper(shape: tuple[int, ...]) -> None:
    clean, noisy = pair(shape)
    expected = structural_similarity(
        clean, noisy, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        win_size=11, channel_axis=-1 if len(shape) == 3 else None,
    )  # fmt: skip
    assert ssim(clean, noisy) == pytest.approx(expected)
    assert ssim(clean, clean) == pytest.approx(1)
    assert ssim(clean, noisy) < ssim(clean, (clean + noisy) / 2) < 1


def test_ssim_of_colour_is_the_mean_over_channels() -> None:
    clean, noisy = pair((20, 21, 3))
    channels = [ssim(clean[..., c], noisy[..., c]) for c in range(3)]
    assert ssim(clean, noisy) == pytest.approx(np.mean(channels))


def test_ssim_of_flat_images_has_a_closed_form() -> None:
    a, b, constant = 0.3, 0.6, 0.01**2
    expected = (2 * a * b + constant) / (a * a + b * b + constant)
    assert ssim(np.full((16, 16), a), np.full((16, 16), b)) == pytest.approx(expected)


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_images_of_different_shapes_are_refused(measure: Callable[[FloatArray, FloatArray], float]) -> None:
    with pytest.raises(ValueError, match=r"must have one shape, got \(16, 16\) and \(16, 16, 1\)\."):
        measure(np.zeros((16, 16)), np.zeros((16, 16, 1)))
    with pytest.raises(ValueError, match="empty"):
        measure(np.zeros((0, 16)), np.zeros((0, 16)))


@pytest.mark.parametrize("shape", [(10, 40), (40, 10), (10, 40, 3)])
def test_images_smaller_than_the_window_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"at least 11 pixels a side for its window, got shape \("):
        ssim(np.zeros(shape), np.zeros(shape))


@given(level=st.integers(0, 255), offset=st.floats(-0.49, 0.49))
@settings(max_examples=60)
def test_rounding_goes_to_the_nearest_of_256_levels(level: int, offset: float) -> None:
    value = np.array((level + offset) / 255)
    assert float(round_to_8bit(value)) == pytest.approx(level / 255)
    assert float(round_to_8bit(round_to_8bit(value))) == float(round_to_8bit(value))


def test_rounding_clips_first() -> None:
    rounded = round_to_8bit(np.array([-3.0, -1e-9, 1 + 1e-9, 7.0], dtype=np.float32))
    np.testing.assert_array_equal(rounded, [0, 0, 1, 1])
    assert rounded.dtype == np.float64
