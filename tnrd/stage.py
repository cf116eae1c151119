"""One step of nonlinear reaction diffusion.

    u_t = u_{t-1} - [ sum_i K_i^T psi_i(K_i u_{t-1}) + lambda (u_{t-1} - f) ],

the sum being the gradient of sum_i rho_i(K_i u) where each psi_i acts on its own response. Perona-Malik is the same
force with forward differences for K_i.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tnrd.filters import Components, FilterBank
from tnrd.influence import SIGMA_FLOOR, RadialBasisInfluence, SigmaCurve
from tnrd.kernels.correlate_torch import correlate
from tnrd.kernels.dispatch import diffusion_step
from tnrd.kernels.step_torch import diffusion_force
from tnrd.reaction import denoising_energy, denoising_gradient


class DiffusionStage(nn.Module):
    """One learned step; see the module's equation.

    Args:
        filters: The bank K_i.
        influence: The functions psi_i.
        reaction: Initial reaction weight lambda, > 0.
        degree: Degree of the noise-level curves of lambda and of the scales of psi.
    """

    def __init__(self, filters: FilterBank, influence: RadialBasisInfluence, reaction: float, degree: int) -> None:
        super().__init__()
        count = influence.weights.shape[0]
        self.filters = filters
        self.influence = influence
        self.argument_scale = SigmaCurve(count, degree)
        self.value_scale = SigmaCurve(count, degree)
        self.reaction = SigmaCurve(1, degree, initial=reaction)

    def coefficients(self) -> tuple[Tensor, Tensor]:
        """Kernels (F, C, k, k) and table of psi (F, L), what a step needs whatever the noise level."""
        return self.filters(), self.influence.table()

    def forward(
        self,
        u: Tensor,
        f: Tensor,
        sigma: Tensor,
        engine: str = "auto",
        coefficients: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """u_t from u_{t-1}.

        Args:
            u: (N, C, H, W) state, the observed components first.
            f: (N, observed, H, W) noisy image.
            sigma: (N, 1, 1, 1) or (N, 1, H, W) noise level, on the [0, 1] scale.
            engine: See :mod:`tnrd.kernels.dispatch`; a step with ``influence.exact`` is computed by torch.
            coefficients: Those of :meth:`coefficients`, if they are at hand.

        Returns:
            The shape of ``u``.
        """
        psi, (inner, outer) = self.influence, self._scales(sigma)
        if not psi.exact:
            kernels, table = coefficients or self.coefficients()
            reaction = self.reaction(sigma)
            return diffusion_step(u, f, kernels, table, psi.origin, psi.spacing, inner, outer, reaction, engine)
        observed = f.shape[1]
        step = diffusion_force(u, self.filters(), lambda z: psi(z, inner, outer))
        step[:, :observed] += denoising_gradient(u[:, :observed], f, self.reaction(sigma))
        return u - step

    @torch.no_grad()
    def energy(self, u: Tensor, f: Tensor, sigma: Tensor) -> Tensor:
        """E(u) = sum_i sum_x rho_i((K_i u)(x)) + lambda/2 ||u - f||^2 per image, (N,); the step is its gradient.

        The potential scales as rho_{i, sigma}(z) = sigma^2 b_i/c_i rho_i(c_i z/sigma). Shapes as in :meth:`forward`.
        """
        inner, outer = self._scales(sigma)
        potential = outer / inner * self.influence.potential(inner * correlate(u, self.filters()))
        data = denoising_energy(u[:, : f.shape[1]], f, self.reaction(sigma))
        return potential.flatten(1).sum(1) + data

    def _scales(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return self.argument_scale(sigma) / sigma.clamp_min(SIGMA_FLOOR), sigma * self.value_scale(sigma)


def initial_influence(amplitude: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """An edge-stopping start for psi, amplitude * z / (1 + (z/3)^2): Perona-Malik's, with contrast 3 sigma."""

    def psi(z: NDArray[np.float64]) -> NDArray[np.float64]:
        return amplitude * z / (1 + (z / 3) ** 2)

    return psi


def lift_bank(components: Components, size: int = 3) -> FilterBank:
    """Filters without constraint on their norm that make the companions out of the picture; order 1, so that a shift
    of brightness does not reach them."""
    return FilterBank(components.companions, size, Components(components.channels, components.grid), norm="free")
