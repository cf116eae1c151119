"""Wavelet shrinkage with BayesShrink thresholds, averaged over shifts of the grid.

In an orthonormal wavelet basis a picture has few large coefficients and the noise is spread over all, at its level.
Each detail band b is shrunk softly towards 0,

    c -> sign(c) max(|c| - t_b, 0),    t_b = sigma^2/sqrt(max(mean of c^2 over b - sigma^2, 0)),

the threshold that is nearly the best one for Laplacian coefficients in Gaussian noise; a band of noise alone is
removed. What is removed depends on where the dyadic grid lies, which shows as ripples along edges: *cycle spinning*
averages the results over shifts of the grid. Computed by scikit-image's ``denoise_wavelet``; mirrored boundary.

Chang, Yu & Vetterli, IEEE Trans. Image Process. 9(9), 2000; Coifman & Donoho, "Translation-invariant de-noising", 1995.
"""

from __future__ import annotations

import itertools

import numpy as np

from tnrd.baselines.contract import Progress, Unit, denoiser
from tnrd.baselines.opponents import by_plane

# On the training pictures of `scripts/tune_baselines.py --every 20` (sigma 5 / 15 / 25 / 50 / 75 of 255), in grey:
#   sym4    35.78 / 29.14 / 26.52 / 23.33 / 21.74 dB
# The Haar basis is ahead at strong noise and behind at weak noise (docs/experiments.md).
WAVELET = "sym4"
LEVELS = 4
SPAN = 4  # shifts along each axis
# What the levels need with filters of up to 8 taps; a shorter side is extended by its mirror images.
LEAST_SIDE = 7 << LEVELS


@denoiser
def wavelet(u: Unit, sigma: float, progress: Progress) -> Unit:
    """Denoise by the module's shrinkage, averaged over ``SPAN`` x ``SPAN`` shifts.

    Colour is denoised as luminance and chrominance (:mod:`tnrd.baselines.opponents`); the thresholds fit themselves to
    each. Signature, units and errors as in :class:`tnrd.baselines.contract.Denoiser`.
    """
    return by_plane(u, sigma, progress, grey=shrink_details, chrominance=shrink_details)


def shrink_details(u: Unit, sigma: float, progress: Progress, wavelet: str = WAVELET, span: int = SPAN) -> Unit:
    """The module's shrinkage.

    Args:
        u: f, (M, N).
        sigma: Noise level that the thresholds assume, on the scale of the picture.
        progress: Called after each shift.
        wavelet: PyWavelets' name of an orthogonal wavelet of at most 8 taps.
        span: Shifts along each axis; 1 is plain BayesShrink.

    Returns:
        The shape of ``u``, float32.
    """
    from skimage.restoration import denoise_wavelet

    spare = tuple((0, max(LEAST_SIDE - side, 0)) for side in u.shape)
    f = np.pad(u.astype(np.float64), spare, mode="symmetric")
    total = np.zeros_like(f)
    shifts = list(itertools.product(range(span), repeat=2))
    for done, (i, j) in enumerate(shifts, 1):
        shifted = np.pad(f, ((i, 0), (j, 0)), mode="symmetric")
        shrunk = denoise_wavelet(shifted, sigma=sigma, wavelet=wavelet, wavelet_levels=LEVELS, method="BayesShrink")
        total += shrunk[i:, j:]
        progress(done, len(shifts))
    return np.asarray(total[: u.shape[0], : u.shape[1]] / len(shifts), dtype=np.float32)
