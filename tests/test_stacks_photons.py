"""Photon noise in stacks: blocks give what whole pictures give, added up or not, and runs are resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import tnrd
from tnrd.config import TNRDConfig
from tnrd.degradations import add_poisson_gaussian
from tnrd.inference.stabilisation import measured_white, stabilisation
from tnrd.model import TNRD
from tnrd.photon_noise import PhotonNoise, estimate_photon_noise
from tnrd.pixels import to_unit
from tnrd.weights import save_weights

for needed in ("distributed", "imagecodecs"):
    pytest.importorskip(needed, reason="needs the extra bigimage")
da = pytest.importorskip("dask.array", reason="needs the extra bigimage")
tifffile = pytest.importorskip("tifffile", reason="needs the extra bigimage")
zarr = pytest.importorskip("zarr", reason="needs the extra bigimage")

from tnrd.inference.stacks.errors import VolumeError  # noqa: E402

PHOTONS = {"noise": "poisson-gaussian"}
# Gain and read noise, and how often pixels are then added up.
BRIGHT, DIM, DARK = (1 / 40, 1 / 40, 0), (1 / 4, 1.0, 1), (1 / 4, 6.0, 2)
# Of single precision; the inverse transform multiplies by up to ten.
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths of small random models, by their kind."""
    folder = tmp_path_factory.mktemp("weights")
    kinds = {"grid1": {"kernel_size": 5}, "grid2": {"grid": 2}, "colour": {"channels": 3, "filters": 12}}
    paths = {}
    for name, changes in kinds.items():
        torch.manual_seed(3)
        model = TNRD(TNRDConfig(**{"stages": 2, "filters": 4, "kernel_size": 3, **changes}))
        save_weights(folder / f"{name}.safetensors", model)
        paths[name] = str(folder / f"{name}.safetensors")
    return paths


