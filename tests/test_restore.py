"""``tnrd.denoise`` and what it rests on: the array contract, noise levels, colour, models and devices."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import tnrd
from tnrd.config import TNRDConfig
from tnrd.inference.determinism import ordered_convolutions
from tnrd.inference.levels import MAX_SIGMA, NoiseLevel, estimate_noise, given_noise
from tnrd.inference.loading import load, resolve_device
from tnrd.inference.restore import DEFAULT_TILE, restore, restore_together, side_of_tiles
from tnrd.model import TNRD
from tnrd.pixels import from_unit, to_unit
from tnrd.weights import find_weights, save_weights

SIGMA = 25 / 255


def random_model(**settings: Any) -> TNRD:
    torch.manual_seed(3)
    model = TNRD(TNRDConfig(**{"stages": 2, "filters": 4, "kernel_size": 3, **settings}))
    return model.requires_grad_(False).eval()


GREY = random_model()
COLOUR = random_model(channels=3, filters=12)


def clean_picture(height: int = 96, width: int = 80) -> NDArray[np.float64]:
    """Smooth shades, an edge and a disc, in [0.1, 0.9]."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    return 0.3 + 0.2 * np.sin(4 * x + 2 * y) + 0.2 * (x > 0.5) + 0.2 * ((x - 0.4) ** 2 + (y - 0.6) ** 2 < 0.05)


def noisy_picture(sigma: float = SIGMA, channels: int | None = None, seed: int = 0) -> NDArray[np.float64]:
    clean = clean_picture()
    if channels is not None:
        clean = np.stack([clean * gain for gain in np.linspace(1, 0.7, channels)], axis=-1)
    return clean + sigma * np.random.default_rng(seed).standard_normal(clean.shape)


def rms(difference: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(difference))))


# --- The result -------------------------------------------------------------------------------------------------------


def test_an_odd_side_keeps_no_noise() -> None:
    """The cell that the last line is in is not filled with the same noise again."""
    rms = []
    for side in (64, 65):
        lines = []
        for seed in range(8):
            noisy = 0.5 + 75 / 255 * np.random.default_rng(seed).standard_normal((side, side)).astype(np.float32)
            clean = tnrd.denoise(noisy, 75 / 255) - 0.5
            lines += [clean[-1], clean[:, -1]]
        rms.append(np.sqrt(np.mean(np.square(lines))))
    assert rms[1] < 1.8 * rms[0]


def test_the_shipped_model_takes_away_most_of_the_noise() -> None:
    denoised = tnrd.denoise(noisy_picture(), SIGMA)
    assert rms(denoised - clean_picture()) < 0.5 * rms(noisy_picture() - clean_picture())


def test_colour_gains_over_channel_by_channel() -> None:
    noisy = noisy_picture(channels=3)
    clean = noisy_picture(sigma=0, channels=3)
    together = tnrd.denoise(noisy, SIGMA, channel_axis=-1)
    apart = np.stack([tnrd.denoise(noisy[..., c], SIGMA) for c in range(3)], axis=-1)
    assert rms(together - clean) < 0.9 * rms(apart - clean)


def test_it_is_the_model_untiled() -> None:
    noisy = noisy_picture().astype(np.float32)
    with torch.no_grad():
        expected = GREY(torch.from_numpy(noisy)[None, None], SIGMA)[0, 0].numpy()
    np.testing.assert_allclose(tnrd.denoise(noisy, SIGMA, model=GREY, tile=32), expected, atol=1e-6)


def test_a_colour_model_takes_the_channels_as_they_are() -> None:
    noisy = noisy_picture(channels=3).astype(np.float32)
    with torch.no_grad():
        expected = COLOUR(torch.from_numpy(noisy).permute(2, 0, 1)[None], SIGMA)[0].permute(1, 2, 0).numpy()
    result = tnrd.denoise(noisy, SIGMA, model=COLOUR, channel_axis=-1, tile=40)
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_a_colour_model_takes_the_mean_power_of_different_levels() -> None:
    noisy = noisy_picture(channels=3)
    sigmas = np.array([0.05, 0.1, 0.15])
    result = tnrd.denoise(noisy, sigmas, model=COLOUR, channel_axis=-1)
    expected = tnrd.denoise(noisy, float(np.sqrt(np.mean(sigmas**2))), model=COLOUR, channel_axis=-1)
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("channels", [None, 3])
def test_the_same_call_gives_the_same_bytes(channels: int | None) -> None:
    noisy = noisy_picture(channels=channels)
    axis = None if channels is None else -1
    first, second = (tnrd.denoise(noisy, channel_axis=axis, tile=48).tobytes() for _ in range(2))
    assert first == second


