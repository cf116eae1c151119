"""Influence functions psi as radial-basis networks.

    psi_i(z) = sum_j w[i, j] phi((z - m_j)/gamma),    phi(t) = exp(-t^2/2),    m_j equidistant,

with the closed potential rho_i (rho' = psi, rho(0) = 0) and derivative psi'. Chen & Pock, TPAMI 2017, use 63 nodes at
-310:10:310 on the 8-bit scale for one noise level; here z is measured in units of the noise level, so that one set of
weights serves all of them:

    psi_{i, sigma}(z) = sigma b_i(sigma) psi_i(c_i(sigma) z / sigma),

b and c smooth positive functions of sigma (:class:`SigmaCurve`). As sigma -> 0 the influence vanishes and the diffusion
stops: a clean image is left as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tnrd.kernels.influence_torch import exact_influence, rbf_sum, table_influence

SIGMA_FLOOR = 1e-4  # responses are divided by at least this; 0.03 on the 8-bit scale, far under its rounding
SIGMA_KNEE = 5 / 255  # below this noise level the curves flatten, above it they run in log(sigma)
SIGMA_TOP = 75 / 255
TABLE_DENSITY = 16  # samples per width of a Gaussian
MAX_TABLE_WIDTHS = 4096  # longest table, in widths
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")  # of a torch module
TABLE_MARGIN = 5  # widths beyond the outer nodes; exp(-12.5) of a weight is left there


class RadialBasisInfluence(nn.Module):
    """F influence functions with Gaussian radial-basis weights.

    Args:
        filters: Number F of functions, a multiple of ``copies``.
        nodes: Number J of Gaussians per function.
        reach: The nodes are equidistant on [-reach, reach], in units of the noise level.
        width: Standard deviation gamma of a Gaussian; the spacing of the nodes when None.
        initial: Function psi(z) that every psi_i starts from, fitted by least squares.
        copies: How often the F/copies functions that have weights follow one another.

    Raises:
        ValueError: A setting is out of range.
    """

    nodes: Tensor
    sampled_gaussians: Tensor

    def __init__(
        self,
        filters: int,
        nodes: int = 63,
        reach: float = 12.0,
        width: float | None = None,
        initial: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
        copies: int = 1,
    ) -> None:
        super().__init__()
        if nodes < 2 or not 0 < reach < math.inf or (width is not None and not 0 < width < math.inf):
            raise ValueError(f"psi needs 2 nodes or more, positive reach and width; got {nodes}, {reach}, {width}.")
        if max(nodes, 2 * reach / (width or reach)) > MAX_TABLE_WIDTHS:
            raise ValueError(f"psi spans more than {MAX_TABLE_WIDTHS} widths: {nodes} nodes, {reach}, {width}.")
        if copies < 1 or filters % copies:
            raise ValueError(f"{filters} functions cannot be {copies} copies of some.")
        centres = np.linspace(-reach, reach, nodes)
        self.width = float(centres[1] - centres[0]) if width is None else float(width)
        self.register_buffer("nodes", torch.tensor(centres, dtype=torch.get_default_dtype()), persistent=False)
        start = np.zeros(nodes) if initial is None else fit_influence(initial, centres, self.width)
        weights = torch.tensor(np.tile(start, (filters // copies, 1)), dtype=torch.get_default_dtype())
        self.weights = nn.Parameter(weights)
        self.copies = copies
        samples, origin, spacing = _table_grid(centres, self.width)
        phi = np.exp(-0.5 * ((samples[None, :] - centres[:, None]) / self.width) ** 2)
        self.register_buffer("sampled_gaussians", torch.tensor(phi, dtype=torch.get_default_dtype()), persistent=False)
        self.origin, self.spacing = origin, spacing
        self.exact = False  # set it to compute the sum instead of reading the table, for checks of gradients

    def forward(self, z: Tensor, inner: Tensor, outer: Tensor) -> Tensor:
        """outer * psi(inner * z), from the table, or by the exact sum if ``self.exact`` is set.

        Args:
            z: (N, F, H, W) responses.
            inner: c(sigma)/sigma, broadcastable to ``z``.
            outer: sigma b(sigma), broadcastable to ``z``.

        Returns:
            The shape of ``z``.
        """
        if self.exact:
            return outer * exact_influence(inner * z, self.all_weights(), self.nodes, self.width)
        return table_influence(z, self.table(), self.origin, self.spacing, inner, outer)

    def all_weights(self) -> Tensor:
        """The weights of all functions, (F, J)."""
        return _repeated(self.weights, self.copies)

    def table(self) -> Tensor:
        """Samples of psi, (F, L), from ``origin`` at distance ``spacing``; linear interpolation errs by

            |table(z) - psi(z)| <= spacing^2/8 max |psi''|,   |psi''(x)| <= sum_j |w_j phi''((x - m_j)/gamma)|/gamma^2,

        on the table (see :meth:`table_error`), and by sum |w_j| exp(-TABLE_MARGIN^2/2) beyond it.
        """
        return _repeated(self.weights @ self.sampled_gaussians, self.copies)

    @torch.no_grad()
    def table_error(self) -> Tensor:
        """A bound on |table(z) - psi(z)| over all z, one per function, (F,)."""
        weights, nodes = self.all_weights().abs().double(), self.nodes.double()
        # |phi''| has Lipschitz constant under 1.4; the finest sampling below adds that much times half a step.
        step = self.width / 64
        ends = (float(nodes[0]) - 9 * self.width, float(nodes[-1]) + 9 * self.width)
        x = torch.arange(ends[0], ends[1], step, dtype=torch.float64, device=nodes.device)
        t = (x[None, :] - nodes[:, None]) / self.width
        curvature = ((t * t - 1) * torch.exp(-0.5 * t * t)).abs()
        bend = (weights @ curvature).amax(1) + weights.sum(1) * 1.4 / 128
        tails = weights.sum(1) * math.exp(-0.5 * TABLE_MARGIN**2)
        return bend * (self.spacing / self.width) ** 2 / 8 + tails

    def psi(self, z: Tensor) -> Tensor:
        """psi_i(z) by the exact sum; z is (N, F, ...), in units of the noise level."""
        return exact_influence(z, self.all_weights(), self.nodes, self.width)

    def slope(self, z: Tensor) -> Tensor:
        """psi_i'(z) by the exact sum, not differentiable; shapes as in :meth:`psi`."""
        return rbf_sum(z, self.all_weights(), self.nodes, self.width, derivative=1)

    def potential(self, z: Tensor) -> Tensor:
        """rho_i(z) with rho' = psi and rho(0) = 0, not differentiable; shapes as in :meth:`psi`."""
        return rbf_sum(z, self.all_weights(), self.nodes, self.width, derivative=-1)


