"""Grids of several resolutions: restriction, prolongation, and kernels for the coarse ones.

Cells of the coarse grid are pairs of cells of the fine one, in each direction,

    (R u)_j = (u_2j + u_2j+1)/2,
    (P U)_2j = U_j - (U_j+1 - U_j-1)/8,    (P U)_2j+1 = U_j + (U_j+1 - U_j-1)/8:

R is the full weighting of cell-centred grids, which halves the standard deviation of white noise in two dimensions; P
interpolates linearly within each cell, with the slope of the central difference. RP = I, and P R u = u for every linear
u. (It is the biorthogonal wavelet pair (1, 3) of Cohen, Daubechies & Feauveau, Comm. Pure Appl. Math. 45(5), 1992.)
Both mirror at the boundary, half-sample symmetrically; sides are even, so that the boundary is one between cells and
RP = I holds there, too.

*Galerkin kernels.* With K_h the correlation with q, K_H = R K_h P is again a correlation, with

    q_H = S q S^T,    S[m, a] = sum_{x in {0, 1}} p(x + a - 2m)/2,

a and m counted from the middle, p the response of P to a single cell; the boundary included, since R, K_h and P mirror
alike. It has 5 x 5 taps for q of 3 x 3 and 5 x 5, and 7 x 7 for 7 x 7 and 9 x 9, and as many vanishing moments as q up
to three: P takes means over coarse cells of polynomials of degree 2 to those over fine cells. K_H is the same operator
as K_h, on the mesh of the fine grid; *rediscretisation*, which takes q itself on the coarse grid, is that operator on
the coarse mesh, 2^order times as large.

Chen & Pock's diffusion has one scale; Galerkin operators: Trottenberg, Oosterlee & Schueller, Multigrid, 2001, 2.3.2.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional

from tnrd.kernels.correlate_torch import fold_mirrored, pad_mirrored

# p(t) for t = -2 ... 3: what a coarse cell with value 1 adds to the fine cells 2j - 2 ... 2j + 3.
PROLONGATION = (-1 / 8, 1 / 8, 1.0, 1.0, 1 / 8, -1 / 8)


def restrict(u: Tensor) -> Tensor:
    """R u, the means of 2 x 2 cells.

    Args:
        u: (N, C, H, W), both sides even.

    Returns:
        (N, C, H/2, W/2).

    Raises:
        ValueError: A side is odd or 0.
    """
    _check_even(u)
    return functional.avg_pool2d(u, 2)


def restrict_adjoint(coarse: Tensor) -> Tensor:
    """R^T U: a quarter of its value to each cell of a block, (N, C, H/2, W/2) -> (N, C, H, W)."""
    return functional.interpolate(coarse / 4, scale_factor=2, mode="nearest")


def prolong(coarse: Tensor) -> Tensor:
    """P U, linear within each cell; mirrored boundary.

    Args:
        coarse: (N, C, H, W), H, W >= 1.

    Returns:
        (N, C, 2H, 2W).
    """
    for axis in (2, 3):
        slope = _slope(coarse, axis)
        coarse = torch.stack((coarse - slope, coarse + slope), dim=axis + 1).flatten(axis, axis + 1)
    return coarse


def prolong_adjoint(u: Tensor) -> Tensor:
    """P^T u, such that <P U, u> = <U, P^T u>, boundary included.

    Args:
        u: (N, C, H, W), both sides even.

    Returns:
        (N, C, H/2, W/2).

    Raises:
        ValueError: A side is odd or 0.
    """
    _check_even(u)
    for axis in (3, 2):
        left, right = u.unflatten(axis, (-1, 2)).unbind(axis + 1)  # type: ignore[no-untyped-call]
        u = left + right + _slope_adjoint(right - left, axis)
    return u


def galerkin_kernels(kernels: Tensor) -> Tensor:
    """The kernels of R K P, S q S^T for each.

    Args:
        kernels: (F, C, k, k), k odd.

    Returns:
        (F, C, k', k'), k' as :func:`coarse_size` tells.
    """
    matrix = _galerkin_tensor(kernels.shape[-1], kernels.dtype, kernels.device)
    return matrix @ kernels @ matrix.T


def coarse_size(size: int) -> int:
    """Side 2 floor((k + 5)/4) + 1 of a Galerkin kernel: 5 for k = 3 and 5, 7 for 7 and 9."""
    return 2 * ((size + 5) // 4) + 1


def _slope(coarse: Tensor, axis: int) -> Tensor:
    """(U_j+1 - U_j-1)/8 along an axis."""
    wide, length = pad_mirrored(coarse, 1), coarse.shape[axis]
    wide = wide.narrow(5 - axis, 1, coarse.shape[5 - axis])
    return (wide.narrow(axis, 2, length) - wide.narrow(axis, 0, length)) / 8


def _slope_adjoint(difference: Tensor, axis: int) -> Tensor:
    later = functional.pad(difference, (2, 0) if axis == 3 else (0, 0, 2, 0))
    earlier = functional.pad(difference, (0, 2) if axis == 3 else (0, 0, 0, 2))
    wide = functional.pad((later - earlier) / 8, (0, 0, 1, 1) if axis == 3 else (1, 1, 0, 0))
    return fold_mirrored(wide, 1)


@functools.cache
def _galerkin_matrix(size: int) -> tuple[tuple[float, ...], ...]:
    """S as rows m over columns a."""
    c, reach = size // 2, coarse_size(size) // 2

    def p(t: int) -> float:
        return PROLONGATION[t + 2] if -2 <= t <= 3 else 0.0

    return tuple(
        tuple((p(a - 2 * m) + p(1 + a - 2 * m)) / 2 for a in range(-c, c + 1)) for m in range(-reach, reach + 1)
    )


@functools.cache
def _galerkin_tensor(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """S on a device, where it stays: a copy from the host in every step would make the host wait."""
    with torch.inference_mode(False):
        return torch.tensor(_galerkin_matrix(size), dtype=dtype, device=device)


def _check_even(u: Tensor) -> None:
    if u.ndim != 4 or any(side == 0 or side % 2 for side in u.shape[2:]):
        raise ValueError(f"Expected a tensor (N, C, H, W) of even sides, got {tuple(u.shape)}.")