def test_threads_do_not_disturb_each_other() -> None:
    noisy = noisy_picture()
    expected = tnrd.denoise(noisy, SIGMA, model=GREY, engine="torch")
    results: list[NDArray[np.float32]] = []

    def work() -> None:
        results.append(tnrd.denoise(noisy, SIGMA, model=GREY, engine="torch"))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 4
    for result in results:
        np.testing.assert_array_equal(result, expected)


def test_engines_agree() -> None:
    noisy = noisy_picture()
    torch_result, numba_result = (tnrd.denoise(noisy, SIGMA, engine=engine) for engine in ("torch", "numba"))
    np.testing.assert_allclose(numba_result, torch_result, atol=1e-5)


# --- The array contract -----------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_shape_and_dtype_at_any_size(height: int, width: int, colour: bool) -> None:
    image = np.random.default_rng(0).random((height, width, 3) if colour else (height, width))
    before = image.copy()
    result = tnrd.denoise(image, 0.1, model=GREY, channel_axis=-1 if colour else None)
    assert result.shape == image.shape
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    assert np.isfinite(result).all()
    np.testing.assert_array_equal(image, before)


@given(hnp.arrays(st.sampled_from([np.uint8, np.uint16, np.int16, np.uint32, np.int8, np.bool_]), (3, 5)))
def test_integers_are_scaled_as_scikit_image_does(pixels: NDArray[Any]) -> None:
    np.testing.assert_allclose(to_unit(pixels), skimage.util.img_as_float(pixels), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_stored_value_survives_the_unit_scale(dtype: type[np.unsignedinteger[Any]]) -> None:
    values = np.arange(np.iinfo(dtype).max + 1).astype(dtype)[None]
    np.testing.assert_array_equal(from_unit(to_unit(values), values.dtype), values)


def test_values_are_rounded_and_clipped_to_the_depth() -> None:
    unit = np.array([[-0.5, 0.0, 0.4999 / 255, 0.5001 / 255, 1.0, 7.0]], np.float32)
    np.testing.assert_array_equal(from_unit(unit, np.dtype(np.uint8)), [[0, 0, 0, 1, 255, 255]])
    np.testing.assert_array_equal(from_unit(unit, np.dtype(np.float32)), unit)


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_sigma_is_on_the_unit_scale_whatever_the_dtype(dtype: type[np.unsignedinteger[Any]], top: int) -> None:
    stored = np.clip(np.rint(noisy_picture() * top), 0, top).astype(dtype)
    np.testing.assert_allclose(
        tnrd.denoise(stored, SIGMA, model=GREY), tnrd.denoise(stored / top, SIGMA, model=GREY), atol=1e-6
    )


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_channel_axis_only_names_an_axis(axis: int) -> None:
    noisy = noisy_picture(channels=3)
    expected = tnrd.denoise(noisy, SIGMA, model=GREY, channel_axis=-1)
    moved = tnrd.denoise(np.moveaxis(noisy, -1, axis), SIGMA, model=GREY, channel_axis=axis)
    np.testing.assert_array_equal(np.moveaxis(moved, axis, -1), expected)


def test_one_channel_is_grey() -> None:
    noisy = noisy_picture()
    result = tnrd.denoise(noisy[None], SIGMA, model=GREY, channel_axis=0)
    np.testing.assert_array_equal(result[0], tnrd.denoise(noisy, SIGMA, model=GREY))


def test_strides_and_read_only_arrays_do_not_matter() -> None:
    noisy = noisy_picture()
    strided = np.repeat(np.repeat(noisy, 2, 0), 2, 1)[::2, ::2]
    strided.flags.writeable = False
    noise_map = np.broadcast_to(np.float32(SIGMA), noisy.shape)
    expected = tnrd.denoise(noisy, SIGMA, model=GREY)
    np.testing.assert_array_equal(tnrd.denoise(strided, SIGMA, model=GREY), expected)
    np.testing.assert_allclose(tnrd.denoise(strided, noise_map, model=GREY), expected, atol=1e-6)


def test_nothing_is_clipped() -> None:
    noisy = noisy_picture() + 3.0
    result = tnrd.denoise(noisy, SIGMA, model=GREY)
    assert result.min() > 2.5
    np.testing.assert_allclose(result - 3, tnrd.denoise(noisy - 3, SIGMA, model=GREY), atol=1e-4)


@pytest.mark.parametrize(
    ("image", "axis", "sentence"),
    [
        (np.zeros((0, 5)), None, r"no pixels: its shape is \(0, 5\)"),
        (np.zeros((5, 0, 3)), -1, "no pixels"),
        (np.zeros(7), None, r"shape \(M, N\), got \(7,\)"),
        (np.zeros((4, 4, 3)), None, "name its axis, as channel_axis=-1"),
        (np.zeros((4, 4)), -1, "three axes"),
        (np.zeros((4, 4, 3)), 3, "channel_axis=3"),
        (np.zeros((4, 4, 4)), -1, "1 or 3 channels, got 4 along axis -1; an alpha channel"),
        (np.full((4, 4), np.nan), None, "must be finite, got 16 values"),
        (np.array([[0.0, np.inf]]), None, "must be finite, got 1 value"),
        (np.array([[0.0, 1e300]]), None, "must be finite"),
        (np.zeros((4, 4), complex), None, "real numbers, got an array of complex128"),
        (np.array([["a", "b"]]), None, "real numbers, got an array of <U1"),
    ],
)
def test_unusable_images(image: NDArray[Any], axis: int | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        tnrd.denoise(image, 0.1, model=GREY, channel_axis=axis)


# --- The noise level --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sigma", "sentence"),
    [
        (-0.1, "must lie in .* got -0.1"),
        (25, "must lie in .* got 25"),
        (np.nan, "must lie in .* got nan"),
        (np.inf, "got inf"),
        ([0.1, 0.1], r"one value, .* got the shape \(2,\)"),
        (np.full((3, 3), 0.1), r"got the shape \(3, 3\)"),
        ("strong", "sigma must be a number"),
        (1j, "sigma must be a number"),
    ],
)
def test_unusable_levels(sigma: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        tnrd.denoise(noisy_picture(), sigma, model=GREY)


def test_a_map_is_checked_everywhere() -> None:
    noise_map = np.full(clean_picture().shape, 0.1)
    noise_map[7, 5] = 0.5
    with pytest.raises(ValueError, match=r"got 0.1 to 0.5"):
        tnrd.denoise(noisy_picture(), noise_map, model=GREY)


@pytest.mark.parametrize("channels", [None, 3])
def test_a_constant_map_is_a_level(channels: int | None) -> None:
    noisy = noisy_picture(channels=channels)
    axis = None if channels is None else -1
    constant = np.full(noisy.shape[:2], SIGMA)
    result = tnrd.denoise(noisy, constant, model=GREY, channel_axis=axis, tile=30)
    np.testing.assert_array_equal(result, tnrd.denoise(noisy, SIGMA, model=GREY, channel_axis=axis, tile=30))


def test_equal_levels_per_channel_are_a_level() -> None:
    noisy = noisy_picture(channels=3)
    result = tnrd.denoise(noisy, [SIGMA] * 3, model=GREY, channel_axis=-1)
    np.testing.assert_array_equal(result, tnrd.denoise(noisy, SIGMA, model=GREY, channel_axis=-1))


def test_the_level_is_estimated_when_not_given() -> None:
    noisy = noisy_picture().astype(np.float32)  # as the picture is handed on: float64 may give another last digit
    estimated = tnrd.denoise(noisy)
    np.testing.assert_array_equal(estimated, tnrd.denoise(noisy, tnrd.estimate_sigma(noisy)))
    assert rms(estimated - clean_picture()) < 0.6 * SIGMA


def test_colour_is_estimated_by_channel() -> None:
    noisy = noisy_picture(sigma=0, channels=3)
    noisy += np.array([0.02, 0.05, 0.1]) * np.random.default_rng(1).standard_normal(noisy.shape)
    np.testing.assert_allclose(estimate_noise(noisy).levels, [0.02, 0.05, 0.1], rtol=0.15)


@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0])
def test_planes_divide_the_power_of_noise_that_the_channels_share(shared: float) -> None:
    rng = np.random.default_rng(2)
    clean = np.stack([clean_picture(300, 250)] * 3, axis=-1)
    own, common = rng.standard_normal(clean.shape), rng.standard_normal((*clean.shape[:2], 1))
    noise = estimate_noise(clean + SIGMA * (np.sqrt(1 - shared) * own + np.sqrt(shared) * common))
    assert noise.planes is not None
    # The covariance is SIGMA^2 ((1 - shared) I + shared 1 1^T), whose eigenvectors the planes are.
    expected = SIGMA * np.sqrt([1 + 2 * shared, 1 - shared, 1 - shared])
    np.testing.assert_allclose(noise.planes, expected, atol=0.1 * SIGMA)
    np.testing.assert_allclose(np.linalg.norm(noise.planes), np.linalg.norm(noise.levels), rtol=1e-5)


