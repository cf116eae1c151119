"""What every baseline keeps to: one signature, one array contract, progress and cancelling."""

from __future__ import annotations

import inspect
import itertools
import subprocess
import sys
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tnrd.baselines import BASELINES, SPEEDS
from tnrd.noise import add_noise

SIGMA = 0.1
CONSTANT_ERROR = 1e-4  # largest change of a constant picture, intensities in [0, 1]; a step of 8 bits is 3.9e-3


@pytest.fixture(params=list(BASELINES))
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "bm3d":
        pytest.importorskip("bm3d", reason="the non-commercial bm3d package is not installed")
    return str(request.param)


def smooth(channel_axis: int | None = None) -> NDArray[np.float64]:
    y, x = np.mgrid[0:40, 0:56]
    grey = 0.5 + 0.3 * np.sin(x / 7) * np.cos(y / 9)
    return grey if channel_axis is None else np.stack([grey, grey**2, 1 - grey], axis=channel_axis)


def denoise(name: str, image: Any, sigma: float = SIGMA, **options: Any) -> NDArray[np.float32]:
    return BASELINES[name].denoise(image, sigma, **options)


def test_all_have_one_signature(name: str) -> None:
    module, function = BASELINES[name].home
    parameters = inspect.signature(getattr(import_module(f"tnrd.baselines.{module}"), function)).parameters
    assert list(parameters)[:2] == ["image", "sigma"]
    keywords = {key for key, value in parameters.items() if value.kind is inspect.Parameter.KEYWORD_ONLY}
    assert keywords >= {"channel_axis", "progress"}
    own = [value for key, value in parameters.items() if key not in ("image", "sigma", "channel_axis", "progress")]
    assert all(value.default is not inspect.Parameter.empty for value in own)


def test_all_are_described(name: str) -> None:
    baseline = BASELINES[name]
    assert baseline.description.endswith(".") and "\n" not in baseline.description
    assert baseline.licence and baseline.speed in SPEEDS


def test_listing_them_imports_nothing_heavy() -> None:
    code = "import sys, tnrd.baselines; sys.exit(', '.join({'torch', 'numpy', 'skimage'} & set(sys.modules)) or 0)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("axis", [None, -1, 0])
def test_noise_goes_and_shape_stays(name: str, axis: int | None) -> None:
    clean = smooth(axis)
    noisy = add_noise(clean, SIGMA, seed=1)
    kept = noisy.copy()
    result = denoise(name, noisy, channel_axis=axis)
    assert result.shape == clean.shape and result.dtype == np.float32
    assert np.mean((result - clean) ** 2) < 0.5 * np.mean((noisy - clean) ** 2)
    np.testing.assert_array_equal(noisy, kept)


def test_the_same_input_gives_the_same_bytes(name: str) -> None:
    noisy = add_noise(smooth()[:24, :32], SIGMA, seed=2)
    rounding = 1e-5 if name == "bm3d" else 0  # the threads of that package add up in any order
    np.testing.assert_allclose(denoise(name, noisy), denoise(name, noisy), rtol=0, atol=rounding)


@pytest.mark.parametrize("axis", [None, -1])
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_picture_is_left_alone(name: str, axis: int | None, value: float) -> None:
    image = np.full((24, 32) if axis is None else (24, 32, 3), value, np.float32)
    np.testing.assert_allclose(denoise(name, image, channel_axis=axis), image, atol=CONSTANT_ERROR)


@pytest.mark.parametrize("axis", [None, -1])
def test_without_noise_it_is_the_identity(name: str, axis: int | None) -> None:
    image = add_noise(smooth(axis), SIGMA, seed=3)
    np.testing.assert_array_equal(denoise(name, image, 0.0, channel_axis=axis), image)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (5, 4), (7, 17), (40, 9)])
@pytest.mark.parametrize("axis", [None, -1])
def test_tiny_and_narrow_pictures(name: str, size: tuple[int, int], axis: int | None) -> None:
    clean = np.full(size if axis is None else (*size, 3), 0.5)
    noisy = add_noise(clean, SIGMA, seed=4)
    result = denoise(name, noisy, channel_axis=axis)
    assert result.shape == noisy.shape and np.isfinite(result).all()
    assert np.abs(result - 0.5).mean() <= np.abs(noisy - 0.5).mean() * 1.01


