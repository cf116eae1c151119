"""Where training begins from another model's weights."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tnrd.config import TNRDConfig
from tnrd.model import TNRD
from tnrd.training.start import start_from

SIGMA = 25 / 255


def trained(**changes: object) -> TNRD:
    """A small model whose every coefficient has moved away from its start."""
    values: dict[str, object] = {"stages": 2, "filters": 4, "kernel_size": 3, "grid": 2, "companions": 2, "nodes": 15}
    torch.manual_seed(0)
    model = TNRD(TNRDConfig(**{**values, **changes})).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    return model


def started(model: TNRD, **changes: object) -> TNRD:
    torch.manual_seed(1)
    return start_from(model, dataclasses.replace(model.config, **changes)).double()  # type: ignore[arg-type]


def picture(channels: int) -> torch.Tensor:
    return torch.rand(1, channels, 22, 18, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def test_the_same_shape_is_the_same_model() -> None:
    model = trained()
    torch.testing.assert_close(started(model)(picture(1), SIGMA), model(picture(1), SIGMA), rtol=0, atol=1e-6)


def test_new_filters_and_companions_change_nothing_at_first() -> None:
    model = trained()
    wider = started(model, filters=7, companions=5)
    torch.testing.assert_close(wider(picture(1), SIGMA), model(picture(1), SIGMA), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kernels", ["galerkin", "rediscretised"])
def test_coarser_grids_change_nothing_at_first_and_can_learn(kernels: str) -> None:
    model = trained()
    multi = started(model, scales=3, coarse_kernels=kernels)
    x = torch.rand(1, 1, 24, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))  # whole cells of both
    torch.testing.assert_close(multi(x, SIGMA), model(x, SIGMA), rtol=0, atol=1e-6)
    multi(x, SIGMA).square().sum().backward()
    for stage in multi.stages:
        for scale in stage.coarse:
            assert scale.influence.weights.grad.abs().max() > 0


def test_more_grids_keep_what_the_coarser_ones_have_learnt() -> None:
    model = trained(scales=2)
    x = torch.rand(1, 1, 24, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(started(model, scales=3, filters=6)(x, SIGMA), model(x, SIGMA), rtol=0, atol=1e-6)


def test_new_filters_can_learn() -> None:
    wider = started(trained(), filters=7)
    wider(picture(1), SIGMA).square().sum().backward()
    for stage in wider.stages:
        assert stage.influence.weights.grad[4:].abs().max() > 0


def test_a_halved_step_moves_half_as_far_twice() -> None:
    """To first order: two half steps from u end where the whole step does, up to the change of the force between."""
    model = trained(stages=1)
    f = picture(1)
    whole = model(f, SIGMA) - f
    halves = [state[:, :4] for state in started(model, stages=2, repeats=2).states(f, SIGMA)]
    first = torch.nn.functional.pixel_shuffle(halves[1] - halves[0], 2)
    torch.testing.assert_close(first, whole / 2, rtol=0, atol=1e-6)


def test_other_sets_of_weights_are_the_old_ones_at_their_time() -> None:
    model = trained(stages=6)
    fewer = started(model, stages=10, repeats=2)
    for new, old in enumerate([0, 1, 3, 4, 5]):  # their middles: 0.6, 1.8, 3, 4.2 and 5.4 of six steps
        before, after = model.stage(old), fewer.stage(2 * new)
        torch.testing.assert_close(after.filters(), before.filters(), rtol=0, atol=1e-6, check_dtype=False)
        level = torch.full((1, 1, 1, 1), SIGMA, dtype=torch.float64)
        for mine, theirs in ((after.reaction, before.reaction), (after.value_scale, before.value_scale)):
            torch.testing.assert_close(mine(level), 0.6 * theirs(level), rtol=1e-5, atol=0, check_dtype=False)


@pytest.mark.parametrize("changes", [{"nodes": 31}, {"reach": 14.0, "nodes": 29}])
def test_other_nodes_carry_the_same_functions(changes: dict[str, object]) -> None:
    model = trained()
    refitted = started(model, **changes)
    assert refitted.stages[0].influence.weights.shape[1] == changes["nodes"]
    moved = (model(picture(1), SIGMA) - picture(1)).abs().max()
    difference = refitted(picture(1), SIGMA) - model(picture(1), SIGMA)
    assert difference.abs().max() < 0.01 * moved


def test_transposes_keep_a_model_that_treats_a_picture_and_its_transpose_alike() -> None:
    model = trained(stages=1, filters=6, companions=0)
    symmetric = started(model, filters=12, transposes=True)
    expected = (model(picture(1), SIGMA) + model(picture(1).mT, SIGMA).mT) / 2
    torch.testing.assert_close(symmetric(picture(1), SIGMA), expected, rtol=0, atol=1e-6)
    assert symmetric.config.parameter_count == model.config.parameter_count
    wider = started(symmetric, filters=16, companions=2)
    torch.testing.assert_close(wider(picture(1), SIGMA), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, 3 / 255, SIGMA, 75 / 255])
def test_a_colour_model_begins_as_the_grey_one_on_the_luminance(sigma: float) -> None:
    """The curves of the noise level are refitted, so that the two agree closely, not to rounding."""
    model = trained()
    colour = started(model, channels=3, filters=9, companions=3)
    rgb = picture(3)
    luminance = rgb.mean(1, keepdim=True)
    expected = model(luminance, sigma / 3**0.5) - luminance
    difference = colour(rgb, sigma).mean(1, keepdim=True) - luminance - expected
    assert difference.abs().max() <= 0.02 * expected.abs().max() + 1e-6


def test_a_colour_model_begins_with_a_diffusion_of_the_chrominance() -> None:
    colour = started(trained(), channels=3, filters=12)
    noisy = 0.5 + SIGMA * torch.randn(1, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    before, after = (x - x.mean(1, keepdim=True) for x in (noisy, colour(noisy, SIGMA)))
    assert after.std() < 0.9 * before.std()


def test_grey_stays_grey_at_the_start_of_a_colour_model() -> None:
    grey = picture(1).expand(1, 3, -1, -1).contiguous()
    result = started(trained(), channels=3, filters=9)(grey, SIGMA)
    torch.testing.assert_close(result, result.mean(1, keepdim=True).expand_as(result), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kernel_size": 5}, "kernel_size differ"),
        ({"filters": 3}, "narrower"),
        ({"companions": 1}, "narrower"),
        ({"scales": 1}, "narrower"),
        ({"filters": 6, "transposes": True}, "narrower"),
        ({"transposes": True}, "narrower"),
        ({"coarse_kernels": "rediscretised"}, "coarse_kernels differ"),
        ({"channels": 2}, "1 channels cannot start one of 2"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        started(trained(scales=2), **changes)