def noisy(gain: float, read_noise: float, *shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Planes of waves, the brightest in the middle one."""
    y, x = np.mgrid[: shape[1], : shape[2]] / 15
    planes = [
        (0.5 + 0.4 * np.sin(y + plane) * np.cos(x)) / (1 + abs(plane - shape[0] // 2)) for plane in range(shape[0])
    ]
    clean = np.stack(planes)
    clean = clean[..., None] * np.array([1.0, 0.7, 0.4]) if len(shape) == 4 else clean
    return add_poisson_gaussian(clean, gain, read_noise, seed=seed).astype(np.float32)


def computed(array: Any, *arguments: Any, **options: Any) -> NDArray[Any]:
    lazy = tnrd.denoise_array(array, *arguments, **{**PHOTONS, "min_chunk": 1, **options})
    result: NDArray[Any] = lazy.compute(scheduler="synchronous")
    return result


def each(stack: NDArray[Any], *noise: float, **options: Any) -> NDArray[np.float32]:
    """Every plane of (P, M, N[, 3]) by ``tnrd.denoise_photon_noise``, whole."""
    return np.stack([tnrd.denoise_photon_noise(plane, *noise, **options) for plane in stack])


def white_of(stack: NDArray[Any], gain: float, read_noise: float) -> float:
    """What the plane in the middle says."""
    middle = to_unit(stack[len(stack) // 2])
    return measured_white(middle, PhotonNoise(gain, read_noise), middle.shape)


def test_a_dark_plane_in_the_middle_does_not_decide() -> None:
    clean = np.full((3, 64, 64), 0.8)
    clean[1] = 0.02
    stack = add_poisson_gaussian(clean, 0.01, 0.1, seed=0).astype(np.float32)
    result = computed(stack, gain=0.01, read_noise=0.1)
    alone = tnrd.denoise_photon_noise(stack[0], 0.01, 0.1)
    assert np.std(result[0] - 0.8) == pytest.approx(np.std(alone - 0.8), rel=0.2)


# --- Blocks and wholes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [(2, 30, 50), (1, 101, 36)])
@pytest.mark.parametrize("light", [BRIGHT, DIM, DARK], ids=["bright", "dim", "dark"])
@pytest.mark.parametrize("kind", ["grid1", "grid2"])
def test_blocks_give_the_whole(
    weights: dict[str, str], kind: str, light: tuple[float, float, int], blocks: tuple[int, int, int]
) -> None:
    *noise, binnings = light
    stack = noisy(*noise, 3, 131, 257)
    white = white_of(stack, *noise)
    assert stabilisation(stack[1], PhotonNoise(*noise), white).binnings == binnings
    lazy = da.from_array(stack, chunks=blocks)
    result = tnrd.denoise_array(lazy, gain=noise[0], read_noise=noise[1], model=weights[kind], min_chunk=1, **PHOTONS)
    assert len(result.chunks[2]) > 1
    expected = each(stack, *noise, white=white, model=weights[kind])
    np.testing.assert_allclose(result.compute(scheduler="synchronous"), expected, atol=ROUNDING)


@settings(max_examples=8)
@given(
    light=st.sampled_from([BRIGHT, DIM, DARK]),
    height=st.integers(32, 150),
    width=st.integers(1, 150),
    chunk=st.tuples(st.integers(1, 60), st.integers(1, 60)),
)
def test_any_chunks_of_any_size(
    weights: dict[str, str], light: tuple[float, float, int], height: int, width: int, chunk: tuple[int, int]
) -> None:
    noise = light[:2]
    stack = noisy(*noise, 1, height, width)
    lazy = da.from_array(stack, chunks=(1, *chunk))
    result = computed(lazy, gain=noise[0], read_noise=noise[1], model=weights["grid2"])
    np.testing.assert_allclose(result, each(stack, *noise, model=weights["grid2"]), atol=ROUNDING)


@pytest.mark.parametrize("kind", ["grid2", "colour"])
@pytest.mark.parametrize("light", [BRIGHT, DARK], ids=["bright", "dark"])
def test_colour(weights: dict[str, str], kind: str, light: tuple[float, float, int]) -> None:
    noise = light[:2]
    stack = noisy(*noise, 2, 101, 130, 3)
    stack[0, :60] = stack[0, :60, :, :1]  # equal channels in whole blocks
    white = white_of(stack, *noise)
    lazy = da.from_array(np.moveaxis(stack, -1, 1), chunks=(1, 3, 40, 65))
    result = computed(lazy, gain=noise[0], read_noise=noise[1], model=weights[kind], channel_axis=1)
    expected = each(stack, *noise, white=white, model=weights[kind], channel_axis=-1)
    np.testing.assert_allclose(np.moveaxis(result, 1, -1), expected, atol=ROUNDING)


def test_integers_stay(weights: dict[str, str]) -> None:
    unit = np.clip(noisy(*BRIGHT[:2], 2, 101, 130), 0, 1)
    for dtype in (np.uint8, np.uint16):
        top = np.iinfo(dtype).max
        stack = np.rint(unit * top).astype(dtype)
        result = computed(
            da.from_array(stack, chunks=(1, 50, 130)), gain=BRIGHT[0], read_noise=BRIGHT[1], model=weights["grid2"]
        )
        expected = each(stack, *BRIGHT[:2], white=white_of(stack, *BRIGHT[:2]), model=weights["grid2"])
        assert result.dtype == dtype
        assert np.abs(result.astype(int) - np.rint(np.clip(expected, 0, 1) * top)).max() <= 1


def test_floats_become_single_precision(weights: dict[str, str]) -> None:
    lazy = da.from_array(noisy(*DIM[:2], 1, 64, 64).astype(np.float64))
    assert computed(lazy, gain=0.25, model=weights["grid2"]).dtype == np.float32


# --- Estimates --------------------------------------------------------------------------------------------------------


def test_estimated_once_or_in_each_plane(weights: dict[str, str]) -> None:
    """The last plane is in the dark: its pixels alone are added up, within one set of blocks."""
    stack = noisy(*BRIGHT[:2], 3, 131, 200)
    stack[2] = noisy(*DIM[:2], 1, 131, 200)[0]
    found = [stabilisation(plane, estimate_photon_noise(plane)) for plane in stack]
    assert [made.binnings > 0 for made in found] == [False, False, True]
    lazy = da.from_array(stack, chunks=(2, 40, 50))
    own = each(stack, model=weights["grid2"])
    np.testing.assert_allclose(computed(lazy, "per-plane", model=weights["grid2"]), own, atol=ROUNDING)
    once = computed(lazy, model=weights["grid2"])
    expected = each(stack, *found[1].noise, white=found[1].white, model=weights["grid2"])
    np.testing.assert_allclose(once, expected, atol=ROUNDING)
    assert np.abs(once[2] - own[2]).max() > 0.01


def test_what_does_not_depend_on_light_is_plain_noise(weights: dict[str, str]) -> None:
    stack = noisy(1e-5, 0.05, 1, 101, 130)
    result = computed(da.from_array(stack, chunks=(1, 50, 50)), gain=1e-9, read_noise=0.05, model=weights["grid2"])
    plain = tnrd.denoise_array(stack, 0.05, model=weights["grid2"]).compute(scheduler="synchronous")
    np.testing.assert_allclose(result, plain, atol=1e-6)


# --- Files ------------------------------------------------------------------------------------------------------------


def in_16_bits(*shape: int) -> NDArray[np.uint16]:
    """The eighth of dim light."""
    return np.rint(np.clip(noisy(*DIM[:2], *shape) / 8, 0, 1) * 65535).astype(np.uint16)


def denoised(source: Path, target: Path, weights: dict[str, str], **options: Any) -> Any:
    options = {**PHOTONS, "gain": 1 / 32, "read_noise": 1 / 8, "model": weights["grid2"], "side": 48, **options}
    return tnrd.denoise_volume(source, target, **options)


def read(path: Path) -> NDArray[Any]:
    return np.asarray(zarr.open_array(str(path), path="0", mode="r")[:])


def test_files_in_blocks_of_any_side(tmp_path: Path, weights: dict[str, str]) -> None:
    stack = in_16_bits(3, 131, 200)
    tifffile.imwrite(tmp_path / "in.tif", stack, photometric="minisblack")
    report = denoised(tmp_path / "in.tif", tmp_path / "48.tif", weights)
    denoised(tmp_path / "in.tif", tmp_path / "72.zarr", weights, side=72)
    assert report.photon_noise == ((1 / 32, 1 / 8, 0.0),)
    assert report.sigma == ()
    assert report.blocks > 3
    noise = PhotonNoise(1 / 32, 1 / 8)
    white = white_of(stack, *noise[:2])
    assert stabilisation(to_unit(stack[1]), noise, white).binnings == 1
    expected = each(stack, *noise[:2], white=white, model=weights["grid2"])
    for found in (tifffile.imread(tmp_path / "48.tif"), read(tmp_path / "72.zarr")):
        assert found.dtype == np.uint16
        assert np.abs(found - np.rint(np.clip(expected, 0, 1) * 65535)).max() <= 1


def test_each_plane_of_a_file(tmp_path: Path, weights: dict[str, str]) -> None:
    stack = noisy(*BRIGHT[:2], 3, 101, 130)
    zarr.create_array(str(tmp_path / "in.zarr"), data=stack, chunks=(1, 40, 40))
    options = {"gain": None, "read_noise": None, "sigma": "per-plane"}
    report = denoised(tmp_path / "in.zarr", tmp_path / "out.zarr", weights, **options)
    np.testing.assert_allclose(report.photon_noise, [estimate_photon_noise(plane) for plane in stack])
    np.testing.assert_allclose(read(tmp_path / "out.zarr"), each(stack, model=weights["grid2"]), atol=ROUNDING)


def test_a_run_is_resumed_and_others_are_refused(tmp_path: Path, weights: dict[str, str]) -> None:
    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    source, target = tmp_path / "in.zarr", tmp_path / "out.zarr"
    stack = in_16_bits(3, 101, 130)
    zarr.create_array(str(source), data=stack, chunks=(1, 40, 40))
    with pytest.raises(KeyboardInterrupt):
        denoised(source, target, weights, progress=stop)
    for options, sentence in (
        ({"gain": 1 / 16}, "was begun with gain = 0.03125, now it is 0.0625"),
        ({"read_noise": None}, "was begun with read_noise = 0.125, now it is None"),
        ({"offset": 0.25}, "was begun with offset = None, now it is 0.25"),
        ({"gain": None, "read_noise": None}, "was begun with gain = 0.03125, now it is None"),
        ({"noise": "gaussian", "gain": None, "read_noise": None}, "was begun with noise = 'poisson-gaussian'"),
    ):
        with pytest.raises(VolumeError, match=sentence):
            denoised(source, target, weights, **options)
    report = denoised(source, target, weights)
    assert report.kept > 0
    assert report.blocks > 0
    denoised(source, tmp_path / "whole.zarr", weights)
    np.testing.assert_array_equal(read(target), read(tmp_path / "whole.zarr"))


# --- Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"noise": "poisson"}, "noise must be one of gaussian, correlated, poisson-gaussian, got 'poisson'"),
        ({"noise": "gaussian", "gain": 0.1}, "gain, read_noise and offset belong to the noise 'poisson-gaussian'"),
        ({"gain": 0.0}, "gain, the signal of one photon .* must be positive, got 0.0"),
        ({"gain": 0.1, "read_noise": -1.0}, "read_noise must be a finite number of at least 0, got -1.0"),
        ({"read_noise": 0.1}, "A read noise of 0.1 says nothing without the gain"),
        ({"offset": 0.1}, "An offset of 0.1 says nothing without the gain"),
        ({"gain": 0.1, "offset": float("nan")}, "offset must be a finite number, got nan"),
        ({"sigma": 0.1}, "sigma belongs to Gaussian noise, got 0.1"),
        ({"sigma": [0.1, 0.2]}, r"sigma belongs to Gaussian noise, got \[0.1, 0.2\]"),
        ({"sigma": "per-plane", "gain": 0.1}, "estimates gain and read noise, but a gain of 0.1 is given"),
        ({"sigma": "each"}, "one number a plane, got 'each'"),
    ],
)
def test_what_does_not_fit_together(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    options = {**PHOTONS, **options}
    with pytest.raises(ValueError, match=sentence):
        tnrd.denoise_array(np.zeros((2, 20, 20)), **options)
    with pytest.raises(ValueError, match=sentence):
        tnrd.denoise_volume(tmp_path / "in.tif", tmp_path / "out.tif", **options)


def test_planes_too_small_to_be_measured() -> None:
    with pytest.raises(ValueError, match="at least 16 x 16"):
        tnrd.denoise_array(np.zeros((2, 15, 20)), **PHOTONS)
