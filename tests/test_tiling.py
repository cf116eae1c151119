"""Tiles: the plan's geometry, and the promise that tiled equals untiled to float rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tnrd.config import TNRDConfig
from tnrd.inference.levels import NoiseLevel
from tnrd.inference.restore import restore
from tnrd.inference.tiling import split
from tnrd.model import TNRD

CONFIGS = {
    "scalar 5x5": TNRDConfig(stages=2, filters=4, kernel_size=5),
    "cells of 2, companions": TNRDConfig(
        stages=2, filters=8, kernel_size=3, grid=2, companions=3, vanishing_moments=(1, 2)
    ),
    "three scales": TNRDConfig(stages=1, filters=4, kernel_size=3, scales=3),
    "cells of 3": TNRDConfig(stages=1, filters=6, kernel_size=3, grid=3, companions=1),
}


def random_model(config: TNRDConfig) -> TNRD:
    """Untrained and restless: noise in every direction crosses a halo that is too small."""
    torch.manual_seed(7)
    model = TNRD(config).requires_grad_(False).eval()
    for parameter in model.parameters():
        parameter += 0.05 * torch.randn_like(parameter)
    for stage in model.stages:
        for scale in stage.coarse:
            scale.influence.weights += 0.3 * torch.randn_like(scale.influence.weights)
    model.engine = "torch"
    return model


MODELS = {name: random_model(config) for name, config in CONFIGS.items()}
sizes = st.integers(1, 60)


def picture(height: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(height * 1000 + width).random((height, width), dtype=np.float32)


@settings(max_examples=80)
@given(sizes, sizes, st.integers(3, 80), st.integers(0, 30), st.integers(1, 3))
def test_cores_partition_the_picture_and_contexts_reach_a_halo(
    height: int, width: int, tile: int, halo: int, grid: int
) -> None:
    covered = np.zeros((height, width), int)
    for part in split(height, width, tile, halo=halo, grid=grid):
        covered[part.core] += 1
        for axis, length in enumerate((height, width)):
            core, context, inside = part.core[axis], part.context[axis], part.inside[axis]
            assert 0 < core.stop - core.start <= tile
            assert core.start % grid == context.start % grid == 0
            assert core.stop % grid == 0 or core.stop == length
            assert context.stop % grid == 0 or context.stop == length
            assert core.start - context.start >= min(halo, core.start)
            assert context.stop - core.stop >= min(halo, length - core.stop)
            assert inside == slice(core.start - context.start, core.stop - context.start)
    assert (covered == 1).all()


def test_a_picture_of_one_tile_has_no_halo() -> None:
    (only,) = split(31, 17, 31, halo=9, grid=1)
    assert only.context == only.core == (slice(0, 31), slice(0, 17))


def test_sides_are_balanced() -> None:
    widths = {part.core[1].stop - part.core[1].start for part in split(8, 1030, 512, halo=28, grid=2)}
    assert max(widths) - min(widths) <= 2


@pytest.mark.parametrize(
    ("height", "width", "tile", "halo", "grid", "sentence"),
    [
        (0, 4, 8, 1, 1, "without pixels"),
        (4, 4, 1, 1, 2, "at least the model's cell of 2 pixels, got 1"),
        (4, 4, 8, -1, 1, "halo must be at least 0"),
        (4, 4, 8, 1, 0, "grid at least 1"),
    ],
)
def test_errors_name_the_value(height: int, width: int, tile: int, halo: int, grid: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        split(height, width, tile, halo=halo, grid=grid)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=15)
@given(height=sizes, width=sizes, tile=st.integers(4, 50), strength=st.sampled_from([1.0, 1.0, 0.6]))
def test_tiled_equals_untiled(name: str, height: int, width: int, tile: int, strength: float) -> None:
    assume(height * width < 40 * tile**2)  # for the time it takes; the smallest tiles have a test of their own
    model, pixels = MODELS[name], picture(height, width)
    whole = model(torch.from_numpy(pixels)[None, None], 0.2, strength)[0, 0].numpy()
    tiled = restore(pixels, model, NoiseLevel(np.float32([0.2])), strength=strength, tile=tile)
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=10)
@given(height=sizes, width=sizes, tile=st.integers(4, 50))
def test_noise_maps_are_tiled_with_the_picture(name: str, height: int, width: int, tile: int) -> None:
    assume(height * width < 40 * tile**2)
    model, pixels = MODELS[name], picture(height, width)
    noise_map = 0.3 * picture(width, height).T.copy()
    whole = model(torch.from_numpy(pixels)[None, None], torch.from_numpy(noise_map)[None, None])[0, 0].numpy()
    tiled = restore(pixels, model, NoiseLevel(noise_map), tile=tile)
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", MODELS)
def test_the_halo_is_not_larger_than_it_must_be(name: str) -> None:
    # With less than the dependence radius the tiles differ: the property above is able to fail.
    model, pixels = MODELS[name], picture(60, 60)
    whole = model(torch.from_numpy(pixels)[None, None], 0.2)[0, 0].numpy()
    cell = model.config.cell
    short = cell * model.config.scales  # the outermost cells of several scales weigh next to nothing
    part = split(60, 60, 30, halo=model.dependence_radius // cell * cell - short, grid=cell)[0]
    context = model(torch.from_numpy(pixels[part.context])[None, None], 0.2)[0, 0].numpy()
    assert np.abs(context[part.inside] - whole[part.core]).max() > 1e-5


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_the_smallest_tiles_of_the_shipped_architecture(engine: str) -> None:
    model = random_model(
        TNRDConfig(stages=3, filters=48, kernel_size=3, grid=2, companions=12, vanishing_moments=(1, 2, 2, 2), nodes=47)
    )
    model.engine = engine
    pixels = picture(9, 7)
    whole = model(torch.from_numpy(pixels)[None, None], 0.1)[0, 0].numpy()
    np.testing.assert_allclose(restore(pixels, model, NoiseLevel(np.float32([0.1])), tile=2), whole, rtol=0, atol=2e-6)
