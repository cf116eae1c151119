"""What fixes the shape of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tnrd.filters import Components
from tnrd.settings import build, check_types
from tnrd.stage import GALERKIN

LIFT_SIZE = 3  # side of the kernels that make the companions
MOST_SCALES = 6


@dataclass(frozen=True)
class TNRDConfig:
    """Everything that fixes the shape of a model; stored as JSON beside its weights.

    Attributes:
        stages: Number T of steps.
        filters: Number F of filters per step.
        kernel_size: Side k of a kernel on the computational grid, odd.
        channels: Channels of the picture, 1 for grey and 3 for colour.
        grid: Side g of a cell: 1 works on the picture's pixels, 2 on its four phases at half resolution. The boundary
            mirrors the grid: with g = 1 pixels, half-sample symmetric; with g = 2 whole cells, each phase by itself. A
            cell that a picture ends in is filled by mirroring its pixels, a quarter of the line before mixed in.
        companions: Learned components beside the picture, lifted from it at the start.
        basis: "moments" or "dct" (:mod:`tnrd.filters`).
        vanishing_moments: Orders on the picture, repeated cyclically over the filters that have coefficients.
        norm: "unit", "bounded" or "free" kernels.
        derivatives: Orders that the kernels approximate, in place of vanishing moments (:mod:`tnrd.filters`).
        accuracy: Order of their sum rules beyond the derivative's own.
        transposes: The last F/2 filters are the transposes of the first F/2 and share their influence functions, and so
            their parameters; F is even, and there are no ``derivatives``.
        nodes: Gaussians per influence function.
        reach: The nodes span [-reach, reach] noise levels.
        node_width: Standard deviation of a Gaussian in noise levels; None for the spacing of the nodes.
        sigma_degree: Degree of the polynomials that carry the dependence on the noise level.
        repeats: Steps in a row that share one set of weights, a divisor of ``stages``. With all of them, the model is
            gradient descent on one energy.
        scales: Grids on which the picture diffuses: its own, and coarser ones, each of half the resolution.
        coarse_kernels: "galerkin" or "rediscretised", the kernels there (:mod:`tnrd.multiscale`).
    """

    stages: int = 5
    filters: int = 24
    kernel_size: int = 5
    channels: int = 1
    grid: int = 1
    companions: int = 0
    basis: str = "moments"
    vanishing_moments: tuple[int, ...] = (1,)
    norm: str = "unit"
    derivatives: tuple[tuple[int, int], ...] = ()
    accuracy: int = 1
    transposes: bool = False
    nodes: int = 63
    reach: float = 12.0
    node_width: float | None = None
    sigma_degree: int = 3
    repeats: int = 1
    scales: int = 1
    coarse_kernels: str = GALERKIN

    def __post_init__(self) -> None:
        check_types(self)
        if self.stages < 1:
            raise ValueError(f"stages must be at least 1, got {self.stages}.")
        if self.repeats < 1 or self.stages % self.repeats:
            raise ValueError(f"repeats must divide the {self.stages} stages, got {self.repeats}.")
        if not 1 <= self.scales <= MOST_SCALES:
            raise ValueError(f"scales must lie in [1, {MOST_SCALES}], got {self.scales}.")
        if self.sigma_degree < 0:
            raise ValueError(f"sigma_degree must be at least 0, got {self.sigma_degree}.")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TNRDConfig:
        """Build from plain JSON or TOML values; an unknown key or a value of another type is an error that names it."""
        return build(cls, values, "model")

    @property
    def parameter_count(self) -> int:
        """Number of coefficients that a model of this shape holds."""
        coefficients = self.channels * (self.kernel_size * self.grid) ** 2 + self.companions * self.kernel_size**2
        own = self.filters // 2 if self.transposes else self.filters
        influence = own * (self.nodes + 2 * (self.sigma_degree + 1))
        step = own * coefficients + self.scales * influence + self.sigma_degree + 1
        lift = self.companions * self.channels * (LIFT_SIZE * self.grid) ** 2
        return lift + step * (self.stages // self.repeats)

    @property
    def has_energy(self) -> bool:
        """Whether all steps are gradients of one energy."""
        return not self.companions and self.scales == 1 and self.repeats == self.stages

    @property
    def cell(self) -> int:
        """Side in pixels of what the coarsest grid holds in one place: tiles begin at its multiples."""
        return self.grid * int(2 ** (self.scales - 1))

    @property
    def components(self) -> Components:
        """Layout of the state."""
        return Components(self.channels, self.grid, self.companions)
