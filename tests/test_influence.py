"""Influence functions: the exact sum, its table and bound, and the dependence on the noise level."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tnrd.influence import RadialBasisInfluence, SigmaCurve, fit_influence
from tnrd.kernels.influence_torch import exact_influence, rbf_sum, table_influence

FloatArray = NDArray[np.float64]

ONE = torch.ones(1, 1, 1, 1)
LAYOUTS = [(63, 12.0, None), (47, 12.0, None), (2, 1.0, None), (5, 3.0, 0.3), (15, 2.0, 1.5)]


@pytest.fixture
def double_precision() -> Iterator[None]:
    """Modules are built in float64, so that the table's own error is seen and not float32 rounding."""
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(previous)


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_influence(
    filters: int = 3, nodes: int = 63, reach: float = 12.0, width: float | None = None, seed: int = 0
) -> RadialBasisInfluence:
    influence = RadialBasisInfluence(filters, nodes, reach, width)
    with torch.no_grad():
        influence.weights.copy_(normal(seed, filters, nodes))
    return influence


def naive_psi(z: FloatArray, weights: FloatArray, nodes: FloatArray, width: float) -> FloatArray:
    psi = np.zeros_like(z)
    for f in range(z.shape[1]):
        for w, m in zip(weights[f], nodes, strict=True):
            psi[:, f] += w * np.exp(-0.5 * ((z[:, f] - m) / width) ** 2)
    return psi


# --- the exact sum, its derivative and its potential


@pytest.mark.parametrize(("nodes", "reach", "width"), LAYOUTS)
def test_psi_is_the_sum_of_gaussians(nodes: int, reach: float, width: float | None) -> None:
    influence = random_influence(3, nodes, reach, width).double()
    z = 1.5 * reach * normal(1, 2, 3, 4, 5)
    weights, centres = influence.weights.detach().numpy(), influence.nodes.numpy()
    np.testing.assert_allclose(centres, np.linspace(-reach, reach, nodes), atol=1e-6 * reach)
    assert influence.width == pytest.approx(centres[1] - centres[0] if width is None else width)
    expected = naive_psi(z.numpy(), weights, centres, influence.width)
    np.testing.assert_allclose(influence.psi(z).detach(), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (1, 3, 2, 5)], ids=str)
def test_slope_and_potential_are_the_derivative_and_the_integral(shape: tuple[int, ...]) -> None:
    influence = random_influence().double()
    z, h = 8 * normal(2, *shape), 1e-5
    slope = (influence.psi(z + h) - influence.psi(z - h)) / (2 * h)
    torch.testing.assert_close(influence.slope(z), slope, rtol=0, atol=1e-8)
    psi = (influence.potential(z + h) - influence.potential(z - h)) / (2 * h)
    torch.testing.assert_close(influence.psi(z), psi, rtol=0, atol=1e-8)
    assert float(influence.potential(torch.zeros_like(z)).detach().abs().max()) < 1e-13


def test_autograd_agrees_with_the_closed_derivative() -> None:
    influence = random_influence().double()
    z = (6 * normal(3, 2, 3, 4, 4)).requires_grad_()
    (gradient,) = torch.autograd.grad(influence.psi(z).sum(), z)
    torch.testing.assert_close(gradient, influence.slope(z.detach()).detach(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 2), (1, 3, 2, 2)], ids=str)
def test_gradients_of_the_exact_sum(shape: tuple[int, ...]) -> None:
    z, weights = (2 * normal(4, *shape)).requires_grad_(), normal(5, 3, 7).requires_grad_()
    nodes = torch.linspace(-3, 3, 7, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z, w: exact_influence(z, w, nodes, 0.8), (z, weights))
    assert torch.autograd.gradgradcheck(lambda z, w: exact_influence(z, w, nodes, 0.8), (z, weights))


def test_the_potential_is_bounded_below_for_odd_edge_stopping_psi() -> None:
    influence = RadialBasisInfluence(1, initial=lambda z: z / (1 + z**2)).double()
    rho = influence.potential(torch.linspace(-11, 11, 401, dtype=torch.float64).view(1, 1, -1)).detach()
    torch.testing.assert_close(rho, rho.flip(-1), rtol=0, atol=1e-6)
    assert float(rho.min()) > -1e-3
    # rho of z/(1 + z^2) is log(1 + z^2)/2
    assert float(rho[0, 0, -1]) == pytest.approx(0.5 * math.log(1 + 11**2), rel=0.02)


# --- fitting a function


