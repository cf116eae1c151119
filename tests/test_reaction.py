"""The data term of denoising: energy, gradient, proximal map."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tnrd.reaction import denoising_energy, denoising_gradient, denoising_prox

SHAPE = (3, 2, 4, 5)
LAMBDAS = {
    "number": lambda: 0.7,
    "one": lambda: torch.tensor(0.7, dtype=torch.float64),
    "per image": lambda: torch.rand(3, 1, 1, 1, dtype=torch.float64),
    "per pixel": lambda: torch.rand(3, 1, 4, 5, dtype=torch.float64),
    "zero": lambda: 0.0,
}


def images(seed: int = 0) -> tuple[Tensor, Tensor]:
    u, f = torch.rand((2, *SHAPE), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return u, f


@pytest.mark.parametrize("lam", LAMBDAS.values(), ids=LAMBDAS.keys())
def test_gradient_is_that_of_the_energy(lam: object) -> None:
    weight = lam()  # type: ignore[operator]
    u, f = images()
    u.requires_grad_()
    energy = denoising_energy(u, f, weight)
    assert energy.shape == (3,)
    (gradient,) = torch.autograd.grad(energy.sum(), u)
    torch.testing.assert_close(denoising_gradient(u.detach(), f, weight), gradient)


def test_energy_is_half_the_weighted_square_distance_of_each_image() -> None:
    u, f = images()
    for n in range(3):
        distance = float(torch.linalg.vector_norm(u[n] - f[n]))
        assert float(denoising_energy(u, f, 3.0)[n]) == pytest.approx(1.5 * distance**2)
    assert not denoising_energy(f, f, 3.0).any()


@pytest.mark.parametrize("lam", LAMBDAS.values(), ids=LAMBDAS.keys())
def test_prox_minimises_its_objective(lam: object) -> None:
    weight = lam()  # type: ignore[operator]
    u, f = images(1)
    v = denoising_prox(u, f, weight).requires_grad_()
    objective = 0.5 * ((v - u) ** 2).sum() + denoising_energy(v, f, weight).sum()
    (gradient,) = torch.autograd.grad(objective, v)
    assert float(gradient.abs().max()) < 1e-14
    # Strictly convex: a vanishing gradient is the minimum. It is also an implicit step on the reaction.
    torch.testing.assert_close(v.detach(), u - denoising_gradient(v.detach(), f, weight))


@given(lam=st.floats(0, 1e6), seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_prox_moves_from_the_state_to_the_observation(lam: float, seed: int) -> None:
    u, f = images(seed)
    v = denoising_prox(u, f, lam)
    torch.testing.assert_close(v - f, (u - f) / (1 + lam), rtol=1e-9, atol=1e-14)


def test_float32_stays_float32() -> None:
    u, f = (image.float() for image in images())
    for function in (denoising_energy, denoising_gradient, denoising_prox):
        assert function(u, f, 0.5).dtype == torch.float32