def test_shared_noise_is_taken_away_as_well() -> None:
    clean = noisy_picture(sigma=0, channels=3)
    rng = np.random.default_rng(2)
    noise = np.sqrt(0.5) * (rng.standard_normal(clean.shape) + rng.standard_normal((*clean.shape[:2], 1)))
    noisy = clean + SIGMA * noise
    assert rms(tnrd.denoise(noisy, channel_axis=-1) - clean) < 0.9 * rms(
        tnrd.denoise(noisy, SIGMA, channel_axis=-1) - clean
    )


def test_other_noise_by_name() -> None:
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(3).standard_normal((96, 80)), 0.7)
    noisy = clean_picture() + SIGMA * noise / noise.std()
    default, covered = tnrd.denoise(noisy), tnrd.denoise(noisy, noise="correlated")
    assert rms(covered - clean_picture()) < 0.7 * rms(default - clean_picture())
    counts = np.random.default_rng(4).poisson(30 * clean_picture()) / 30
    np.testing.assert_array_equal(tnrd.denoise(counts, noise="poisson-gaussian"), tnrd.denoise_photon_noise(counts))
    for options in ({"sigma": 0.1}, {"span": 1.0}):
        with pytest.raises(ValueError, match="are for the noise 'gaussian', got 'correlated'"):
            tnrd.denoise(noisy, noise="correlated", **options)
    with pytest.raises(ValueError, match="noise must be one of gaussian, correlated, poisson-gaussian, got 'pink'"):
        tnrd.denoise(noisy, noise="pink")


