"""How photon noise is made white: how often pixels are added up, what is white, and how far a result depends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tnrd.config import TNRDConfig
from tnrd.degradations import add_poisson_gaussian
from tnrd.inference.levels import MAX_SIGMA, given_noise
from tnrd.inference.noise_model import NoiseModel
from tnrd.inference.photons import denoise_photon_noise
from tnrd.inference.restore import restore
from tnrd.inference.stabilisation import Stabilisation, binnings, measured_white, reach, stabilisation
from tnrd.model import TNRD
from tnrd.photon_noise import PhotonNoise

SHAPE = (500, 700)


@pytest.fixture(params=[1, 2])
def model(request: pytest.FixtureRequest) -> TNRD:
    torch.manual_seed(3)
    return TNRD(TNRDConfig(stages=1, filters=4, kernel_size=3, grid=request.param))


def test_the_darker_the_more_pixels_are_added_up() -> None:
    counts = [binnings(PhotonNoise(0.25, 2.0), white, SHAPE) for white in (1000, 30, 10, 3, 1, 0.1)]
    assert counts == sorted(counts)
    assert counts[0] == 0 < counts[-1]
    assert binnings(PhotonNoise(0.25, 20.0), 1, SHAPE) == 5  # then the picture is 16 pixels high
    assert binnings(PhotonNoise(0.0, 0.2), 1, SHAPE) == 0


@given(st.floats(1e-6, 1), st.floats(0, 30), st.floats(1e-3, 10), st.integers(1, 300), st.integers(1, 300))
def test_the_level_is_one_that_the_models_take(
    gain: float, read_noise: float, white: float, height: int, width: int
) -> None:
    count = binnings(PhotonNoise(gain, read_noise), white, (height, width))
    made = Stabilisation(PhotonNoise(gain, read_noise), white, count)
    is_small = min(height, width) <= 31 * 2**count
    assert is_small or made.level <= 75 / 255 or gain / 4**count < 1e-6 * white
    assert count == 0 or min(height, width) > 31 * 2 ** (count - 1)


def test_the_measured_white_decides_as_the_picture_does() -> None:
    """White is measured in the pixels as they are added up, and tells alone how often that is."""
    clean = np.tile(np.linspace(0, 1, 128), (128, 1))
    noise = PhotonNoise(1 / 4, 3.0)
    noisy = add_poisson_gaussian(clean, noise.gain, noise.read_noise, seed=0).astype(np.float32)
    made = stabilisation(noisy, noise)
    assert made.binnings == binnings(noise, made.white, noisy.shape) == 3
    assert made.white == measured_white(noisy, noise, noisy.shape)
    assert made.white < np.quantile(noisy, 0.999) / 2


def test_there_and_back() -> None:
    """A smooth picture stays, but for the bias that the inverse corrects."""
    smooth = np.tile(np.linspace(0.3, 0.9, 101, dtype=np.float32), (67, 1))
    for count in range(3):
        made = Stabilisation(PhotonNoise(1e-3, 0.01), 1.0, count)
        there = made.forward(smooth)
        assert there.shape == (-(-67 // 2**count), -(-101 // 2**count))
        np.testing.assert_allclose(made.inverse(there, smooth.shape)[:, 8:-8], smooth[:, 8:-8], atol=2e-3)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_result_depends_exactly_as_far_as_said(model: TNRD, count: int) -> None:
    made, cell = Stabilisation(PhotonNoise(0.05, 0.2), 1.0, count), model.config.grid * 2**count
    plain = np.random.default_rng(0).random((16 * cell, 320)).astype(np.float32)

    def result(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        unit = made.forward(pixels)
        return made.inverse(restore(unit, model, given_noise(0.1, unit, span=1.0)), pixels.shape)

    before, farthest = result(plain), 0
    for column in range(160, 160 + cell):  # all places within a cell
        changed = plain.copy()
        changed[:, column] += 3
        seen = np.flatnonzero((result(changed) != before).any(axis=0))
        farthest = max(farthest, column - seen.min(), seen.max() - column)
    assert farthest == reach(model.dependence_radius, count)


def test_read_noise_alone_that_no_model_covers_is_refused_before_the_work() -> None:
    """A flat frame of counts has no photon noise that could be told from its read noise."""
    counts = np.random.default_rng(5).normal(300, 5, (64, 64)).astype(np.float32)
    with pytest.raises(ValueError, match="exceeds the 100 that the models cover"):
        NoiseModel("poisson-gaussian").of(counts)
    with pytest.raises(ValueError, match=r"A read noise of 150 on the 8-bit scale.* exceeds the 100"):
        NoiseModel("poisson-gaussian", gain=1e-7, read_noise=150 / 255)
    with pytest.raises(ValueError, match="exceeds the 100"):
        denoise_photon_noise(counts, model="fast")
    barely = PhotonNoise(2e-6, 150 / 255)  # added up once, its photon noise counts as none
    assert Stabilisation(barely, 1.0, 1).level == pytest.approx(75 / 255)
    assert Stabilisation(PhotonNoise(2e-6, 1.0), 1.0, 1).level == MAX_SIGMA


def test_absurd_read_noise_is_said() -> None:
    with pytest.raises(ValueError, match=r"A read noise of 100000000000\.0 leaves nothing of a picture"):
        binnings(PhotonNoise(0.1, 1e11), 1.0, (8, 8))