@pytest.mark.parametrize("nodes", [15, 31, 63])
def test_fit_recovers_functions_of_the_span(nodes: int) -> None:
    centres = np.linspace(-12, 12, nodes)
    width = float(centres[1] - centres[0])
    weights = np.random.default_rng(nodes).standard_normal(nodes)

    def psi(z: FloatArray) -> FloatArray:
        return naive_psi(z[None, None], weights[None], centres, width)[0, 0]

    np.testing.assert_allclose(fit_influence(psi, centres, width), weights, rtol=0, atol=1e-9)


@pytest.mark.parametrize("psi", [np.sin, np.tanh, lambda z: z / (1 + (z / 3) ** 2), lambda z: 0 * z + 1])
def test_fit_is_the_least_squares_one_and_close_where_it_matters(psi: Callable[[FloatArray], FloatArray]) -> None:
    centres = np.linspace(-12, 12, 63)
    width = float(centres[1] - centres[0])
    weights = fit_influence(psi, centres, width)
    z = np.linspace(-12, 12, 8 * 63)
    phi = np.exp(-0.5 * ((z[:, None] - centres) / width) ** 2)
    residual = phi @ weights - psi(z)
    assert np.abs(phi.T @ residual).max() < 1e-6, "a least-squares residual is orthogonal to every Gaussian"
    # Without Gaussians beyond the outer nodes the fit bends there; four fifths of the range are the function itself.
    assert np.abs(residual[np.abs(z) < 9.6]).max() < 5e-3 * np.abs(psi(z)).max()


def test_every_function_starts_from_the_initial_one() -> None:
    influence = RadialBasisInfluence(4, initial=lambda z: 0.1 * np.sin(z)).double()
    z = torch.linspace(-9, 9, 301, dtype=torch.float64).expand(1, 4, -1)
    torch.testing.assert_close(influence.psi(z).detach(), 0.1 * torch.sin(z), rtol=0, atol=1e-4)
    assert influence.nodes.shape == (63,), "63 nodes by default"
    assert not RadialBasisInfluence(2).weights.any(), "zero without an initial function"


@pytest.mark.parametrize(
    ("arguments", "values"),
    [({"nodes": 1}, "got 1, 12.0, None"), ({"reach": 0.0}, "got 63, 0.0"), ({"width": -1.0}, "12.0, -1.0")],
)
def test_settings_out_of_range_are_refused(arguments: dict[str, Any], values: str) -> None:
    with pytest.raises(ValueError, match=rf"psi needs 2 nodes or more, positive reach and width; .*{values}"):
        RadialBasisInfluence(2, **arguments)


# --- the table


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("nodes", "reach", "width"), [*LAYOUTS, (63, 12.0, 2.0)])
def test_table_error_is_within_its_bound_and_the_bound_is_not_loose(
    nodes: int, reach: float, width: float | None, seed: int
) -> None:
    influence = random_influence(4, nodes, reach, width, seed)
    end = reach + 8 * influence.width  # three widths beyond the table, which ends five beyond the outer nodes
    z = torch.linspace(-end, end, 60_001).expand(1, 4, 1, -1)
    with torch.no_grad():
        error = (influence(z, ONE.double(), ONE.double()) - influence.psi(z)).abs().amax((0, 2, 3))
        bound = influence.table_error()
    assert bool((error <= bound).all())
    assert bool((bound <= 10 * error).all())
    assert bool((bound < 2e-3 * influence.weights.abs().sum(1)).all())


@pytest.mark.usefixtures("double_precision")
def test_table_error_of_isolated_gaussians_is_that_of_linear_interpolation() -> None:
    """spacing^2/8 max |psi''|, and |psi''| is largest, |w|/gamma^2, on top of a Gaussian."""
    influence = random_influence(3, 2, 8.0, 0.5)
    expected = (influence.spacing / influence.width) ** 2 / 8 * influence.weights.detach().abs().amax(1)
    torch.testing.assert_close(influence.table_error(), expected, rtol=0.05, atol=0)


def test_table_and_exact_sum_agree_in_float32_with_factors() -> None:
    influence = random_influence(3)
    z = normal(6, 2, 3, 9, 7, dtype=torch.float32)
    inner, outer = 3 * torch.rand(2, 3, 1, 1) + 0.5, torch.rand(2, 3, 1, 1)
    with torch.no_grad():
        from_table = influence(z, inner, outer)
        influence.exact = True
        exact = influence(z, inner, outer)
        bound = influence.table_error().view(1, 3, 1, 1).float() + 1e-5
    torch.testing.assert_close(exact, outer * influence.psi(inner * z).detach())
    assert bool(((from_table - exact).abs() <= outer * bound).all())