def test_rounding_is_no_noise() -> None:
    rounded = np.rint(clean_picture() * 255).astype(np.uint8)
    np.testing.assert_array_equal(estimate_noise(rounded).levels, [0.0])
    np.testing.assert_allclose(tnrd.denoise(rounded), rounded / 255, atol=1e-7)


def test_an_estimate_beyond_the_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"estimated noise level, 32[0-9.]+ on the 8-bit scale, exceeds the 100"):
        tnrd.denoise(255 * noisy_picture(0.5))


def test_integers_have_at_most_the_level_that_the_models_cover() -> None:
    np.testing.assert_array_equal(
        estimate_noise(np.array([[0, 255], [255, 0]], np.uint8)).levels, np.float32(MAX_SIGMA)
    )


def test_given_levels_become_float32_per_channel() -> None:
    grey, colour = np.zeros((4, 5)), np.zeros((4, 5, 3))
    np.testing.assert_array_equal(given_noise(0.1, grey).levels, np.float32([0.1]))
    np.testing.assert_array_equal(given_noise(MAX_SIGMA, colour).levels, np.float32([100 / 255] * 3))
    assert given_noise(0, grey).levels.dtype == np.float32
    assert given_noise(0.1, colour).planes is None


@pytest.mark.parametrize("channels", [None, 3])
def test_no_noise_leaves_the_picture_exactly(channels: int | None) -> None:
    noisy = noisy_picture(channels=channels).astype(np.float32)
    axis = None if channels is None else -1
    np.testing.assert_array_equal(tnrd.denoise(noisy, 0, model=GREY, channel_axis=axis), noisy)


def test_equal_channels_are_denoised_as_the_grey_picture_that_they_are() -> None:
    # Their noise is one and the same: per channel it has the full level, which the luminance transform would miss.
    noisy = noisy_picture()
    result = tnrd.denoise(np.stack([noisy] * 3), SIGMA, channel_axis=0)
    for channel in result:
        np.testing.assert_array_equal(channel, tnrd.denoise(noisy, SIGMA))


