"""One step of nonlinear reaction diffusion.

    u_t = u_{t-1} - [ sum_i K_i^T psi_i(K_i u_{t-1}) + lambda (u_{t-1} - f) ],

the sum being the gradient of sum_i rho_i(K_i u) where each psi_i acts on its own response. Perona-Malik is the same
force with forward differences for K_i.

With more than one scale the diffusion of the restricted image, prolonged back, is added for each coarser grid
(:mod:`tnrd.multiscale`), with the same operators and influence functions of its own,

    sum_s P^s [ sum_i K_{s,i}^T psi_{s,i}(K_{s,i} R^s u_{t-1}) ],    K_{s,i} = R^s K_i P^s  or  K_i's own stencil.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tnrd.filters import Components, FilterBank
from tnrd.influence import SIGMA_FLOOR, RadialBasisInfluence, SigmaCurve, curves_together
from tnrd.kernels.correlate_torch import correlate
from tnrd.kernels.dispatch import diffusion_step
from tnrd.kernels.step_torch import diffusion_force, with_reaction
from tnrd.multiscale import galerkin_kernels, prolong, restrict
from tnrd.reaction import denoising_energy, denoising_gradient

GALERKIN, REDISCRETISED = COARSE_KERNELS = ("galerkin", "rediscretised")


class Prepared(NamedTuple):
    """What a step on one grid is computed with, at its noise levels: the arguments of a step but image and state.

    ``kept`` is there if kernels and table never change: see :func:`tnrd.kernels.dispatch.diffusion_step`.
    """

    kernels: Tensor
    table: Tensor
    inner: Tensor
    outer: Tensor
    reaction: Tensor
    kept: dict[str, Any] | None = None

    @classmethod
    def of(cls, tensors: Iterable[Tensor]) -> Prepared:
        """With nothing kept."""
        kernels, table, inner, outer, reaction = tensors
        return cls(kernels, table, inner, outer, reaction)

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """All but what is kept."""
        return self[:5]


class ScaledInfluence(nn.Module):
    """Influence functions with their scales c(sigma)/sigma and sigma b(sigma), of one grid."""

    def __init__(self, influence: RadialBasisInfluence, degree: int) -> None:
        super().__init__()
        self.influence = influence
        count, copies = len(influence.weights) * influence.copies, influence.copies
        self.argument_scale = SigmaCurve(count, degree, copies=copies)
        self.value_scale = SigmaCurve(count, degree, copies=copies)

    def scales(self, sigma: Tensor, *others: SigmaCurve) -> tuple[Tensor, ...]:
        """Factors on the argument and on the value of psi, (N, F, 1, 1) or (N, F, H, W), and values of other curves."""
        argument, value, *rest = curves_together((self.argument_scale, self.value_scale, *others), sigma)
        return argument / sigma.clamp_min(SIGMA_FLOOR), sigma * value, *rest


class DiffusionStage(ScaledInfluence):
    """One learned step; see the module's equation.

    Args:
        filters: The bank K_i.
        influence: The functions psi_i.
        reaction: Initial reaction weight lambda, > 0.
        degree: Degree of the noise-level curves of lambda and of the scales of psi.
        coarse: The functions psi_{s,i} of the coarser grids, the finest of them first.
        coarse_kernels: "galerkin" or "rediscretised".

    Raises:
        ValueError: ``coarse_kernels`` is something else.
    """

    def __init__(
        self,
        filters: FilterBank,
        influence: RadialBasisInfluence,
        reaction: float,
        degree: int,
        coarse: Sequence[RadialBasisInfluence] = (),
        coarse_kernels: str = GALERKIN,
    ) -> None:
        super().__init__(influence, degree)
        if coarse_kernels not in COARSE_KERNELS:
            raise ValueError(f"coarse_kernels must be one of {', '.join(COARSE_KERNELS)}, got {coarse_kernels!r}.")
        self.filters = filters
        self.reaction = SigmaCurve(1, degree, initial=reaction)
        self.coarse = nn.ModuleList([ScaledInfluence(psi, degree) for psi in coarse])
        self.coarse_kernels = coarse_kernels

    def prepare(self, sigma: Tensor) -> list[Prepared]:
        """Kernels (F, C, k, k), table of psi (F, L), its scales and the reaction weight for each grid, finest first.

        Args:
            sigma: (N, 1, 1, 1) or (N, 1, H, W) noise level, on the [0, 1] scale.
        """
        kernels = self.filters()
        found = [Prepared.of((kernels, self.influence.table(), *self.scales(sigma, self.reaction)))]
        for scale in self.coarse:
            kernels = galerkin_kernels(kernels) if self.coarse_kernels == GALERKIN else kernels
            sigma = _restricted_level(sigma)
            inner, outer = scale.scales(sigma)  # type: ignore[operator]
            table = scale.influence.table()  # type: ignore[union-attr, operator]
            found.append(Prepared(kernels, table, inner, outer, torch.zeros_like(sigma[:, :, :1, :1])))
        return found

    def forward(
        self, u: Tensor, f: Tensor, sigma: Tensor, engine: str = "auto", prepared: list[Prepared] | None = None
    ) -> Tensor:
        """u_t from u_{t-1}.

        Args:
            u: (N, C, H, W) state, the observed components first; with S coarser grids, H and W multiples of 2^S.
            f: (N, observed, H, W) noisy image.
            sigma: (N, 1, 1, 1) or (N, 1, H, W) noise level, on the [0, 1] scale.
            engine: See :mod:`tnrd.kernels.dispatch`; a step with ``influence.exact`` is computed by torch.
            prepared: What :meth:`prepare` returns for ``sigma``, if it is at hand.

        Returns:
            The shape of ``u``.
        """
        finest, *coarser = prepared or self.prepare(sigma)
        result = _step(u, f, self.influence, finest, engine)
        for depth, (scale, on_grid) in enumerate(zip(self.coarse, coarser, strict=True), start=1):
            u = restrict(u)
            change = _step(u, u[:, : f.shape[1]], scale.influence, on_grid, engine) - u  # type: ignore[arg-type]
            for _ in range(depth):
                change = prolong(change)
            result = result + change
        return result

    @torch.no_grad()
    def energy(self, u: Tensor, f: Tensor, sigma: Tensor) -> Tensor:
        """E(u) = sum_i sum_x rho_i((K_i u)(x)) + lambda/2 ||u - f||^2 per image, (N,); the step is its gradient.

        That holds on one grid only: what a coarser one adds is prolonged by P, which is not the adjoint of R.

        The potential scales as rho_{i, sigma}(z) = sigma^2 b_i/c_i rho_i(c_i z/sigma). Shapes as in :meth:`forward`.
        """
        inner, outer, reaction = self.scales(sigma, self.reaction)
        potential = outer / inner * self.influence.potential(inner * correlate(u, self.filters()))
        data = denoising_energy(u[:, : f.shape[1]], f, reaction)
        return potential.flatten(1).sum(1) + data


def _step(u: Tensor, f: Tensor, psi: RadialBasisInfluence, prepared: Prepared, engine: str) -> Tensor:
    """The step on one grid."""
    kernels, table, inner, outer, reaction, kept = prepared
    if not psi.exact:
        return diffusion_step(u, f, kernels, table, psi.origin, psi.spacing, inner, outer, reaction, engine, kept)
    force = diffusion_force(u, kernels, lambda z: psi(z, inner, outer))
    return u - with_reaction(force, denoising_gradient(u[:, : f.shape[1]], f, reaction))


def _restricted_level(sigma: Tensor) -> Tensor:
    """Standard deviation of the mean of four values with independent noise."""
    if sigma.shape[2:] == (1, 1):
        return sigma / 2
    power = restrict(sigma**2)
    return torch.where(power > 0, power, 1.0).sqrt() * (power > 0) / 2  # the root has no slope at 0


def initial_influence(amplitude: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """An edge-stopping start for psi, amplitude * z / (1 + (z/3)^2): Perona-Malik's, with contrast 3 sigma."""

    def psi(z: NDArray[np.float64]) -> NDArray[np.float64]:
        return amplitude * z / (1 + (z / 3) ** 2)

    return psi


def lift_bank(components: Components, size: int = 3) -> FilterBank:
    """Filters without constraint on their norm that make the companions out of the picture; order 1, so that a shift
    of brightness does not reach them."""
    return FilterBank(components.companions, size, Components(components.channels, components.grid), norm="free")
