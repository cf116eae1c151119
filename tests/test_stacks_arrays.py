"""``tnrd.denoise_array``: any chunks give what the whole picture gives, and the noise of a stack."""

from __future__ import annotations

import pickle
import subprocess
import sys
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
from tnrd.model import TNRD
from tnrd.weights import WeightsError, save_weights

da = pytest.importorskip("dask.array", reason="needs the extra bigimage")
zarr = pytest.importorskip("zarr", reason="needs the extra bigimage")

from tnrd.inference.stacks.blocks import aligned  # noqa: E402
from tnrd.inference.stacks.reference import ModelReference, refer  # noqa: E402

SIGMA = 25 / 255


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths of small random models, by their kind."""
    folder = tmp_path_factory.mktemp("weights")
    kinds = {"grid1": {}, "grid2": {"grid": 2}, "colour": {"channels": 3, "filters": 12}}
    paths = {}
    for name, changes in kinds.items():
        torch.manual_seed(3)
        model = TNRD(TNRDConfig(**{"stages": 2, "filters": 4, "kernel_size": 3, **changes}))
        save_weights(folder / f"{name}.safetensors", model)
        paths[name] = str(folder / f"{name}.safetensors")
    return paths


def noisy(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return (0.5 + SIGMA * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def computed(array: Any, sigma: Any = SIGMA, **options: Any) -> NDArray[Any]:
    result: NDArray[Any] = tnrd.denoise_array(array, sigma, **options).compute(scheduler="synchronous")
    return result


def each(stack: NDArray[Any], sigma: Any, **options: Any) -> NDArray[np.float32]:
    """Every plane of (P, M, N[, 3]) by ``tnrd.denoise``, whole."""
    return np.stack([tnrd.denoise(plane, sigma, **options) for plane in stack])


# --- The result -------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    grid=st.sampled_from(["grid1", "grid2"]),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    chunk=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)),
    min_chunk=st.integers(1, 30),
)
def test_any_chunks_give_the_whole(
    weights: dict[str, str], grid: str, height: int, width: int, chunk: tuple[int, int, int], min_chunk: int
) -> None:
    stack = noisy(3, height, width)
    lazy = da.from_array(stack, chunks=chunk)
    result = computed(lazy, model=weights[grid], min_chunk=min_chunk)
    np.testing.assert_allclose(result, each(stack, SIGMA, model=weights[grid]), atol=1e-6)


@pytest.mark.parametrize("kind", ["grid2", "colour"])
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_colour_in_chunks_gives_the_whole(weights: dict[str, str], kind: str, axis: int) -> None:
    stack = noisy(2, 60, 50, 3)
    lazy = da.from_array(np.moveaxis(stack, -1, axis), chunks=[1 if length < 4 else 20 for length in (9, 9, 9, 1)])
    result = computed(lazy, model=weights[kind], min_chunk=1, channel_axis=axis)
    expected = each(stack, SIGMA, model=weights[kind], channel_axis=-1)
    np.testing.assert_allclose(np.moveaxis(result, axis, -1), expected, atol=1e-6)


def test_a_grey_part_of_a_colour_picture_leaves_no_seam(weights: dict[str, str]) -> None:
    picture = noisy(60, 60, 3)
    picture[:40] = picture[:40, :, :1]  # equal channels in whole blocks, as on the white ground of a slide
    result = computed(da.from_array(picture, chunks=(20, 20, 3)), model=weights["grid2"], min_chunk=1, channel_axis=-1)
    expected = tnrd.denoise(picture, SIGMA, model=weights["grid2"], channel_axis=-1)
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_stay_and_are_rounded(weights: dict[str, str], dtype: type) -> None:
    top = np.iinfo(dtype).max
    stack = np.rint(np.clip(noisy(2, 50, 40), 0, 1) * top).astype(dtype)
    result = computed(da.from_array(stack, chunks=(1, 25, 40)), model=weights["grid2"], min_chunk=1)
    expected = np.rint(np.clip(each(stack, SIGMA, model=weights["grid2"]), 0, 1) * top)
    assert result.dtype == dtype
    assert np.abs(result.astype(int) - expected).max() <= 1


def test_the_order_of_bytes_does_not_matter(weights: dict[str, str]) -> None:
    stack = np.rint(np.clip(noisy(2, 50, 40), 0, 1) * 65535)
    found = [tnrd.denoise_array(stack.astype(dtype), SIGMA, model=weights["grid2"]) for dtype in ("<u2", ">u2")]
    assert [one.dtype for one in found] == [np.uint16, np.uint16]
    np.testing.assert_array_equal(*(one.compute(scheduler="synchronous") for one in found))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_floats_become_single_precision(weights: dict[str, str], dtype: type) -> None:
    lazy = tnrd.denoise_array(da.from_array(noisy(40, 40).astype(dtype)), SIGMA, model=weights["grid2"])
    assert lazy.dtype == np.float32 == lazy.compute(scheduler="synchronous").dtype


def test_numpy_and_zarr_arrays_are_taken_too(weights: dict[str, str]) -> None:
    stack = noisy(2, 50, 40)
    stored = zarr.create_array({}, data=stack, chunks=(1, 25, 40))
    expected = each(stack, SIGMA, model=weights["grid2"])
    for array in (stack, stored, stack.tolist()):
        np.testing.assert_allclose(computed(array, model=weights["grid2"], min_chunk=1), expected, atol=1e-6)


def test_strength_zero_gives_the_picture_back(weights: dict[str, str]) -> None:
    stack = noisy(2, 30, 30)
    np.testing.assert_array_equal(computed(stack, strength=0.0, model=weights["grid2"]), stack)


def test_threads_of_one_process_agree_with_one_thread(weights: dict[str, str]) -> None:
    lazy = tnrd.denoise_array(
        da.from_array(noisy(6, 60, 60), chunks=(1, 30, 30)), SIGMA, model=weights["grid2"], min_chunk=1
    )
    expected = lazy.compute(scheduler="synchronous")
    np.testing.assert_array_equal(lazy.compute(scheduler="threads", num_workers=4), expected)


# --- Noise ------------------------------------------------------------------------------------------------------------


def test_one_level_a_plane(weights: dict[str, str]) -> None:
    stack, levels = noisy(2, 2, 40, 40), np.array([[0.02, 0.05], [0.1, 0.2]])
    result = computed(da.from_array(stack, chunks=(2, 1, 20, 40)), levels, model=weights["grid2"], min_chunk=1)
    for index in np.ndindex(2, 2):
        expected = tnrd.denoise(stack[index], levels[index], model=weights["grid2"])
        np.testing.assert_allclose(result[index], expected, atol=1e-6)


def test_one_level_a_channel(weights: dict[str, str]) -> None:
    picture, levels = noisy(40, 40, 3), [0.05, 0.1, 0.2]
    result = computed(picture, levels, model=weights["grid2"], channel_axis=-1)
    expected = tnrd.denoise(picture, levels, model=weights["grid2"], channel_axis=-1)
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("colour", [False, True])
def test_estimates_are_those_of_the_planes(weights: dict[str, str], colour: bool) -> None:
    stack = noisy(3, 64, 64, *([3] if colour else []))
    stack[1] *= 2
    options: dict[str, Any] = {"model": weights["grid2"], "channel_axis": -1 if colour else None}
    lazy = da.from_array(stack, chunks=(2, 32, 64, 3)[: stack.ndim])
    expected = each(stack, None, **options)
    np.testing.assert_allclose(computed(lazy, "per-plane", min_chunk=1, **options), expected, atol=1e-6)
    once = computed(lazy, None, min_chunk=1, **options)
    np.testing.assert_allclose(once[1], expected[1], atol=1e-6)  # the plane in the middle
    assert np.abs(once[0] - expected[0]).max() > 1e-4


def test_a_large_plane_is_sampled_everywhere() -> None:
    from tnrd.inference.stacks.sampling import sampled

    y, x = np.mgrid[:1300, :1100]
    sample = sampled(da.from_array(np.stack([y, x]), chunks=(1, 300, 1100)), colour=False).compute()
    assert sample.shape == (2, 1024, 1024)
    assert sample[0].min() == 0
    assert sample[0].max() > 1290
    assert sample[1].max() > 1090


# --- How it is computed -----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(1, 80), st.integers(1, 4))
def test_aligned_chunks(chunks: list[int], least: int, grid: int) -> None:
    found = aligned(tuple(chunks), least, grid)
    assert sum(found) == sum(chunks)
    assert all(start % grid == 0 for start in np.cumsum([0, *found[:-1]]))
    assert len(found) == 1 or min(found) >= least


def test_good_chunks_are_kept(weights: dict[str, str]) -> None:
    lazy = da.from_array(noisy(4, 60, 80), chunks=(2, (20, 40), 40))
    assert tnrd.denoise_array(lazy, SIGMA, model=weights["grid2"], min_chunk=1).chunks == lazy.chunks


def test_nothing_is_read_before_it_is_computed(weights: dict[str, str]) -> None:
    def fail(block: NDArray[Any]) -> NDArray[Any]:
        raise AssertionError("computed too early")

    lazy = da.ones((3, 40, 40), chunks=(1, 20, 40)).map_blocks(fail, dtype=float, meta=np.empty((0, 0, 0)))
    for sigma in (SIGMA, "per-plane"):
        tnrd.denoise_array(lazy, sigma, model=weights["grid2"])


def test_a_task_carries_no_weights() -> None:
    # The shipped model has 100 KB and more; a task of it has the model's name and hash.
    lazy = tnrd.denoise_array(da.zeros((64, 2048), chunks=(64, 512)), SIGMA)
    cloudpickle = pytest.importorskip("cloudpickle")
    tasks = [task for key, task in dict(lazy.__dask_graph__()).items() if "_restore_block" in str(key)]
    assert len(tasks) == 4
    assert max(len(cloudpickle.dumps(task)) for task in tasks) < 2000


def test_a_worker_loads_the_model_once(weights: dict[str, str]) -> None:
    reference, _ = refer(weights["grid2"], "auto", "auto")
    assert pickle.loads(pickle.dumps(reference)).network() is reference.network()


def test_a_worker_refuses_other_weights(weights: dict[str, str]) -> None:
    with pytest.raises(WeightsError, match="is not the file that the work began with"):
        ModelReference(weights["grid2"], "0" * 64).network()


def test_a_process_with_one_thread_keeps_to_it(weights: dict[str, str]) -> None:
    # Numba's OpenMP pool gives the thread that starts it all cores.
    program = (
        "import numpy as np, torch, tnrd\n"
        f"lazy = tnrd.denoise_array(np.zeros((40, 40)), 0.1, model={weights['grid2']!r})\n"
        "lazy.compute(scheduler='synchronous')\n"
        "print(torch.get_num_threads())"
    )
    environment = {"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "NUMBA_NUM_THREADS": "2"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120)
    assert run.stdout.split() == ["1"], run.stderr


# --- Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "sentence"),
    [
        ((8,), np.float32, {}, r"A picture has two axes, got an array of shape \(8,\)"),
        ((2, 0, 8), np.float32, {}, r"no pixels: its shape is \(2, 0, 8\)"),
        ((8, 8), np.int32, {}, "must hold uint8, uint16, int16 or floating-point numbers, got int32"),
        ((8, 8), np.complex64, {}, "got complex64"),
        ((8, 8), np.float32, {"channel_axis": 0}, r"no channel_axis=0 beside those of a picture in \(8, 8\)"),
        ((8, 8, 8), np.float32, {"channel_axis": 3}, "no channel_axis=3"),
        ((4, 8, 8), np.float32, {"channel_axis": 0}, "3 channels, got 4 along axis 0"),
        ((8, 8), np.float32, {"strength": 1.5}, "strength must lie in"),
        ((8, 8), np.float32, {"min_chunk": 0}, "min_chunk must be at least 1, got 0"),
        ((8, 8), np.float32, {"sigma": "each"}, "one number a plane, got 'each'"),
        ((3, 8, 8), np.float32, {"sigma": [0.1, 0.2]}, r"one a plane \(the shape \(3,\)\).*got the shape \(2,\)"),
        ((8, 8), np.float32, {"sigma": np.full((8, 8), 0.1)}, "maps are for single pictures"),
        ((8, 8), np.float32, {"sigma": 25}, "sigma must lie in"),
        ((8, 8), np.float32, {"model": "nonesuch"}, "No weights 'nonesuch'"),
    ],
)
def test_what_cannot_be_denoised(shape: tuple[int, ...], dtype: type, options: dict[str, Any], sentence: str) -> None:
    options = {"sigma": SIGMA, **options}
    with pytest.raises(ValueError, match=sentence):
        tnrd.denoise_array(np.zeros(shape, dtype), **options)


def test_a_colour_model_refuses_grey(weights: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="takes 3 channels, the pictures have 1"):
        tnrd.denoise_array(noisy(8, 8), SIGMA, model=weights["colour"])


def test_a_loaded_model_is_refused() -> None:
    with pytest.raises(TypeError, match=r"got a TNRD; tnrd\.weights\.save_weights writes"):
        tnrd.denoise_array(noisy(8, 8), SIGMA, model=TNRD(TNRDConfig(stages=1, filters=2)))  # type: ignore[arg-type]


def test_values_that_are_not_finite(weights: dict[str, str]) -> None:
    stack = noisy(2, 20, 20)
    stack[1, 3, 4] = np.nan
    with pytest.raises(ValueError, match="must be finite, got 1 values"):
        computed(stack, model=weights["grid2"])


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tnrd.inference.stacks.errors.find_spec", lambda name: None if name == "dask" else name)
    with pytest.raises(ImportError, match=r"pip install 'tnrd\[bigimage\]'; dask cannot be found"):
        tnrd.denoise_array(Path(), SIGMA)


# --- Contrast ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faint() -> NDArray[np.float32]:
    """Two photographs that use a hundredth and a tenth of the range."""
    from skimage import data

    clean = data.camera()[:128, :160] / 255
    noise = np.random.default_rng(7).standard_normal((2, *clean.shape))
    return np.float32([0.01, 0.1])[:, None, None] * (clean + 15 / 255 * noise).astype(np.float32)


@pytest.mark.parametrize("sigma", [None, "per-plane", 15 / 2550, [15 / 25500, 15 / 2550]])
def test_planes_share_the_span_unless_each_is_measured(faint: NDArray[np.float32], sigma: Any) -> None:
    from tnrd.inference.levels import measured_span

    found = tnrd.denoise_array(da.from_array(faint, chunks=(1, 50, 70)), sigma, model="fast", min_chunk=1).compute()
    spans = [measured_span(plane) for plane in faint]
    shared = spans if sigma == "per-plane" else [max(spans)] * 2
    # Without a level, that of the plane in the middle, which is the second, is for both.
    if sigma is None:
        levels = [float(tnrd.estimate_sigma(faint[1]))] * 2
    else:
        levels = [None, None] if sigma == "per-plane" else list(np.broadcast_to(sigma, 2))
    for plane, level, span, result in zip(faint, levels, shared, found, strict=True):
        expected = tnrd.denoise(plane, level, span=span, model="fast")
        np.testing.assert_allclose(result, expected, rtol=0, atol=2e-6 * span)


def test_a_given_span_is_taken(faint: NDArray[np.float32]) -> None:
    found = tnrd.denoise_array(faint, 15 / 2550, span=1.0, model="fast").compute()
    np.testing.assert_allclose(found[1], tnrd.denoise(faint[1], 15 / 2550, span=1.0, model="fast"), rtol=0, atol=1e-6)
    for options in ({"span": 1.0, "sigma": "per-plane"}, {"span": 1.0, "noise": "poisson-gaussian"}, {"span": -1.0}):
        with pytest.raises(ValueError, match="span"):
            tnrd.denoise_array(faint, **options)
