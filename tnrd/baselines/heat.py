"""The heat equation, the oldest denoiser of all: every grey value spreads evenly, noise and edges alike.

    u_t = Laplace u,    u(0) = f,    no flux through the border,

on the pixel grid with the five-point Laplacian, solved exactly in time rather than by steps: the DCT-II, whose basis
is that of the mirrored grid, turns the equation into one decay per frequency,

    DCT(u(T))[k, l] = exp(-T lambda[k, l]) DCT(f)[k, l],
    lambda[k, l]    = 4 sin^2(pi k/(2 M)) + 4 sin^2(pi l/(2 N)).

Up to time T the picture is blurred by a Gaussian of standard deviation sqrt(2 T) pixels. It is the step of
:mod:`tnrd.baselines.perona_malik` with the conductance g = 1.

Witkin, IJCAI 1983; Koenderink, Biol. Cybern. 50, 1984 (the picture at all times as its scale space).
"""

from __future__ import annotations

import math

import numpy as np

from tnrd.baselines.contract import Progress, Unit, denoiser
from tnrd.baselines.opponents import by_plane
from tnrd.baselines.rules import PowerLaw

# Found by `scripts/tune_baselines.py --every 20` on training pictures. PSNR there in grey at sigma
# 5 / 15 / 25 / 50 / 75: 34.70 / 27.64 / 25.26 / 22.56 / 21.25 dB; times free for each level would gain 0.01 dB.
TIME = PowerLaw(0.356, 1.354)
CHROMINANCE_TIME = PowerLaw(4.283, 1.203)


@denoiser
def heat(u: Unit, sigma: float, progress: Progress) -> Unit:
    """Denoise by linear diffusion up to a time that follows from the noise level, the module's equation.

    Colour is diffused as luminance and chrominance (:mod:`tnrd.baselines.opponents`), each up to a time of its own.
    Signature, units and errors as in :class:`tnrd.baselines.contract.Denoiser`.
    """
    return by_plane(
        u,
        sigma,
        progress,
        grey=lambda plane, level, _: diffuse_linearly(plane, TIME(level)),
        chrominance=lambda plane, level, _: diffuse_linearly(plane, CHROMINANCE_TIME(level)),
    )


def diffuse_linearly(u: Unit, time: float) -> Unit:
    """The solution of the module's equation at a time.

    Args:
        u: (M, N), any M, N >= 1.
        time: T >= 0, in squared pixels.

    Returns:
        The shape of ``u``, float32.
    """
    from scipy.fft import dctn, idctn

    spectrum = dctn(u.astype(np.float64), norm="ortho")
    decay = [np.exp(-4 * time * np.sin(math.pi / (2 * n) * np.arange(n)) ** 2) for n in u.shape]
    spectrum *= decay[0][:, None]
    spectrum *= decay[1]
    return np.asarray(idctn(spectrum, norm="ortho", overwrite_x=True), dtype=np.float32)
