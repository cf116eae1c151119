"""The span of a picture's intensities, and what a model makes of pictures that span little, or much."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import data

import tnrd
from tnrd.inference.levels import MAX_SIGMA, NoiseLevel, estimate_noise, given_noise, measured_span
from tnrd.metrics import psnr
from tnrd.weights import load_model

SIGMA = 15 / 255
GREY = load_model("gray-fast")
CLEAN = data.camera()[100:300, 150:350].astype(np.float32) / 255
NOISY = CLEAN + SIGMA * np.random.default_rng(0).standard_normal(CLEAN.shape).astype(np.float32)


def score(result: NDArray[Any], scale: float = 1.0) -> float:
    return psnr(CLEAN, np.asarray(result / scale))


# --- The span ---------------------------------------------------------------------------------------------------------


@given(st.floats(0.01, 100), st.floats(-10, 10))
@settings(max_examples=20, deadline=None)
def test_the_span_follows_scale_and_not_offset(scale: float, offset: float) -> None:
    assert measured_span(scale * NOISY + offset) == pytest.approx(scale * measured_span(NOISY), rel=1e-3, abs=1e-5)


def test_noise_and_hot_pixels_hardly_widen_the_span() -> None:
    flat = np.full((256, 256), 0.1, np.float32)
    noise = np.random.default_rng(1).standard_normal(flat.shape)
    assert measured_span(flat) == 0
    assert measured_span(flat + 0.01 * noise) < 0.02
    flat[::50, ::50] = 1
    assert measured_span(flat) < 0.07  # a sixteenth of what they stand out by


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float64])
def test_the_span_is_on_the_unit_scale_of_any_depth(dtype: type) -> None:
    top = 1.0 if dtype is np.float64 else np.iinfo(dtype).max
    ramp = np.tile(np.linspace(0, 0.5 * top, 64).astype(dtype), (64, 1))
    assert measured_span(ramp) == pytest.approx(0.5 * 60 / 63, abs=5e-3)  # means of four columns at the ends


def test_of_colour_the_widest_channel_counts() -> None:
    picture = np.stack([0.1 * CLEAN, CLEAN, 0.3 * CLEAN], axis=-1)
    assert measured_span(picture) == pytest.approx(measured_span(CLEAN))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 2), (5, 5), (2000, 3), (3, 5, 3), (1500, 1100)])
def test_any_size_has_a_span(shape: tuple[int, ...]) -> None:
    assert 0 <= measured_span(np.random.default_rng(2).random(shape).astype(np.float32)) <= 1


# --- Amplification ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sigma", "span", "expected"),
    [
        (25, 1.0, 1.0),
        (25, 0.6, 1.0),
        (25, 1.5, 1.0),
        (5, 0.25, 2.4),
        (1, 0.05, 12.0),
        (25, 0.05, 3.0),  # the noise becomes 75
        (90, 0.05, 1.0),  # it is more than that already
        (0, 0.05, 1.0),
        (5, 0.0, 15.0),
        (25 * 255, 255.0, 1 / 255),
    ],
)
def test_amplification(sigma: float, span: float, expected: float) -> None:
    assert NoiseLevel(np.float32([sigma / 255]), span=span).amplification == pytest.approx(expected)


def test_photographs_are_left_as_they_are() -> None:
    for sigma in (0, 25, 75):
        noisy = CLEAN + sigma / 255 * np.random.default_rng(3).standard_normal(CLEAN.shape)
        assert estimate_noise(noisy).amplification == 1


@pytest.mark.parametrize("scale", [1 / 2, 1 / 16, 1 / 100, 3, 255, 4095])
@pytest.mark.parametrize("known", [True, False])
def test_a_picture_on_another_scale_is_denoised_as_well(scale: float, known: bool) -> None:
    """12 bits in a file of 16 lost 1.7 dB; floats of another scale were refused."""
    sigma = SIGMA * scale if known else None
    result = tnrd.denoise(scale * NOISY, sigma, model=GREY)
    assert score(result, scale) > score(tnrd.denoise(NOISY, SIGMA, model=GREY)) - 0.12


def test_without_it_much_was_lost() -> None:
    weak = NOISY / 16
    lost = score(tnrd.denoise(weak, SIGMA / 16, span=1.0, model=GREY), 1 / 16)
    assert score(tnrd.denoise(weak, SIGMA / 16, model=GREY), 1 / 16) > lost + 1


def test_colour_of_low_contrast_is_amplified_in_either_kind_of_model() -> None:
    clean = data.astronaut()[100:228, 150:278].astype(np.float32) / 255
    noisy = clean + SIGMA * np.random.default_rng(4).standard_normal(clean.shape).astype(np.float32)
    for name in ("color-fast", "gray-fast"):
        model = load_model(name)
        usual = psnr(clean, np.asarray(tnrd.denoise(noisy, SIGMA, model=model, channel_axis=-1)))
        weak = 16 * np.asarray(tnrd.denoise(noisy / 16, SIGMA / 16, model=model, channel_axis=-1))
        assert psnr(clean, weak) > usual - 0.15


def test_a_noise_map_of_a_picture_of_low_contrast() -> None:
    levels = np.tile(np.linspace(5, 25, CLEAN.shape[1]).astype(np.float32) / 255, (CLEAN.shape[0], 1))
    noisy = CLEAN + levels * np.random.default_rng(5).standard_normal(CLEAN.shape).astype(np.float32)
    usual = score(tnrd.denoise(noisy, levels, model=GREY))
    assert score(tnrd.denoise(noisy / 16, levels / 16, model=GREY), 1 / 16) > usual - 0.12


def test_parts_that_share_the_span_are_denoised_as_the_whole() -> None:
    weak, margin = NOISY / 10, GREY.dependence_radius + 2
    span = measured_span(weak)
    whole = tnrd.denoise(weak, SIGMA / 10, model=GREY)
    part = tnrd.denoise(weak[:, : 80 + margin], SIGMA / 10, span=span, model=GREY)
    np.testing.assert_allclose(part[:, :80], whole[:, :80], rtol=0, atol=2e-7)


def test_tiles_are_amplified_alike() -> None:
    weak = np.concatenate([NOISY / 10, np.full_like(NOISY, 0.03)], axis=1)  # a part that is flat
    np.testing.assert_allclose(
        tnrd.denoise(weak, SIGMA / 10, model=GREY, tile=64), tnrd.denoise(weak, SIGMA / 10, model=GREY), atol=2e-7
    )


@pytest.mark.parametrize("span", [0, -1, np.nan, np.inf])
def test_a_span_is_positive(span: float) -> None:
    with pytest.raises(ValueError, match="span, between the brightest and the darkest parts, must be a positive"):
        tnrd.denoise(NOISY, SIGMA, span=span, model=GREY)


def test_beyond_the_unit_scale_sigma_may_be_as_much_more() -> None:
    picture = 255 * NOISY
    assert given_noise(100, picture).levels == np.float32(100)
    with pytest.raises(ValueError, match=r"sigma must lie in \[0, 100/255\]"):
        given_noise(1.1 * MAX_SIGMA * measured_span(picture), picture)
