"""Learned filter banks under vanishing-moment constraints.

A bank maps an image with C components to F responses; its kernels q_i have shape (C, k, k) and are linear in free
coefficients theta,

    q_i = sum_{a + b >= p_i} theta_i[a, b] P_a (x) P_b,

with P the orthonormal Gram polynomials (or DCT vectors) of :mod:`tnrd.moments`. With Gram polynomials the sum is
exactly the set of kernels with p_i vanishing moments; with the DCT and p_i = 1 only the mean is removed, as in
Chen & Pock, TPAMI 2017.

A bank of *derivatives* prescribes more of the moment matrix: kernel i approximates d^alpha_i, m[alpha_i] = 1 and every
other moment of degree below |alpha_i| + accuracy zero (total sum rules of that order, Long et al., PDE-Net, 2018),

    q_i = D_alpha_i + sum_{a + b >= |alpha_i| + accuracy} theta_i[a, b] P_a (x) P_b,

D_alpha the stencil of least norm; theta is what remains free to learn.

A bank *with transposes* holds each kernel q(x, y) together with q(y, x): photographs look alike either way, and so the
same coefficients serve twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tnrd.moments import OperatorName, dct_basis, derivative_kernel, gram_basis, name_operator

BASES = {"moments": gram_basis, "dct": dct_basis}
NORMS = ("unit", "bounded", "free")


@dataclass(frozen=True)
class Components:
    """How the C components that a kernel reads are laid out.

    Attributes:
        channels: Channels of the picture: 1 for grey, 3 for colour.
        grid: Side g of the cells of the computational grid. With g = 2 the picture is held as its g^2 phases on the
            half-resolution grid (pixel unshuffle); a k x k kernel over those phases is a gk x gk kernel of the picture
            applied with stride g, and its moments are taken there.
        companions: Further components on the computational grid that react and diffuse with the picture.
    """

    channels: int = 1
    grid: int = 1
    companions: int = 0

    @property
    def observed(self) -> int:
        """Components that hold the picture itself."""
        return self.channels * self.grid**2

    @property
    def total(self) -> int:
        """All components C, the observed ones first."""
        return self.observed + self.companions


class FilterBank(nn.Module):
    """F kernels of shape (C, k, k) with vanishing moments on the observed components.

    Args:
        filters: Number F of kernels.
        size: Side k of a kernel, odd.
        components: What the kernels read.
        vanishing_moments: Orders p_i on the picture, repeated cyclically over the filters. Companions are free (order
            0): a kernel may react to their values, not only to their derivatives.
        basis: "moments" or "dct"; the DCT has no vanishing moments beyond the mean, so its orders are at most 1.
        norm: "unit" (every kernel has l2 norm 1), "bounded" (at most 1) or "free".
        derivatives: Orders alpha = (rows, columns), repeated cyclically over the filters, that the kernels approximate
            on every channel; replaces ``vanishing_moments``, needs basis "moments" and norm "free".
        accuracy: Order of the sum rules beyond |alpha|, at least 1.
        transposes: The last F/2 kernels are the transposes of the first F/2, over which orders are repeated; F is even.
            Not with ``derivatives``, which come with the transposes that one asks for.

    Raises:
        ValueError: A setting is out of range.
    """

    picture_basis: Tensor
    companion_basis: Tensor
    free: Tensor
    fixed: Tensor

    def __init__(
        self,
        filters: int,
        size: int,
        components: Components | None = None,
        *,
        vanishing_moments: tuple[int, ...] = (1,),
        basis: str = "moments",
        norm: str = "unit",
        derivatives: tuple[tuple[int, int], ...] = (),
        accuracy: int = 1,
        transposes: bool = False,
    ) -> None:
        super().__init__()
        if transposes and filters % 2:
            raise ValueError(f"Filters with their transposes are even in number, got {filters}.")
        if transposes and derivatives:
            raise ValueError("A bank of derivatives has no transposes beside them: ask for those derivatives.")
        self.transposes = transposes
        filters = filters // 2 if transposes else filters
        self.components = components = components or Components()
        self.size = size
        self.norm = norm
        if derivatives:
            if basis != "moments" or norm != "free":
                raise ValueError(f'derivatives need basis "moments" and norm "free", got {basis!r} and {norm!r}.')
            vanishing_moments = tuple(sum(alpha) + accuracy for alpha in derivatives)
        fine = size * components.grid
        stencils = [derivative_kernel(alpha, fine, accuracy) for alpha in derivatives]
        orders = _check_bank(filters, size, components, vanishing_moments, basis, norm)
        fixed = [stencils[i % len(stencils)] for i in range(filters)] if stencils else [np.zeros((fine, fine))]
        self.register_buffer("fixed", _in_phases(np.stack(fixed)[:, None], components.grid), persistent=False)
        degree = torch.arange(fine)[:, None] + torch.arange(fine)[None, :]
        free = degree[None] >= torch.tensor([orders[i % len(orders)] for i in range(filters)])[:, None, None]
        self.register_buffer("free", free[:, None].to(torch.get_default_dtype()), persistent=False)
        for name, side, grid in (("picture_basis", fine, components.grid), ("companion_basis", size, 1)):
            products = np.kron(BASES[basis](side), BASES[basis](side)).reshape(-1, side, side)
            self.register_buffer(name, _in_phases(products, grid), persistent=False)
        self.picture = nn.Parameter(_initial_coefficients(filters, components, free, degree, transposes))
        companion_shape = (filters, components.companions, size, size)
        self.companion = nn.Parameter(
            torch.randn(companion_shape) if components.companions else torch.zeros(companion_shape)
        )
        if derivatives:
            nn.init.zeros_(self.picture)
            nn.init.zeros_(self.companion)
            return
        with torch.no_grad():  # unit norm also when it is not enforced; Adam's step is relative to this scale
            length = (self.picture.flatten(1).norm(dim=1) ** 2 + self.companion.flatten(1).norm(dim=1) ** 2).sqrt()
            self.picture.div_(length[:, None, None, None])
            self.companion.div_(length[:, None, None, None])

    def forward(self) -> Tensor:
        """The kernels, (F, C, k, k)."""
        coefficients: list[Tensor] = [self.picture * self.free, self.companion]
        if self.transposes:  # those of a kernel are those of its coefficients
            coefficients = [torch.cat([theta, theta.mT]) for theta in coefficients]
        picture, companion = (theta.flatten(2) for theta in coefficients)
        picture = self.fixed + picture @ self.picture_basis
        companion = companion @ self.companion_basis  # of none, too: every parameter has its gradient
        kernels = torch.cat([picture.flatten(1), companion.flatten(1)], dim=1)
        kernels = kernels.view(-1, self.components.total, self.size, self.size)
        if self.norm == "free":
            return kernels
        length = kernels.flatten(1).norm(dim=1)[:, None, None, None]
        unit: Tensor = kernels / length.clamp_min(1e-12 if self.norm == "unit" else 1.0)
        return unit

    @torch.no_grad()
    def operators(self) -> list[list[OperatorName | None]]:
        """For each filter, the operator it applies to each channel of the picture (on the picture's own grid).

        None stands for a channel that the filter does not read.
        """
        g, observed = self.components.grid, self.components.observed
        kernels = self().double()[:, :observed]
        fine = functional.pixel_shuffle(kernels, g) if g > 1 else kernels
        return [[name_operator(q) if np.any(q) else None for q in filter_.cpu().numpy()] for filter_ in fine]


def _in_phases(kernels: NDArray[np.float64], grid: int) -> Tensor:
    """Kernels (..., g k, g k) of a picture as they act on its g^2 phases, (..., g^2 k k)."""
    *leading, side, _ = kernels.shape
    by_phase = kernels.reshape(*leading, side // grid, grid, side // grid, grid)
    by_phase = np.moveaxis(by_phase, (-3, -1), (-4, -3))
    return torch.tensor(by_phase.reshape(*leading, -1), dtype=torch.get_default_dtype())


def _initial_coefficients(
    filters: int, components: Components, free: Tensor, degree: Tensor, transposes: bool
) -> Tensor:
    """The first F basis kernels, lowest order first, when there are enough of them; random directions otherwise.

    With transposes, too: those of basis kernels are basis kernels again, and two that begin alike stay alike.
    """
    size = degree.shape[0]
    shape = (filters, components.channels, size, size)
    candidates = sorted(((a, b) for a in range(size) for b in range(size)), key=lambda ab: (ab[0] + ab[1], ab))
    if components.total > 1 or transposes:
        return torch.randn(shape) * free[:, None]
    theta = torch.zeros(shape)
    taken: set[tuple[int, int]] = set()
    for i in range(filters):
        choice = next((ab for ab in candidates if free[i][ab] and ab not in taken), None)
        if choice is None:
            theta[i] = torch.randn(shape[1:]) * free[i]
        else:
            taken.add(choice)
            theta[i][(0, *choice)] = 1.0
    return theta


def _check_bank(
    filters: int, size: int, components: Components, orders: tuple[int, ...], basis: str, norm: str
) -> tuple[int, ...]:
    if filters < 1 or size < 1 or size % 2 == 0:
        raise ValueError(f"A bank needs at least one filter of odd size, got {filters} filters of size {size}.")
    if components.channels < 1 or components.grid < 1 or components.companions < 0:
        raise ValueError(f"channels and grid must be at least 1 and companions at least 0, got {components}.")
    if basis not in BASES:
        raise ValueError(f"basis must be one of {', '.join(BASES)}, got {basis!r}.")
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}.")
    highest = 1 if basis == "dct" else 2 * (size * components.grid - 1)
    if not orders or min(orders) < 0 or max(orders) > highest:
        raise ValueError(
            f"vanishing_moments must lie in [0, {highest}] for basis {basis!r} and size {size}, got {orders}."
        )
    return orders
