"""TNRD: T steps of trained nonlinear reaction diffusion (Chen & Pock, TPAMI 39(6), 2017, arXiv 1508.02848)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from tnrd.config import LIFT_SIZE, TNRDConfig
from tnrd.filters import FilterBank
from tnrd.influence import RadialBasisInfluence
from tnrd.kernels.correlate_torch import correlate
from tnrd.kernels.transforms import in_transform, is_dual, untransformed
from tnrd.multiscale import coarse_size
from tnrd.preparation import Preparation
from tnrd.stage import GALERKIN, DiffusionStage, initial_influence, lift_bank

# Weight of the line before the last where an odd side is extended to whole cells: a plain copy of the last line would
# put the same noise into a cell twice, which the model would take for structure.
BLEND = 0.25


class TNRD(nn.Module):
    """The trained diffusion as a torch module.

    Args:
        config: The shape of the model.

    Example:
        >>> model = TNRD(TNRDConfig(stages=1, filters=2, kernel_size=3))
        >>> model(torch.rand(1, 1, 8, 8), sigma=25 / 255).shape
        torch.Size([1, 1, 8, 8])
    """

    def __init__(self, config: TNRDConfig) -> None:
        super().__init__()
        self.config = config
        self.engine = "auto"
        self._preparation = Preparation()
        components = config.components
        self.lift = lift_bank(components, LIFT_SIZE) if config.companions else None
        self.stages = nn.ModuleList([self._new_stage(first=t == 0) for t in range(config.stages // config.repeats)])

    def _new_stage(self, first: bool) -> DiffusionStage:
        c = self.config
        bank = FilterBank(
            c.filters,
            c.kernel_size,
            c.components,
            vanishing_moments=c.vanishing_moments,
            basis=c.basis,
            norm=c.norm,
            derivatives=c.derivatives,
            accuracy=c.accuracy,
            transposes=c.transposes,
        )
        # Unit-norm kernels spread F units of energy over C components: this keeps the first steps stable.
        amplitude = 0.3 * c.components.total / c.filters
        shape, copies = (c.filters, c.nodes, c.reach, c.node_width), 2 if c.transposes else 1
        psi = RadialBasisInfluence(*shape, initial_influence(amplitude), copies)
        coarse = [RadialBasisInfluence(*shape, copies=copies) for _ in range(1, c.scales)]
        return DiffusionStage(bank, psi, 0.5 if first else 0.1, c.sigma_degree, coarse, c.coarse_kernels)

    def stage(self, t: int) -> DiffusionStage:
        """The t-th step, t = 0 ... T - 1."""
        module = self.stages[t // self.config.repeats]
        return module  # type: ignore[return-value]

    @property
    def dependence_radius(self) -> int:
        """Pixels by which a result can depend on its surroundings.

        Tiles that overlap by it and start at multiples of ``config.cell`` are exact.
        """
        c = self.config
        size, step = c.kernel_size, 2 * (c.kernel_size // 2)
        for depth in range(1, c.scales):
            size = coarse_size(size) if c.coarse_kernels == GALERKIN else size
            reached = 2 * (size // 2)  # on the coarse grid; from there P reaches a cell further, and R to its far end
            for _ in range(depth):
                reached = 2 * (reached + 1) + 1
            step = max(step, reached)
        lift = LIFT_SIZE // 2 if c.companions else 0
        return c.grid * (c.stages * step + lift) + (c.grid - 1)

    def forward(self, x: Tensor, sigma: float | Tensor, strength: float = 1.0) -> Tensor:
        """Denoise.

        Args:
            x: (N, C, H, W) noisy images, any H, W >= 1, intensities nominally in [0, 1] (not clipped), float32 or
                float64; mirrored boundary.
            sigma: Standard deviation of the noise on the same scale: one value, (N,) values, or a map (N, 1, H, W).
            strength: Where to stop the diffusion, in [0, 1]: the state at time strength * T, linear between steps.
                0 returns the input, 1 the full result.

        Returns:
            (N, C, H, W), not clipped.

        Raises:
            ValueError: Shape, noise level or strength do not fit.
        """
        self.check(x, sigma, strength)
        time = strength * self.config.stages
        last = math.ceil(time)
        if last == 0:
            return x.clone()
        before = after = x
        for state in self.states(x, sigma, steps=last):
            before, after = after, state
        state = after if time == last else torch.lerp(before, after, time - (last - 1))
        return self._from_grid(state, *x.shape[2:])

    def trajectory(self, x: Tensor, sigma: float | Tensor) -> Iterator[Tensor]:
        """The picture u_0 ... u_T, one step at a time; arguments and shapes as in :meth:`forward`."""
        for state in self.states(x, sigma):
            yield self._from_grid(state, *x.shape[2:])

    def states(self, x: Tensor, sigma: float | Tensor, steps: int | None = None) -> Iterator[Tensor]:
        """The full state u_0 ... u_T on the computational grid, (N, C, ceil(H/g), ceil(W/g)), companions included.

        Arguments as in :meth:`forward`; ``steps`` ends it early.
        """
        with _no_autocast(x.device.type):
            f, level = self.to_grid(x, self.check(x, sigma))
            u = f if self.lift is None else torch.cat([f, correlate(f, self.lift())], dim=1)
        yield u
        stages = [self.stage(t) for t in range(self.config.stages if steps is None else steps)]
        sets: list[DiffusionStage] = list(self.stages)  # type: ignore[arg-type]
        with _no_autocast(x.device.type):
            # All matrix products first: their threads spin on for a while, and a compiled step would have to wait.
            prepared = self._preparation(self, sets, list(dict.fromkeys(stages)), level)
        for stage in stages:
            with _no_autocast(x.device.type):
                u = stage(u, f, level, self.engine, prepared[stage])
            yield u

    @torch.no_grad()
    def energy(self, x: Tensor, f: Tensor, sigma: float | Tensor) -> Tensor:
        """E(x), (N,), of which every step is the gradient, for a model with one set of weights and no companions.

        Args:
            x: (N, C, H, W) state, both sides multiples of the grid.
            f: Noisy image, same shape.
            sigma: As in :meth:`forward`.

        Raises:
            ValueError: The model has different weights per step, companions or coarser grids: it descends on no single
                energy.
        """
        if not self.config.has_energy:
            raise ValueError("Only a model of one set of weights, one grid and no companions descends on one energy.")
        if x.shape != f.shape:
            raise ValueError(f"State and observation must have one shape, got {tuple(x.shape)} and {tuple(f.shape)}.")
        if any(side % self.config.grid for side in x.shape[2:]):
            raise ValueError(f"Both sides must be multiples of the grid {self.config.grid}, got {tuple(x.shape)}.")
        with _no_autocast(x.device.type):
            observation, level = self.to_grid(f, self.check(x, sigma))
            state, _ = self.to_grid(x, level.new_zeros(1, 1, 1, 1))
            return self.stage(0).energy(state, observation, level)

    def check(self, x: Tensor, sigma: float | Tensor, strength: float = 1.0) -> Tensor:
        """The arguments of :meth:`forward`; returns the noise level as the model computes with it.

        That is (N, 1, 1, 1) or (N, 1, H, W), on the device of ``x``. Its values are checked where they lie: for a
        number, or a tensor on the CPU, the host need not wait for a GPU. While a graph is recorded or compiled there
        are no values yet, and nothing is checked.

        Args:
            x: As in :meth:`forward`.
            sigma: As in :meth:`forward`.
            strength: As in :meth:`forward`.

        Raises:
            ValueError: Shape, noise level or strength do not fit.
        """
        if not 0.0 <= strength <= 1.0:
            raise ValueError(f"strength must lie in [0, 1], got {strength}.")
        if not isinstance(x, Tensor):
            raise ValueError(f"Expected images as a torch tensor, got {type(x).__name__}; tnrd.denoise takes arrays.")
        if x.ndim != 4 or x.shape[1] != self.config.channels or 0 in x.shape:
            raise ValueError(f"Expected images (N, {self.config.channels}, H, W) with pixels, got {tuple(x.shape)}.")
        if x.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"Expected float32 or float64 images in [0, 1], got {x.dtype}.")
        own = self.stage(0).influence.weights.dtype  # replicas of DataParallel have no parameters() of their own
        if x.dtype != own:
            raise ValueError(f"The model computes in {own}, the image is {x.dtype}: convert one of them.")
        if sigma is None or isinstance(sigma, str):
            raise ValueError(f"sigma must be a number or a torch tensor, got {sigma!r}; tnrd.denoise estimates it.")
        if isinstance(sigma, float) and torch.compiler.is_compiling():
            level = torch.zeros((), dtype=x.dtype, device="cpu") + sigma  # as_tensor would compile each number anew
        else:
            level = torch.as_tensor(sigma, dtype=x.dtype, device=sigma.device if isinstance(sigma, Tensor) else "cpu")
        if level.ndim == 0 or tuple(level.shape) in ((1,), (x.shape[0],)):
            level = level.reshape(-1, 1, 1, 1)
        if level.ndim != 4 or level.shape[1] != 1 or level.shape[0] not in (1, x.shape[0]):
            raise ValueError(
                f"sigma must be one value, (N,) or (N, 1, H, W), got {tuple(level.shape)} for {tuple(x.shape)}."
            )
        if tuple(level.shape[2:]) not in ((1, 1), tuple(x.shape[2:])):
            raise ValueError(
                f"A noise map must have the size of the image, got {tuple(level.shape)} for {tuple(x.shape)}."
            )
        # While a graph is recorded or compiled, nothing has a value yet.
        recorded = torch.compiler.is_compiling() or (level.is_cuda and torch.cuda.is_current_stream_capturing())
        if not recorded:
            values = untransformed(level)
            if not bool((torch.isfinite(values) & (values >= 0)).all()):
                found = f"{float(values.min())} to {float(values.max())}"
                raise ValueError(f"sigma must be finite and at least 0, got {found}.")
        if level.device != x.device:
            # A copy to a GPU waits for what runs there; to write a number does not.
            carried = level.requires_grad or in_transform(level) or is_dual(level)
            single = level.numel() == 1 and not carried and level.device.type == "cpu"
            level = torch.full_like(level, level.item(), device=x.device) if single else level.to(x.device)
        return level.expand(x.shape[0], -1, -1, -1)

    def to_grid(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Image and noise level on the computational grid, extended by mirroring to whole cells."""
        g, cell = self.config.grid, self.config.cell
        x = _whole_cells(x, cell, BLEND)
        if level.shape[2:] != (1, 1):
            level = _whole_cells(level, cell)
        if g == 1:
            return x, level
        x = functional.pixel_unshuffle(x, g)
        if level.shape[2:] != (1, 1):
            power = functional.avg_pool2d(level**2, g)
            level = torch.where(power > 0, power, 1.0).sqrt() * (power > 0)  # the root has no slope at 0
        return x, level

    def _from_grid(self, u: Tensor, height: int, width: int) -> Tensor:
        picture = u[:, : self.config.components.observed]
        if self.config.grid > 1:
            picture = functional.pixel_shuffle(picture, self.config.grid)
        return picture[..., :height, :width]


def _no_autocast(device: str) -> AbstractContextManager[object]:
    """The model computes in its own precision: what kernels and tables lose in bfloat16 is seen in the picture.

    Not to be held over a yield, behind which the caller's own settings are due.
    """
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def _whole_cells(x: Tensor, cell: int, blend: float = 0.0) -> Tensor:
    """Mirror the last rows and columns until both sides are multiples of ``cell``, blended with those before them."""
    for axis in (2, 3):
        length = x.shape[axis]
        missing = -length % cell
        if missing:
            back = torch.arange(missing, device=x.device)
            last, before = (x.index_select(axis, (length - k - back).clamp_min(0)) for k in (1, 2))
            x = torch.cat([x, torch.lerp(last, before, blend)], dim=axis)
    return x
