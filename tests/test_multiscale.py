"""Restriction, prolongation and coarse kernels: adjoints, RP = I, R K P, and what they do to polynomials and noise."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from tnrd.config import TNRDConfig
from tnrd.filters import FilterBank
from tnrd.influence import RadialBasisInfluence
from tnrd.kernels.correlate_torch import correlate
from tnrd.model import TNRD
from tnrd.moments import moments_from_kernel
from tnrd.multiscale import (
    coarse_size,
    galerkin_kernels,
    prolong,
    prolong_adjoint,
    restrict,
    restrict_adjoint,
)
from tnrd.stage import DiffusionStage

SIDES = [(2, 2), (2, 10), (6, 4), (14, 8)]


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def cells(degrees: tuple[int, int], height: int, width: int, side: float) -> Tensor:
    """Means of y^a x^b over the cells of a grid, (1, 1, H, W)."""

    def means(degree: int, count: int) -> Tensor:
        edges = side * torch.arange(count + 1, dtype=torch.float64)
        return (edges[1:] ** (degree + 1) - edges[:-1] ** (degree + 1)) / (side * (degree + 1))

    return torch.outer(means(degrees[0], height), means(degrees[1], width))[None, None]


@pytest.mark.parametrize("sides", SIDES, ids=str)
def test_prolonging_and_restricting_is_the_identity(sides: tuple[int, int]) -> None:
    coarse = random(2, 3, sides[0] // 2, sides[1] // 2)
    torch.testing.assert_close(restrict(prolong(coarse)), coarse, rtol=0, atol=1e-14)


@pytest.mark.parametrize("sides", SIDES, ids=str)
@pytest.mark.parametrize(("down", "up"), [(restrict, restrict_adjoint), (prolong_adjoint, prolong)])
def test_adjoints(sides: tuple[int, int], down: object, up: object) -> None:
    u, coarse = random(2, 3, *sides), random(2, 3, sides[0] // 2, sides[1] // 2)
    left = (down(u) * coarse).sum()  # type: ignore[operator]
    right = (u * up(coarse)).sum()  # type: ignore[operator]
    assert float(left) == pytest.approx(float(right), abs=1e-12)


@pytest.mark.parametrize("size", [1, 3, 5, 7, 9])
@pytest.mark.parametrize("sides", SIDES, ids=str)
def test_galerkin_kernels_are_restricting_after_the_fine_ones_after_prolonging(
    size: int, sides: tuple[int, int]
) -> None:
    """Boundary included, and for kernels without any symmetry."""
    kernels, coarse = random(3, 2, size, size), random(1, 2, sides[0] // 2, sides[1] // 2)
    found = correlate(coarse, galerkin_kernels(kernels))
    torch.testing.assert_close(found, restrict(correlate(prolong(coarse), kernels)), rtol=0, atol=1e-12)
    assert galerkin_kernels(kernels).shape[-1] == coarse_size(size)


@pytest.mark.parametrize("degrees", [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (2, 2), (1, 2)])
def test_prolonging_takes_means_of_quadratics_to_means_of_quadratics(degrees: tuple[int, int]) -> None:
    coarse, fine = cells(degrees, 6, 8, 2.0), cells(degrees, 12, 16, 1.0)
    inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    torch.testing.assert_close(prolong(coarse)[inside], fine[inside], rtol=1e-13, atol=1e-12)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [3, 5, 7])
def test_galerkin_kernels_keep_vanishing_moments(size: int, order: int) -> None:
    torch.manual_seed(0)
    bank = FilterBank(4, size, vanishing_moments=(order,)).double()
    with torch.no_grad():
        bank.picture.copy_(random(*bank.picture.shape))
    for kernel in galerkin_kernels(bank())[:, 0].detach().numpy():
        moments = moments_from_kernel(kernel)
        low = np.add.outer(np.arange(len(moments)), np.arange(len(moments))) < order
        assert np.abs(moments[low]).max(initial=0) < 1e-7


@pytest.mark.parametrize("alpha", [(1, 0), (0, 1), (1, 1), (2, 0)])
def test_a_galerkin_kernel_is_the_same_operator_on_the_mesh_of_the_fine_grid(alpha: tuple[int, int]) -> None:
    """On the coarse mesh its moment is 2^-order times that of the fine kernel, which rediscretisation would keep."""
    kernel = FilterBank(1, 5, basis="moments", norm="free", derivatives=(alpha,), accuracy=2).double()()
    moments = moments_from_kernel(galerkin_kernels(kernel)[0, 0].detach().numpy())
    assert moments[alpha] == pytest.approx(2.0 ** -sum(alpha), abs=1e-7)


def test_restricting_halves_white_noise() -> None:
    assert float(restrict(random(1, 1, 512, 512)).std()) == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("shape", [(1, 1, 3, 4), (1, 1, 4, 0), (4, 4)])
def test_odd_sides_are_refused(shape: tuple[int, ...]) -> None:
    for function in (restrict, prolong_adjoint):
        with pytest.raises(ValueError, match="even sides"):
            function(torch.zeros(shape))


# --- in a step


SCALES = TNRDConfig(stages=2, filters=3, kernel_size=3, nodes=11, reach=5.0, sigma_degree=2, scales=3)


def restless(config: TNRDConfig) -> TNRD:
    torch.manual_seed(0)
    model = TNRD(config).double().requires_grad_(False)
    for parameter in model.parameters():
        parameter += 0.2 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("coarse_kernels", ["galerkin", "rediscretised"])
def test_a_step_adds_the_diffusion_of_the_restricted_picture_prolonged_back(coarse_kernels: str) -> None:
    model = restless(dataclasses.replace(SCALES, stages=1, coarse_kernels=coarse_kernels))
    stage, f = model.stage(0), random(1, 1, 16, 24)
    sigma = torch.full((1, 1, 1, 1), 0.1, dtype=torch.float64)
    expected, state, level, kernels = model(f, 0.1), f, sigma, stage.filters()
    fine = DiffusionStage(stage.filters, stage.influence, 0.1, 2).double()
    fine.load_state_dict({key: value for key, value in stage.state_dict().items() if not key.startswith("coarse")})
    result = fine(f, f, sigma)
    for depth, scale in enumerate(stage.coarse, start=1):
        state, level = restrict(state), level / 2
        kernels = galerkin_kernels(kernels) if coarse_kernels == "galerkin" else kernels
        inner, outer = scale.scales(level)  # type: ignore[operator]
        z = correlate(state, kernels)
        influence = scale.influence(z, inner, outer)  # type: ignore[operator]
        force = torch.autograd.functional.vjp(lambda v, q=kernels: correlate(v, q), state, influence)[1]
        for _ in range(depth):
            force = prolong(force)
        result = result - force
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-10)


def test_influence_that_is_zero_on_the_coarse_grids_leaves_the_fine_diffusion() -> None:
    torch.manual_seed(0)
    model = TNRD(SCALES).double()
    one = TNRD(dataclasses.replace(SCALES, scales=1)).double()
    one.load_state_dict({key: value for key, value in model.state_dict().items() if ".coarse." not in key})
    f = random(1, 1, 16, 24)
    torch.testing.assert_close(model(f, 0.1), one(f, 0.1), rtol=0, atol=1e-12)


def test_a_map_of_one_level_is_that_level() -> None:
    model, f = restless(SCALES), random(1, 1, 18, 21)
    constant = torch.full((1, 1, 18, 21), 0.1, dtype=torch.float64)
    torch.testing.assert_close(model(f, constant), model(f, 0.1), rtol=0, atol=1e-12)


def test_everything_learns_whatever_the_scale() -> None:
    torch.manual_seed(0)
    model = TNRD(dataclasses.replace(SCALES, grid=2, companions=2))
    for module in model.modules():
        if isinstance(module, RadialBasisInfluence):
            torch.nn.init.normal_(module.weights, std=0.1)
    model(torch.rand(1, 1, 24, 24), 0.1).square().sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.numel() == 0 or name == "stages.0.reaction.theta":  # at the start, u = f
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_gradients_agree_with_differences() -> None:
    model = restless(dataclasses.replace(SCALES, stages=1, scales=2))
    for module in model.modules():
        if isinstance(module, RadialBasisInfluence):
            module.exact = True
    f = random(1, 1, 4, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: model(u, 0.3), (f,), atol=1e-6)


@pytest.mark.parametrize("wrong", [{"scales": 0}, {"scales": 7}, {"coarse_kernels": "fine"}])
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"scales must lie|coarse_kernels must be"):
        TNRD(dataclasses.replace(SCALES, **wrong))  # type: ignore[arg-type]
