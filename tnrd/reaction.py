"""Data terms: what ties the diffusion to the observed image.

Each is a plain function of the state u and the observation f; ``gradient`` is the reaction of the step.
"""

from __future__ import annotations

from torch import Tensor


def denoising_energy(u: Tensor, f: Tensor, lam: Tensor | float) -> Tensor:
    """lambda/2 ||u - f||^2, one value per image.

    Args:
        u: (N, C, H, W) state, intensities in [0, 1].
        f: Observation, same shape.
        lam: lambda >= 0, broadcastable to ``u``.

    Returns:
        (N,) energies.
    """
    return (0.5 * lam * (u - f) ** 2).flatten(1).sum(1)


def denoising_gradient(u: Tensor, f: Tensor, lam: Tensor | float) -> Tensor:
    """lambda (u - f), the gradient of :func:`denoising_energy` in u; shapes as there."""
    return lam * (u - f)


def denoising_prox(u: Tensor, f: Tensor, lam: Tensor | float) -> Tensor:
    """argmin_v 1/2 ||v - u||^2 + lambda/2 ||v - f||^2 = (u + lambda f)/(1 + lambda); shapes as above."""
    return (u + lam * f) / (1 + lam)