# --- Strength, tiles, models, devices ---------------------------------------------------------------------------------


def test_strength_stops_the_diffusion_early() -> None:
    noisy = noisy_picture().astype(np.float32)
    with torch.no_grad():
        start, first, last = (u[0, 0].numpy() for u in GREY.trajectory(torch.from_numpy(noisy)[None, None], SIGMA))
    for strength, expected in ((0.0, start), (0.25, (start + first) / 2), (0.5, first), (1.0, last)):
        result = tnrd.denoise(noisy, SIGMA, model=GREY, strength=strength)
        np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("strength", [-0.1, 1.01, np.nan])
def test_unusable_strength(strength: float) -> None:
    with pytest.raises(ValueError, match=r"strength must lie in \[0, 1\], got"):
        tnrd.denoise(noisy_picture(), SIGMA, model=GREY, strength=strength)


def test_a_tile_below_a_cell_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"tile must be at least 2, .* got 1"):
        tnrd.denoise(noisy_picture(), SIGMA, tile=1)
    assert side_of_tiles(GREY, None) == DEFAULT_TILE["cpu"]


def test_progress_counts_the_tiles() -> None:
    calls: list[tuple[int, int]] = []
    level = NoiseLevel(np.float32([SIGMA]))
    restore(noisy_picture(), GREY, level, tile=40, progress=lambda *counts: calls.append(counts))
    assert calls == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_restoring_to_a_depth_is_the_rounded_float_result(dtype: type[np.unsignedinteger[Any]]) -> None:
    top = np.iinfo(dtype).max
    stored = np.clip(np.rint(noisy_picture(channels=3) * top), 0, top).astype(dtype)
    level = NoiseLevel(np.float32([SIGMA] * 3))
    floats = restore(stored, GREY, level)
    result = restore(stored, GREY, level, dtype=dtype)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, np.clip(np.rint(floats * np.float32(top)), 0, top))


def test_a_model_of_other_channels_is_an_error() -> None:
    with pytest.raises(ValueError, match="The model takes 3 channels, the image has 1"):
        tnrd.denoise(noisy_picture(), SIGMA, model=COLOUR)


def test_weights_by_path_name_and_model_agree(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_weights(path, GREY)
    noisy = noisy_picture()
    expected = tnrd.denoise(noisy, SIGMA, model=GREY)
    np.testing.assert_array_equal(tnrd.denoise(noisy, SIGMA, model=path), expected)
    np.testing.assert_array_equal(tnrd.denoise(noisy, SIGMA, model=str(path)), expected)


def test_weights_that_change_under_their_name_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_weights(path, GREY)
    before = tnrd.denoise(noisy_picture(), SIGMA, model=path)
    save_weights(path, random_model(stages=1))
    assert not np.array_equal(tnrd.denoise(noisy_picture(), SIGMA, model=path), before)


def test_loaded_weights_are_kept() -> None:
    file = find_weights("gray")
    assert load(file, "cpu", "auto") is load(find_weights("gray"), "cpu", "auto")


def test_unknown_weights() -> None:
    with pytest.raises(ValueError, match="No weights 'grey'"):
        tnrd.denoise(noisy_picture(), SIGMA, model="grey")


def test_a_loaded_model_keeps_its_own_engine() -> None:
    model = random_model()
    model.engine = "numba"
    tnrd.denoise(noisy_picture(), SIGMA, model=model, engine="torch")
    assert model.engine == "numba"


def test_a_double_precision_model_computes_in_double() -> None:
    noisy = noisy_picture()
    model = random_model().double()
    result = tnrd.denoise(noisy, SIGMA, model=model)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, tnrd.denoise(noisy, SIGMA, model=GREY), atol=1e-5)
    with pytest.raises(ValueError, match="'numba' computes float32"):
        tnrd.denoise(noisy, SIGMA, model=model, engine="numba")


@pytest.mark.parametrize("model", ["gray", GREY])
def test_unknown_engine(model: str | TNRD) -> None:
    with pytest.raises(ValueError, match="engine must be one of auto, torch, numba, triton, got 'fortran'"):
        tnrd.denoise(noisy_picture(), SIGMA, model=model, engine="fortran")


