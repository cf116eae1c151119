"""Perona-Malik diffusion, the ancestor of the trained one: the same step with fixed filters and no reaction,

    u_{t+1} = u_t - tau K^T psi(K u_t),    K u = (u(x + e_1) - u(x), u(x + e_2) - u(x)),

forward differences on the mirrored grid (no flux through the border) and psi(z) = z g(|z|/kappa): an explicit scheme
for u_t = div(g grad u). Pixels are the unit of length, so that linear diffusion (g = 1) up to time T blurs by a
Gaussian of standard deviation sqrt(2 T). The conductance g lets small differences flow and stops large ones, with the
contrast kappa between them:

    "exponential"  g(s) = exp(-s^2),      potential kappa^2/2 (1 - exp(-(z/kappa)^2));
    "rational"     g(s) = 1/(1 + s^2),    potential kappa^2/2 log(1 + (z/kappa)^2).

*Coupled*: g looks at |grad u|, both differences of all channels together. *Decoupled*: at each difference by itself.
Each is the gradient descent of E(u) = sum rho, rho the potential at what g looks at.

For 0 < tau <= 1/4 the new value of a pixel is a mean of itself and its four neighbours with weights >= 0, because each
of the four edges weighs tau g <= 1/4. So the maximum principle holds, and 1/4 is the largest step for which it does
whatever the image (g = 1 on flat ground). E falls under the same bound: |psi'| <= 1 and ||K||^2 <= 8, thus grad E has
the Lipschitz constant 8 and descends up to tau = 2/8. K^T v sums to zero, so every step keeps the mean.

With ``presmooth`` g looks at the differences of G * u, G a Gaussian: noise no longer passes for edges. Mean and maximum
principle stay; the step is not the gradient of an energy any more.

Perona & Malik, IEEE PAMI 12(7), 1990; Catte, Lions, Morel & Coll, SIAM J. Numer. Anal. 29(1), 1992 (presmoothing).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from tnrd.baselines.contract import Progress, Unit, check_range, check_sigma, with_channels
from tnrd.kernels.correlate_torch import correlate, pad_mirrored
from tnrd.kernels.step_torch import diffusion_force
from tnrd.noise import estimate_sigma
from tnrd.pixels import as_pixels, to_unit

STEP_BOUND = 0.25
# Half the bound overshoots no mode of the linear scheme, 1 - 8 tau >= 0: the finest checkerboard fades, too.
STEP = 0.125
# Smaller differences do not exist in float32 images of [0, 1]; below, 1/kappa would overflow.
CONTRAST_FLOOR = 1e-12


class Conductance(NamedTuple):
    """g, and its potential in units of kappa^2, as functions of q = (z/kappa)^2."""

    weight: Callable[[Tensor], Tensor]
    potential: Callable[[Tensor], Tensor]


CONDUCTANCES = {
    "exponential": Conductance(lambda q: torch.exp(-q), lambda q: -0.5 * torch.expm1(-q)),
    "rational": Conductance(lambda q: 1 / (1 + q), lambda q: 0.5 * torch.log1p(q)),
}


@dataclass(frozen=True)
class EdgeStopping:
    """Where the diffusion slows down: g, kappa and what g looks at.

    Args:
        contrast: kappa > 0, on the scale of the image.
        coupled: g looks at |grad u| over all channels; otherwise at each difference by itself.
        conductance: "exponential" or "rational".
        presmooth: Standard deviation in pixels of the Gaussian before g, 0 for none.

    Raises:
        ValueError: An argument is out of range.
    """

    contrast: float
    coupled: bool = True
    conductance: str = "rational"
    presmooth: float = 0.0

    def __post_init__(self) -> None:
        _check_conductance(self.conductance)
        if not 0 < self.contrast < math.inf:
            raise ValueError(f"contrast must be finite and greater than 0, got {self.contrast:g}.")
        _check_presmooth(self.presmooth)

    def influence(self, u: Tensor) -> Callable[[Tensor], Tensor]:
        """psi for :func:`tnrd.kernels.step_torch.diffusion_force` at the state ``u``, (N, C, H, W)."""

        def psi(z: Tensor) -> Tensor:
            seen = z if self.presmooth == 0 else differences(smooth(u, self.presmooth))
            return CONDUCTANCES[self.conductance].weight(self._argument(seen)) * z

        return psi

    def energy(self, u: Tensor) -> Tensor:
        """E(u), one value per image, (N,); the force is its gradient where ``presmooth`` is 0.

        Raises:
            ValueError: ``presmooth`` is not 0.
        """
        if self.presmooth != 0:
            raise ValueError(f"Diffusion with a presmoothed gradient has no energy; presmooth is {self.presmooth:g}.")
        potential = CONDUCTANCES[self.conductance].potential(self._argument(differences(u)))
        return self.contrast**2 * potential.flatten(1).sum(1)

    def _argument(self, z: Tensor) -> Tensor:
        squared = (z / max(self.contrast, CONTRAST_FLOOR)) ** 2
        return squared.sum(1, keepdim=True) if self.coupled else squared


def diffuse(
    u: Tensor, edges: EdgeStopping, time: float, step: float = STEP, progress: Progress | None = None
) -> Tensor:
    """The module's scheme from ``u`` up to a time.

    Args:
        u: (N, C, H, W), float32 or float64, any H, W >= 1.
        edges: Conductance, contrast, coupling.
        time: T >= 0, in squared pixels.
        step: Largest tau, in (0, 1/4]; T is divided into equal steps no larger.
        progress: Called after each step with the number of steps done and their total.

    Returns:
        The shape of ``u``.

    Raises:
        ValueError: ``time`` or ``step`` is out of range.
    """
    if not 0 <= time < math.inf:
        raise ValueError(f"time must be finite and at least 0, got {time:g}.")
    if not 0 < step <= STEP_BOUND:
        raise ValueError(f"step must lie in (0, {STEP_BOUND}] for the explicit scheme to be stable, got {step:g}.")
    count = math.ceil(time / step * (1 - 1e-12))  # 0.3/0.1 is three steps, though a float above 3
    kernels = forward_differences(u.shape[1]).to(u)
    for done in range(1, count + 1):
        u = u - time / count * diffusion_force(u, kernels, edges.influence(u))
        if progress is not None:
            progress(done, count)
    return u


def forward_differences(channels: int) -> Tensor:
    """Kernels (2C, C, 3, 3) of u(x + e_1) - u(x) (down) and u(x + e_2) - u(x) (right) for each channel."""
    pair = torch.zeros(2, 3, 3, dtype=torch.float64)
    pair[:, 1, 1] = -1.0
    pair[0, 2, 1] = pair[1, 1, 2] = 1.0
    kernels = torch.zeros(channels, 2, channels, 3, 3, dtype=torch.float64)
    for channel in range(channels):
        kernels[channel, :, channel] = pair
    return kernels.flatten(0, 1)


def differences(u: Tensor) -> Tensor:
    """K u: (N, C, H, W) to (N, 2C, H, W)."""
    return correlate(u, forward_differences(u.shape[1]).to(u))


def smooth(u: Tensor, deviation: float) -> Tensor:
    """G * u: (N, C, H, W), Gaussian of a standard deviation in pixels, cut at four of them, mirrored boundary."""
    window = _gaussian(deviation).to(u)
    planes = pad_mirrored(u.flatten(0, 1)[:, None], len(window) // 2)
    rows = functional.conv2d(planes, window[None, None, :, None])
    return functional.conv2d(rows, window[None, None, None, :]).reshape(u.shape)


class Rule(NamedTuple):
    """Contrast and time by the noise level, see :func:`perona_malik`."""

    contrast: float
    time: float
    growth: float


PRESMOOTH = 0.6
# By (presmooth > 0, coupled, conductance). Beside each the PSNR at sigma 15 / 25 / 50 of the training crops on which
# `scripts/tune_perona_malik.py --every 20` chose it (BSDS, 20 of 128 x 128; noisy 24.75 / 20.45 / 14.93); contrast and
# time free for each level would gain 0.14 dB at most.
RULES = {
    (False, True, "exponential"): Rule(2.33, 0.66, 0.5),  # 28.86 / 26.07 / 22.75
    (False, True, "rational"): Rule(0.76, 1.68, 0.25),  # 28.98 / 26.27 / 23.05
    (False, False, "exponential"): Rule(1.86, 0.70, 0.5),  # 28.95 / 26.21 / 22.82
    (False, False, "rational"): Rule(0.76, 1.25, 0.375),  # 29.04 / 26.36 / 23.08
    (True, True, "exponential"): Rule(2.33, 1.08, 0.375),  # 29.01 / 26.41 / 23.13
    (True, True, "rational"): Rule(0.39, 8.39, 0.125),  # 29.14 / 26.62 / 23.58
    (True, False, "exponential"): Rule(1.86, 1.08, 0.5),  # 29.18 / 26.55 / 23.23
    (True, False, "rational"): Rule(0.49, 4.03, 0.375),  # 29.12 / 26.60 / 23.53
}
# In colour, by `--color --form coupled --conductance rational` (noisy 24.82 / 20.53 / 15.03); others as in grey.
COLOUR_RULES = {
    (False, True, "rational"): Rule(0.31, 5.15, 0.125),  # 29.88 / 27.20 / 23.87
    (True, True, "rational"): Rule(0.25, 15.06, 0.0),  # 29.72 / 27.24 / 24.30
}


def noise_in_differences(presmooth: float) -> float:
    """Standard deviation of a difference of G * n, n white noise of deviation 1 and G the Gaussian of presmoothing.

    sqrt(2 r_0 (r_0 - r_1)) with r the autocorrelation of the one-dimensional Gaussian; sqrt(2) without it.
    """
    if presmooth == 0:
        return math.sqrt(2.0)
    window = _gaussian(presmooth)
    same, next_ = float(window @ window), float(window[1:] @ window[:-1])
    return math.sqrt(2 * same * (same - next_))


def perona_malik(
    image: ArrayLike,
    sigma: float | None = None,
    *,
    coupled: bool = True,
    conductance: str = "rational",
    contrast: float | None = None,
    time: float | None = None,
    presmooth: float = PRESMOOTH,
    step: float = STEP,
    channel_axis: int | None = None,
    progress: Progress | None = None,
) -> Unit:
    """Denoise a picture by Perona-Malik diffusion, the module's scheme from the picture itself up to a time T.

    By default contrast and stopping time follow from the noise level,

        kappa = c sigma d,    T = a (sigma/(25/255))^p,

    d sigma being the noise in the differences at which g looks (d = :func:`noise_in_differences`, times sqrt(C) for
    |grad u| over C channels), c, a, p three constants per form and conductance, tuned on training pictures (``RULES``;
    in colour those of the coupled form with the rational conductance, ``COLOUR_RULES``). The defaults are the best of
    eight variants there; the scheme of 1990, ``presmooth=0``, is behind, but only it descends on an energy.

    Args:
        image: (M, N), or three axes with ``channel_axis``. Floats are taken as they are, nominally in [0, 1]; integers
            are scaled as scikit-image's ``img_as_float`` does. Mirrored boundary.
        sigma: Standard deviation of the noise, on the [0, 1] scale whatever the dtype; 0 returns the picture.
            Estimated from the picture when None and needed.
        coupled: One conductance per pixel, by the gradient of all channels, or one per difference. The coupled
            form does not commute with flips, as a pixel's two forward differences lie to one side of it;
            the decoupled one does. Both commute with transposition.
        conductance: "exponential" or "rational", see the module.
        contrast: kappa > 0, on the [0, 1] scale; of |grad u| over all channels where coupled.
        time: T >= 0, in squared pixels.
        presmooth: Standard deviation in pixels of the Gaussian before g; 0 is the scheme of 1990. The rule is tuned
            for 0 and for the default.
        step: Largest tau, in (0, 1/4]; T is divided into equal steps no larger.
        channel_axis: The axis of the channels; None for a grey picture.
        progress: As in :class:`tnrd.baselines.contract.Denoiser`, called after each step.

    Returns:
        The shape of ``image``, on the [0, 1] scale. Not clipped: the range of the noisy picture is kept, not [0, 1].

    Raises:
        ValueError: An argument is out of range; the image has the wrong shape, no pixels, or values that are not
            finite.
    """
    _check_conductance(conductance)
    _check_presmooth(presmooth)
    if sigma is not None:
        check_sigma(sigma)
    u = _as_planes(image, channel_axis)
    check_range(u.numpy())
    if contrast is None or time is None:
        level = float(estimate_sigma(u[0].numpy(), channel_axis=0, average_sigmas=True) if sigma is None else sigma)
        form = presmooth > 0, coupled, conductance
        rule = RULES[form] if u.shape[1] == 1 else COLOUR_RULES.get(form, RULES[form])
        if contrast is None:
            gathered = math.sqrt(u.shape[1]) if coupled else 1.0
            contrast = max(rule.contrast * level * noise_in_differences(presmooth) * gathered, CONTRAST_FLOOR)
        if time is None:
            time = rule.time * (level / (25 / 255)) ** rule.growth
    with torch.no_grad():
        result = diffuse(u, EdgeStopping(contrast, coupled, conductance, presmooth), time, step, progress)[0].numpy()
    if progress is not None:
        progress(1, 1)
    return with_channels(result[0] if len(result) == 1 else np.moveaxis(result, 0, -1), channel_axis)


def perona_malik_1990(
    image: ArrayLike, sigma: float, *, channel_axis: int | None = None, progress: Progress | None = None
) -> Unit:
    """:func:`perona_malik` as published in 1990, without the Gaussian before g; arguments as in ``Denoiser``."""
    return perona_malik(image, sigma, presmooth=0.0, channel_axis=channel_axis, progress=progress)


def _as_planes(image: ArrayLike, channel_axis: int | None) -> Tensor:
    """(1, C, M, N), a copy."""
    unit = to_unit(as_pixels(image, channel_axis))
    planes = unit[None] if unit.ndim == 2 else np.moveaxis(unit, -1, 0)
    return torch.from_numpy(np.ascontiguousarray(planes))[None]


def _gaussian(deviation: float) -> Tensor:
    radius = math.ceil(4 * deviation)
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    window = torch.exp(-0.5 * (x / deviation) ** 2)
    return window / window.sum()


def _check_conductance(conductance: str) -> None:
    if conductance not in CONDUCTANCES:
        raise ValueError(f"conductance must be one of {', '.join(CONDUCTANCES)}, got {conductance!r}.")


def _check_presmooth(presmooth: float) -> None:
    if not 0 <= presmooth < math.inf:
        raise ValueError(f"presmooth must be finite and at least 0, got {presmooth:g}.")