def fit_influence(
    psi: Callable[[NDArray[np.float64]], NDArray[np.float64]], nodes: NDArray[np.float64], width: float
) -> NDArray[np.float64]:
    """Radial-basis weights that fit a function in least squares on the span of the nodes.

    Args:
        psi: The function to fit, vectorised; (n,) values, or (n, F) of F functions at once.
        nodes: (J,) equidistant centres.
        width: gamma > 0.

    Returns:
        (J,) or (J, F) weights w minimising int |sum_j w_j phi((z - m_j)/gamma) - psi(z)|^2 dz, sampled 8 times a node.
    """
    z = np.linspace(nodes[0], nodes[-1], 8 * len(nodes))
    phi = np.exp(-0.5 * ((z[:, None] - nodes[None, :]) / width) ** 2)
    return np.asarray(np.linalg.lstsq(phi, np.asarray(psi(z), dtype=np.float64), rcond=1e-8)[0])


class SigmaCurve(nn.Module):
    """Positive functions of the noise level, exp of a Chebyshev polynomial in its logarithm.

        s_i(sigma) = exp(sum_d theta[i, d] T_d(x(sigma))),   x = 2 log(1 + sigma/knee)/log(1 + top/knee) - 1,

    knee = 5/255, top = 75/255, x clamped to [-1, 1].

    Args:
        count: Number of functions, a multiple of ``copies``.
        degree: Degree of the polynomials.
        initial: Value of every function at the start, for all sigma.
        copies: How often the count/copies functions that have coefficients follow one another.
    """

    def __init__(self, count: int, degree: int = 3, initial: float = 1.0, copies: int = 1) -> None:
        super().__init__()
        if copies < 1 or count % copies:
            raise ValueError(f"{count} functions cannot be {copies} copies of some.")
        theta = torch.zeros(count // copies, degree + 1)
        theta[:, 0] = math.log(initial)
        self.theta = nn.Parameter(theta)
        self.copies = copies

    def forward(self, sigma: Tensor) -> Tensor:
        """Values (N, count, H, W) for noise levels (N, 1, H, W), on the [0, 1] intensity scale."""
        return curve_values(self.coefficients(), sigma)

    def coefficients(self) -> Tensor:
        """theta of all functions, (count, degree + 1)."""
        return _repeated(self.theta, self.copies)


def curves_together(curves: Sequence[SigmaCurve], sigma: Tensor) -> tuple[Tensor, ...]:
    """What each of several curves returns for ``sigma``, by one product where nothing else takes part in one."""
    plain = [curve for curve in curves if type(curve) is SigmaCurve and not has_hooks(vars(curve))]
    coefficients = [curve.coefficients() for curve in plain]
    if len(plain) < len(curves) or len({theta.shape[1] for theta in coefficients}) > 1:
        return tuple(curve(sigma) for curve in curves)
    values = curve_values(torch.cat(coefficients), sigma)
    found: tuple[Tensor, ...] = torch.split(values, [len(theta) for theta in coefficients], dim=1)
    return found


def has_hooks(part: Mapping[str, Any]) -> bool:
    """Whether something is to be called before or after a module, of which the attributes are given."""
    return any(part[hooks] for hooks in HOOKS)


def curve_values(theta: Tensor, sigma: Tensor) -> Tensor:
    """Values (N, count, H, W) of the curves with coefficients (count, degree + 1), see :class:`SigmaCurve`."""
    x = 2 * torch.log1p(sigma / SIGMA_KNEE) / math.log1p(SIGMA_TOP / SIGMA_KNEE) - 1
    x = x.clamp(-1, 1)
    features = [torch.ones_like(x), x]
    while len(features) < theta.shape[1]:
        features.append(2 * x * features[-1] - features[-2])
    powers = torch.cat(features[: theta.shape[1]], dim=1)
    values = theta @ powers.flatten(2)
    return torch.exp(values.view(*values.shape[:2], *sigma.shape[2:]))


def _repeated(rows: Tensor, copies: int) -> Tensor:
    return rows.repeat(copies, 1) if copies > 1 else rows


def _table_grid(nodes: NDArray[np.float64], width: float) -> tuple[NDArray[np.float64], float, float]:
    spacing = width / TABLE_DENSITY
    origin = float(nodes[0]) - TABLE_MARGIN * width
    samples = math.ceil((float(nodes[-1]) + TABLE_MARGIN * width - origin) / spacing) + 1
    return origin + spacing * np.arange(samples, dtype=np.float64), origin, spacing