@pytest.mark.parametrize("exact", [False, True])
def test_gradients_of_the_module(exact: bool) -> None:
    influence = random_influence(2, 7, 3.0).double()
    influence.exact = exact
    z = normal(7, 1, 2, 2, 3).requires_grad_()
    inner, outer = (1 + 0.1 * normal(8, 1, 2, 1, 1)).requires_grad_(), normal(9, 1, 2, 1, 1).requires_grad_()

    def psi(z: Tensor, inner: Tensor, outer: Tensor, weights: Tensor) -> Tensor:
        psi_: Tensor = torch.func.functional_call(influence, {"weights": weights}, (z, inner, outer))
        return psi_

    assert torch.autograd.gradcheck(psi, (z, inner, outer, influence.weights))


# --- the table

FACTORS = {
    "number": lambda n, f, h, w: (),
    "per image and filter": lambda n, f, h, w: (n, f, 1, 1),
    "per pixel": lambda n, f, h, w: (n, 1, h, w),
    "all": lambda n, f, h, w: (n, f, h, w),
}
ORIGIN, SPACING, SAMPLES = -3.1, 0.07, 89


def problem(shape: tuple[int, int, int, int], factors: str) -> list[Tensor]:
    """z, table, inner and outer; no response lies near a knot, where the derivative jumps."""
    rng = np.random.default_rng([*shape, len(factors)])
    position = rng.integers(-9, SAMPLES + 9, shape) + rng.uniform(0.1, 0.9, shape)
    inner, outer = (rng.uniform(0.5, 2, FACTORS[factors](*shape)) for _ in range(2))
    x = ORIGIN + SPACING * np.arange(SAMPLES)
    table = np.sin(rng.uniform(1, 3, (shape[1], 1)) * x + rng.uniform(0, 6, (shape[1], 1)))
    return [torch.tensor(array) for array in ((ORIGIN + SPACING * position) / inner, table, inner, outer)]


@pytest.mark.parametrize("factors", FACTORS)
def test_the_table_is_interpolated_as_numpy_does(factors: str) -> None:
    z, table, inner, outer = problem((2, 3, 9, 8), factors)
    psi = table_influence(z, table, ORIGIN, SPACING, inner, outer).numpy()
    x = ORIGIN + SPACING * np.arange(SAMPLES)
    argument = (inner * z).numpy()
    expected = np.stack([np.interp(argument[:, f], x, table[f].numpy()) for f in range(3)], axis=1)
    np.testing.assert_allclose(psi, outer.numpy() * expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("factors", FACTORS)
def test_gradients_of_the_table(factors: str) -> None:
    leaves = [leaf.requires_grad_() for leaf in problem((2, 3, 2, 2), factors)]

    def psi(z: Tensor, table: Tensor, inner: Tensor, outer: Tensor) -> Tensor:
        return table_influence(z, table, ORIGIN, SPACING, inner, outer)

    assert torch.autograd.gradcheck(psi, leaves)


def test_responses_that_are_not_finite_stay_where_they_are() -> None:
    z, table = torch.zeros(1, 5, 40, 40), torch.arange(50.0).expand(5, 50).clone()
    z[0, :, 17, 3] = torch.tensor([torch.nan, torch.inf, -torch.inf, 3e38, -3e38])
    z.requires_grad_(), table.requires_grad_()
    psi = table_influence(z, table, -24.5, 1.0, ONE, ONE)
    at = psi[0, :, 17, 3].tolist()
    assert math.isnan(at[0])
    assert at[1:] == [49.0, 0.0, 49.0, 0.0]
    rest = psi.detach().clone()
    rest[0, :, 17, 3] = 24.5
    assert bool((rest == 24.5).all())
    psi.sum().backward()
    assert table.grad is not None
    assert bool(torch.isfinite(table.grad[1:]).all())


# --- dependence on the noise level


def random_curve(degree: int = 3, count: int = 4) -> SigmaCurve:
    curve = SigmaCurve(count, degree).double()
    with torch.no_grad():
        curve.theta.copy_(0.5 * normal(degree, count, degree + 1))
    return curve


def level(*sigmas: float) -> Tensor:
    return torch.tensor(sigmas, dtype=torch.float64).view(-1, 1, 1, 1)


def test_copies_are_the_same_functions_once_more() -> None:
    once, twice = RadialBasisInfluence(2, 9, 3.0), RadialBasisInfluence(4, 9, 3.0, copies=2)
    with torch.no_grad():
        once.weights.normal_()
        twice.weights.copy_(once.weights)
    z = torch.linspace(-4, 4, 50).expand(1, 2, -1)
    for name in ("psi", "slope", "potential"):
        torch.testing.assert_close(getattr(twice, name)(z.repeat(1, 2, 1)), getattr(once, name)(z).repeat(1, 2, 1))
    assert torch.equal(twice.table(), once.table().repeat(2, 1))
    torch.testing.assert_close(twice.table_error(), once.table_error().repeat(2))
    scale, responses = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1), z[..., None]
    for exact in (False, True):
        once.exact = twice.exact = exact
        expected = once(responses, scale, ONE).repeat(1, 2, 1, 1)
        torch.testing.assert_close(twice(responses.repeat(1, 2, 1, 1), scale.repeat(1, 2, 1, 1), ONE), expected)
    curve, curves = SigmaCurve(2, 1), SigmaCurve(4, 1, copies=2)
    with torch.no_grad():
        curve.theta.normal_()
        curves.theta.copy_(curve.theta)
    assert torch.equal(curves(0.1 * ONE), curve(0.1 * ONE).repeat(1, 2, 1, 1))
    with pytest.raises(ValueError, match="3 functions cannot be 2 copies"):
        RadialBasisInfluence(3, 9, copies=2)
    with pytest.raises(ValueError, match="3 functions cannot be 2 copies"):
        SigmaCurve(3, copies=2)


