"""Colour pictures with a model of grey pictures.

The channels are rotated by the orthonormal DCT across them,

    (1, 1, 1)/sqrt(3)  luminance,    (1, 0, -1)/sqrt(2)  red against blue,    (1, -2, 1)/sqrt(6)  green against both,

which keeps white noise white and at its level, and gathers the structure that the channels share in the first plane.
The luminance then goes to the model as the mean (R + G + B)/3, at the intensities of a natural picture, with a noise
sqrt(3) times weaker than that of a channel; the chrominances stay as they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

CHANNELS = 3
# What the planes are multiplied with before the model sees them. On training pictures the luminance is best at this
# scale, and the chrominances, of much lower contrast, hardly depend on theirs.
PLANE_SCALES = (1 / math.sqrt(3), 1.0, 1.0)


def opponent_matrix() -> Tensor:
    """The orthonormal transform M, (3, 3) float64, its rows the planes."""
    rows = [[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]]
    return functional.normalize(torch.tensor(rows, dtype=torch.float64), dim=1)


def to_planes(rgb: Tensor) -> Tensor:
    """Luminance and chrominance planes v_i = s_i sum_j M_ij u_j, from RGB.

    Args:
        rgb: (3, H, W), intensities nominally in [0, 1].

    Returns:
        (3, H, W): the mean of the channels, and two opponent planes around 0.
    """
    return torch.einsum("ij,jhw->ihw", _forward().to(rgb), rgb)


def from_planes(planes: Tensor) -> Tensor:
    """The inverse of :func:`to_planes`, u_j = sum_i M_ij v_i/s_i; shapes as there."""
    inverse = opponent_matrix().T / _scales()
    return torch.einsum("ji,ihw->jhw", inverse.to(planes), planes)


def plane_levels(sigma: Tensor, planes: Tensor | None = None) -> Tensor:
    """Noise levels of the planes, s_i sqrt(sum_j M_ij^2 sigma_j^2) for noise that is independent between channels.

    Args:
        sigma: (3,) one level a channel, or (H, W) a map for all channels, on the scale of the channels.
        planes: (3,) the standard deviations of (M u)_i, where the noise is not independent.

    Returns:
        (3,), or (3, 1, H, W), on the scale of the planes.

    Raises:
        ValueError: The levels have another shape.
    """
    if planes is not None:
        return _scales().to(planes) * planes
    if sigma.ndim == 2:
        return _scales().to(sigma)[:, None, None, None] * sigma
    if tuple(sigma.shape) != (CHANNELS,):
        raise ValueError(f"sigma must hold 3 values or be a map (H, W), got the shape {tuple(sigma.shape)}.")
    return ((_forward() ** 2).to(sigma) @ sigma**2).sqrt()


def _scales() -> Tensor:
    return torch.tensor(PLANE_SCALES, dtype=torch.float64)


def _forward() -> Tensor:
    return _scales()[:, None] * opponent_matrix()