@pytest.mark.parametrize("device", ["tpu", "cuda:one", "meta", ""])
def test_unknown_device(device: str) -> None:
    with pytest.raises(ValueError, match="device must be one of auto, cpu, cuda, mps, got"):
        tnrd.denoise(noisy_picture(), SIGMA, device=device)


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    for device in ("cuda", "cuda:1", "mps"):
        with pytest.raises(ValueError, match=f"Device '{device}' was asked for, but torch finds none here"):
            resolve_device(device)


def test_auto_takes_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("mps")
    with pytest.raises(ValueError, match="The model lies on cpu, not on 'mps'"):
        tnrd.denoise(noisy_picture(), SIGMA, model=GREY, device="mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")


@pytest.mark.cuda
@pytest.mark.parametrize("channels", [None, 3])
def test_the_gpu_agrees_with_the_cpu_and_with_itself(channels: int | None) -> None:
    noisy = noisy_picture(channels=channels)
    axis = None if channels is None else -1
    cpu, first, second = (tnrd.denoise(noisy, SIGMA, channel_axis=axis, device=d) for d in ("cpu", "cuda", "cuda"))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, cpu, atol=1e-4)


@pytest.mark.parametrize("kind", ["grey", "levels", "map", "colour", "equal channels", "colour model"])
def test_pictures_that_are_restored_together_are_those_of_one_by_one(kind: str) -> None:
    """Levels that differ, none at all, and equal channels among the others; tiles smaller than the picture."""
    rng = np.random.default_rng(5)
    channels = 1 if kind in ("grey", "levels", "map") else 3
    torch.manual_seed(0)
    shape = TNRDConfig(stages=2, filters=4, kernel_size=3, grid=2, channels=3 if kind == "colour model" else 1)
    network = TNRD(shape)
    pictures = [rng.integers(0, 255, (37, 50, channels)[: 2 if channels == 1 else 3], np.uint8) for _ in range(4)]
    if kind == "equal channels":
        pictures[1] = np.repeat(pictures[1][..., :1], 3, axis=2)
    levels = [25 / 255, 10 / 255, 0.0, 50 / 255]
    noises = [given_noise(level, picture) for level, picture in zip(levels, pictures, strict=True)]
    if kind == "map":
        noises[1] = given_noise(np.linspace(0, 0.2, 37 * 50).reshape(37, 50), pictures[1])
    if kind == "colour":
        noises[0] = NoiseLevel(noises[0].levels, noises[0].levels * np.array([1.4, 0.5, 0.6], np.float32))
    steps: list[tuple[int, int]] = []
    together = restore_together(
        pictures, network, noises, tile=24, dtype=np.uint16, progress=lambda done, total: steps.append((done, total))
    )
    for picture, noise, result in zip(pictures, noises, together, strict=True):
        np.testing.assert_array_equal(result, restore(picture, network, noise, tile=24, dtype=np.uint16))
    assert [done for done, _ in steps] == list(range(1, steps[-1][1] + 1))


def test_pictures_of_different_shapes_are_not_restored_together() -> None:
    pictures = [np.zeros((8, 8), np.uint8), np.zeros((8, 9), np.uint8)]
    noises = [given_noise(0.1, picture) for picture in pictures]
    with pytest.raises(ValueError, match=r"one shape, got \[\(8, 8\), \(8, 9\)\]"):
        restore_together(pictures, TNRD(TNRDConfig(stages=1, filters=2, kernel_size=3)), noises)


@pytest.mark.parametrize("newer", [False, True])
def test_convolutions_are_ordered_for_a_while_under_either_of_torch_s_settings(newer: bool) -> None:
    cudnn = torch.backends.cudnn
    if not hasattr(cudnn, "conv"):
        pytest.skip("this torch has the older setting alone")
    precision, rounded = cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
    try:
        if newer:
            cudnn.conv.fp32_precision = "ieee"
        kept = cudnn.conv.fp32_precision
        with ordered_convolutions():
            assert cudnn.deterministic and not cudnn.benchmark
            assert newer or not cudnn.allow_tf32
        assert not cudnn.deterministic
        assert cudnn.conv.fp32_precision == kept
    finally:
        cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = precision, rounded


def test_overlapping_uses_leave_the_settings_of_cudnn_as_they_were() -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.allow_tf32
    first, second = ordered_convolutions(), ordered_convolutions()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert cudnn.deterministic, "the second still needs it"
    second.__exit__(None, None, None)
    assert (cudnn.deterministic, cudnn.allow_tf32) == before
