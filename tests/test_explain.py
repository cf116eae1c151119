"""Averaging kernels against finite differences and the whole picture's Jacobian; models with ablated filters."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tnrd.config import TNRDConfig
from tnrd.inference.explain import ablated, averaging_kernel
from tnrd.model import TNRD

TINY = TNRDConfig(stages=2, filters=3, kernel_size=3, nodes=11, reach=5.0, sigma_degree=2)
HALF = dataclasses.replace(TINY, stages=1, grid=2, companions=2, vanishing_moments=(1, 2))
THIRD = dataclasses.replace(TINY, stages=1, grid=3)
CONFIGS = {"pixels": TINY, "cells of 2, companions": HALF, "cells of 3": THIRD}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
SIGMA = 0.1


def random_model(config: TNRDConfig, *, exact: bool = True, scale: float = 0.2) -> TNRD:
    """A model with no symmetry left, in float64."""
    torch.manual_seed(0)
    model = TNRD(config).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn_like(parameter)
    for t in range(config.stages):
        model.stage(t).influence.exact = exact
    return model


def picture(height: int, width: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).random((height, width), dtype=np.float32)


def on_the_whole(weights: NDArray[np.float64], top: int, left: int, shape: tuple[int, int]) -> NDArray[np.float64]:
    full = np.zeros(shape)
    full[top : top + weights.shape[0], left : left + weights.shape[1]] = weights
    return full


def jacobian_row(model: TNRD, image: NDArray[Any], row: int, column: int) -> NDArray[np.float64]:
    """By one backward pass through the whole picture."""
    x = torch.from_numpy(image).to(next(model.parameters()))[None, None].requires_grad_()
    (gradient,) = torch.autograd.grad(model(x, SIGMA)[0, 0, row, column], x)
    return np.asarray(gradient[0, 0].double().numpy())


@every_config
@pytest.mark.parametrize("pixel", [(0, 0), (4, 6), (8, 10), (3, 10)], ids=str)
def test_weights_are_the_derivatives(config: TNRDConfig, pixel: tuple[int, int]) -> None:
    model, image, step = random_model(config), picture(9, 11), 1e-5
    x = torch.from_numpy(image).double()
    shifted = torch.stack([x + sign * step * torch.eye(99)[i].view(9, 11) for sign in (1, -1) for i in range(99)])
    with torch.no_grad():
        plus, minus = model(shifted[:, None], SIGMA)[:, 0, pixel[0], pixel[1]].double().split(99)
    expected = ((plus - minus) / (2 * step)).view(9, 11).numpy()
    found = averaging_kernel(model, image, SIGMA, *pixel)
    np.testing.assert_allclose(on_the_whole(found.weights, found.top, found.left, (9, 11)), expected, atol=1e-8)


@every_config
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "table"])
def test_a_crop_gives_the_weights_of_the_whole_picture(config: TNRDConfig, exact: bool) -> None:
    model, (height, width) = random_model(config, exact=exact), (31, 29)
    image, reach = picture(height, width), model.dependence_radius
    for row in (0, 1, 9, 14, 15, 16, 29, 30):
        for column in (0, 13, 14, 28):
            found = averaging_kernel(model, image, SIGMA, row, column)
            full = on_the_whole(found.weights, found.top, found.left, (height, width))
            np.testing.assert_allclose(full, jacobian_row(model, image, row, column), rtol=0, atol=1e-12)
            assert max(found.weights.shape) <= 2 * (reach + config.grid) + 1
    assert found.weights.shape != (height, width), "the crop is the whole picture: nothing was tested"


def test_the_shipped_architecture_in_float32_with_its_engine() -> None:
    config = TNRDConfig(stages=3, filters=8, kernel_size=3, grid=2, companions=4, vanishing_moments=(1, 2, 2, 2))
    model, image = random_model(config, exact=False, scale=0.02).float(), picture(61, 47)
    for pixel in ((0, 46), (30, 20), (60, 3)):
        found = averaging_kernel(model, image, SIGMA, *pixel)
        full = on_the_whole(found.weights, found.top, found.left, (61, 47))
        np.testing.assert_allclose(full, jacobian_row(model, image, *pixel), rtol=0, atol=2e-6)


@every_config
def test_what_the_weights_sum_up_to(config: TNRDConfig) -> None:
    """Filters of vanishing moments pass constants through, so the weights are an average."""
    found = averaging_kernel(random_model(config), picture(20, 23), SIGMA, 7, 21)
    assert found.total == pytest.approx(1, abs=1e-5)  # the filters' basis is kept in float32
    assert found.total == pytest.approx(found.weights.sum())
    assert found.noise_gain == pytest.approx((found.weights**2).sum())
    spread = sum(
        abs(w) * ((y + found.top - 7) ** 2 + (x + found.left - 21) ** 2) for (y, x), w in np.ndenumerate(found.weights)
    )
    assert found.radius == pytest.approx(np.sqrt(spread / np.abs(found.weights).sum()))


def test_the_noise_gain_is_what_is_left_of_weak_noise() -> None:
    model, image = random_model(TINY), picture(12, 12)
    found = averaging_kernel(model, image, SIGMA, 5, 6)
    noise = 1e-4 * torch.randn(4000, 1, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        pixel = model(torch.from_numpy(image).double() + noise, SIGMA)[:, 0, 5, 6]
    assert float(pixel.var()) == pytest.approx(1e-8 * found.noise_gain, rel=0.1)


@every_config
def test_without_noise_a_pixel_follows_itself_alone(config: TNRDConfig) -> None:
    found = averaging_kernel(random_model(config), picture(9, 9), 0.0, 4, 8)
    expected = np.zeros((9, 9))
    expected[4, 8] = 1
    np.testing.assert_allclose(on_the_whole(found.weights, found.top, found.left, (9, 9)), expected, atol=1e-12)
    assert found.radius == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("inference_mode", [True, False])
def test_the_model_is_left_as_it_was(wanted: bool, inference_mode: bool) -> None:
    model = random_model(TINY).requires_grad_(wanted)
    expected = averaging_kernel(model, picture(9, 9), SIGMA, 1, 2).weights
    with torch.inference_mode(inference_mode):
        found = averaging_kernel(model, picture(9, 9), SIGMA, 1, 2).weights
    np.testing.assert_array_equal(found, expected)
    assert all(p.grad is None and p.requires_grad is wanted for p in model.parameters())


def test_depth_of_the_picture_does_not_matter() -> None:
    steps = np.random.default_rng(0).integers(0, 256, (9, 9), dtype=np.uint8)
    model = random_model(TINY)
    found = averaging_kernel(model, steps, SIGMA, 4, 4).weights
    np.testing.assert_allclose(found, averaging_kernel(model, steps / 255, SIGMA, 4, 4).weights, atol=1e-6)


@pytest.mark.parametrize(
    ("image", "sigma", "pixel", "sentence"),
    [
        (np.zeros((4, 5)), 0.1, (4, 0), "picture of 4 x 5, got row 4, column 0"),
        (np.zeros((4, 5)), 0.1, (0, -1), "got row 0, column -1"),
        (np.zeros((4, 5, 3)), 0.1, (0, 0), r"has the shape \(M, N\)"),
        (np.zeros((0, 5)), 0.1, (0, 0), "no pixels"),
        (np.full((4, 5), np.nan), 0.1, (0, 0), "must be finite"),
        (np.zeros((4, 5)), -0.1, (0, 0), "sigma must be finite and at least 0"),
        (np.zeros((4, 5)), np.full((4, 5), 0.1), (0, 0), r"sigma must be one value, got an array of shape \(4, 5\)"),
    ],
)
def test_bad_questions_are_refused(image: Any, sigma: Any, pixel: tuple[int, int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        averaging_kernel(random_model(TINY), image, sigma, *pixel)


def test_models_of_colour_are_refused() -> None:
    with pytest.raises(ValueError, match="model of grey pictures, got one of 3"):
        averaging_kernel(TNRD(dataclasses.replace(TINY, channels=3)), np.zeros((4, 4)), 0.1, 0, 0)


# --- ablated filters


def restored(model: TNRD) -> NDArray[np.float64]:
    with torch.no_grad():
        result = model(torch.from_numpy(picture(9, 11)).double()[None, None], SIGMA)
    return np.asarray(result[0, 0].contiguous().numpy())


@every_config
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "table"])
def test_muting_all_or_nothing(config: TNRDConfig, exact: bool) -> None:
    model = random_model(config, exact=exact)
    before = restored(model)
    everything = [(t, i) for t in range(config.stages) for i in range(config.filters)]
    np.testing.assert_allclose(restored(ablated(model, everything)), picture(9, 11), rtol=0, atol=1e-12)
    assert restored(ablated(model, [])).tobytes() == before.tobytes()
    assert restored(model).tobytes() == before.tobytes(), "the model itself has changed"


def test_muting_takes_one_filter_out_of_the_sum() -> None:
    """After one step, what a filter took away is what comes back when it is ablated."""
    config = dataclasses.replace(TINY, stages=1)
    model = random_model(config)
    without_one = [restored(ablated(model, [(0, i)])) for i in range(3)]
    alone = [restored(ablated(model, ((0, j) for j in range(3) if j != i))) for i in range(3)]
    for i in range(3):
        removed = picture(9, 11) - alone[i]
        assert np.abs(removed).max() > 1e-3
        np.testing.assert_allclose(without_one[i] - restored(model), removed, rtol=0, atol=1e-12)


def test_the_copy_shares_nothing() -> None:
    model = random_model(TINY).requires_grad_(False)
    twin = ablated(model, [(1, 2)])
    theirs = {p.data_ptr() for p in [*model.parameters(), *model.buffers()] if p.numel()}
    assert not theirs & {p.data_ptr() for p in [*twin.parameters(), *twin.buffers()] if p.numel()}
    assert not any(p.requires_grad for p in twin.parameters())
    changed = [
        name for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True) if not torch.equal(p, q)
    ]
    assert changed == ["stages.1.influence.weights"]
    assert torch.equal(twin.stage(1).influence.weights[:2], model.stage(1).influence.weights[:2])


def test_steps_that_share_weights_are_muted_together() -> None:
    model = random_model(dataclasses.replace(TINY, stages=4, repeats=2))
    assert restored(ablated(model, [(0, 1)])).tobytes() == restored(ablated(model, [(1, 1)])).tobytes()
    assert restored(ablated(model, [(0, 1)])).tobytes() != restored(ablated(model, [(2, 1)])).tobytes()


def test_a_filter_and_its_transpose_are_muted_together() -> None:
    model = random_model(dataclasses.replace(TINY, filters=4, transposes=True))
    assert restored(ablated(model, [(0, 1)])).tobytes() == restored(ablated(model, [(0, 3)])).tobytes()
    assert restored(ablated(model, [(0, 1)])).tobytes() != restored(ablated(model, [(0, 2)])).tobytes()


@pytest.mark.parametrize("place", [(2, 0), (-1, 0), (0, 3), (0, -1)], ids=str)
def test_filters_that_are_not_there(place: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"steps 0 to 1 of filters 0 to 2, got \({place[0]}, {place[1]}\)"):
        ablated(random_model(TINY), [place])