def test_integers_are_scaled(name: str) -> None:
    noisy = np.clip(np.rint(255 * add_noise(smooth()[:24, :32], SIGMA, seed=5)), 0, 255).astype(np.uint8)
    np.testing.assert_allclose(denoise(name, noisy), denoise(name, noisy / 255), atol=2e-3)


def test_one_channel_is_grey(name: str) -> None:
    noisy = add_noise(smooth()[:24, :32], SIGMA, seed=6)
    one = denoise(name, noisy[..., None], channel_axis=-1)
    np.testing.assert_allclose(one[..., 0], denoise(name, noisy), rtol=0, atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(name: str, bad: float) -> None:
    image = np.zeros((16, 16))
    image[3, 5] = bad
    with pytest.raises(ValueError, match=r"must be finite, got 1 values"):
        denoise(name, image)


def test_grey_in_three_channels_stays_grey(name: str) -> None:
    grey = add_noise(smooth(), SIGMA, seed=9)
    result = denoise(name, np.repeat(grey[..., None], 3, axis=-1), channel_axis=-1)
    assert np.isfinite(result).all()
    if name != "srcnn":  # nothing makes a learned network treat the channels alike
        assert np.ptp(result, axis=-1).max() < 0.01


def test_a_picture_of_one_constant_difference_of_channels(name: str) -> None:
    red = add_noise(smooth(), SIGMA, seed=10)
    image = np.stack([red, red + 0.1, red], axis=-1)
    result = denoise(name, image, channel_axis=-1)
    assert np.isfinite(result).all()
    if name != "srcnn":
        np.testing.assert_allclose(result[..., 1] - result[..., 0], 0.1, atol=0.02)


def test_intensities_beyond_reason_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"must lie within 1e\+06, nominally in \[0, 1\], got one of 1e\+07"):
        denoise(name, np.full((16, 16), 1e7))


def test_a_sigma_of_next_to_nothing_changes_next_to_nothing(name: str) -> None:
    image = add_noise(smooth()[:24, :32], SIGMA, seed=11)
    result = denoise(name, image, 1e-200)
    assert np.isfinite(result).all()
    if name != "median":  # which knows no weaker form than one pass of its least window
        eight_bit = 0.5 / 255 if name == "nlm_opencv" else 0.0
        inside = np.clip(image, 0, 1) if name == "nlm_opencv" else image
        np.testing.assert_allclose(result, inside, atol=1e-3 + eight_bit)


@pytest.mark.parametrize("sigma", [-0.1, 1.5, 25.0, np.nan])
def test_an_absurd_sigma_is_refused(name: str, sigma: float) -> None:
    with pytest.raises(ValueError, match=r"sigma must lie in \[0, 1\]"):
        denoise(name, np.zeros((16, 16)), sigma)


def test_a_wrong_shape_is_refused(name: str) -> None:
    for image, axis in itertools.chain([(np.zeros((4, 4, 3)), None), (np.zeros((4, 4)), -1), (np.zeros((0, 4)), None)]):
        with pytest.raises(ValueError, match=r"got \(|shape is"):
            denoise(name, image, channel_axis=axis)


@pytest.mark.parametrize("axis", [None, -1])
def test_progress_rises_to_its_end(name: str, axis: int | None) -> None:
    seen: list[float] = []
    denoise(name, add_noise(smooth(axis), SIGMA, seed=7), channel_axis=axis, progress=lambda d, t: seen.append(d / t))
    assert seen == sorted(seen) and seen[0] > 0 and seen[-1] == 1
    if BASELINES[name].speed == "slow" and name != "bm3d":  # that package cannot tell
        assert len(seen) > 5


def test_an_exception_from_progress_cancels(name: str) -> None:
    class CancelledError(Exception):
        pass

    def cancel(done: int, total: int) -> None:
        raise CancelledError

    with pytest.raises(CancelledError):
        denoise(name, add_noise(smooth(), SIGMA, seed=8), progress=cancel)