@pytest.mark.parametrize("degree", [0, 1, 2, 5])
def test_sigma_curve_is_the_exponential_of_a_chebyshev_polynomial(degree: int) -> None:
    curve = random_curve(degree)
    sigma = torch.linspace(0, 75 / 255, 50, dtype=torch.float64).view(-1, 1, 1, 1)
    x = 2 * np.log1p(sigma.flatten().numpy() * 255 / 5) / np.log(16) - 1
    theta = curve.theta.detach().numpy()
    expected = np.exp(np.polynomial.chebyshev.chebval(np.clip(x, -1, 1), theta.T)).T
    np.testing.assert_allclose(curve(sigma).detach()[:, :, 0, 0], expected, rtol=1e-9)


def test_sigma_curve_is_positive_smooth_and_constant_beyond_75() -> None:
    curve = random_curve()
    with torch.no_grad():
        sigma = torch.linspace(0, 1, 4001, dtype=torch.float64).view(-1, 1, 1, 1)
        values = curve(sigma)[:, :, 0, 0]
        assert float(values.min()) > 0
        beyond = values[sigma.flatten() >= 75 / 255]
        torch.testing.assert_close(beyond, beyond[:1].expand_as(beyond), rtol=1e-13, atol=0)
        assert float(values.diff(dim=0).abs().max()) < 0.05 * float(values.max()), "no jump, at 75 neither"
        torch.testing.assert_close(curve(level(75 / 255)), curve(level(2.0)))
        assert curve(torch.zeros(2, 1, 3, 5, dtype=torch.float64)).shape == (2, 4, 3, 5)


@pytest.mark.parametrize("initial", [0.1, 1.0, 3.0])
def test_sigma_curve_starts_constant(initial: float) -> None:
    values = SigmaCurve(3, 4, initial)(torch.linspace(0, 0.5, 9).view(-1, 1, 1, 1)).detach()
    torch.testing.assert_close(values, torch.full_like(values, initial))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("degree", [0, 1, 3, 6])
@pytest.mark.parametrize("sigma", [0.0, 1e-9, 1e-3, 75 / 255, 76 / 255, 1.0])
def test_sigma_curve_has_finite_gradients_everywhere(sigma: float, degree: int, dtype: torch.dtype) -> None:
    """Also at the ends, where the arc cosine of the textbook formula has an infinite slope."""
    curve = random_curve(degree).to(dtype)
    at = torch.full((1, 1, 1, 1), sigma, dtype=dtype, requires_grad=True)
    # The factor keeps sigma in the graph of a constant curve too.
    (at * curve(at)).sum().backward()
    assert at.grad is not None
    assert curve.theta.grad is not None
    assert bool(torch.isfinite(at.grad).all())
    assert bool(torch.isfinite(curve.theta.grad).all())
    if sigma > 75 / 255 or degree == 0:
        assert float(at.grad) == pytest.approx(float(curve(at.detach()).sum().detach()))


@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.25])
def test_gradients_of_the_sigma_curve(sigma: float) -> None:
    curve = random_curve()

    def values(theta: Tensor, sigma: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(curve, {"theta": theta}, (sigma,))
        return result

    assert torch.autograd.gradcheck(values, (curve.theta, level(sigma, 2 * sigma / 3).requires_grad_()))


def test_rbf_sum_leaves_its_arguments_alone() -> None:
    z, weights, nodes = normal(10, 1, 2, 3, 3), normal(11, 2, 5), torch.linspace(-1, 1, 5, dtype=torch.float64)
    copies = [tensor.clone() for tensor in (z, weights, nodes)]
    for derivative in (-1, 0, 1):
        rbf_sum(z, weights, nodes, 0.5, derivative)
    for tensor, copy in zip((z, weights, nodes), copies, strict=True):
        assert torch.equal(tensor, copy)
