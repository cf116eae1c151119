"""The local Wiener filter: a blur that holds back where the picture varies more than its noise.

With the mean mu and the variance v of f in the square window of radius r around a pixel, mirrored boundary,

    u = mu + max(1 - n/v, 0) (f - mu),    n = strength sigma^2,

the linear estimate of least mean squared error for a signal of variance v - sigma^2 in white noise. Strength 1 is the
textbook's; a higher one makes up for what the local variance v itself gains and loses by the noise. Computed by
SciPy's ``signal.wiener``.

Lee, IEEE PAMI 2(2), 1980; Lim, "Two-Dimensional Signal and Image Processing", 1990.
"""

from __future__ import annotations

import numpy as np

from tnrd.baselines.contract import Progress, Unit, denoiser
from tnrd.baselines.opponents import by_plane
from tnrd.baselines.rules import PowerLaw, nearest

# Found by `scripts/tune_baselines.py --every 20` on training pictures. PSNR there in grey at sigma
# 5 / 15 / 25 / 50 / 75: 35.90 / 28.70 / 25.71 / 22.44 / 20.89 dB; strengths free for each level would gain 0.02 dB at
# most.
RADIUS = {15: 1, 25: 2, 50: 2, 75: 3}
STRENGTH = PowerLaw(1.33, 0.0)
CHROMINANCE_RADIUS = {5: 2, 15: 3, 25: 4, 50: 6}
CHROMINANCE_STRENGTH = PowerLaw(1.507, -0.131)


@denoiser
def wiener(u: Unit, sigma: float, progress: Progress) -> Unit:
    """Denoise by the module's filter, with a radius and a strength that follow from the noise level.

    Colour is denoised as luminance and chrominance (:mod:`tnrd.baselines.opponents`). Signature, units and errors as in
    :class:`tnrd.baselines.contract.Denoiser`.
    """

    def grey(plane: Unit, level: float, _: Progress) -> Unit:
        return shrink_to_mean(plane, level, nearest(RADIUS, level), STRENGTH(level))

    def chrominance(plane: Unit, level: float, _: Progress) -> Unit:
        return shrink_to_mean(plane, level, nearest(CHROMINANCE_RADIUS, level), CHROMINANCE_STRENGTH(level))

    return by_plane(u, sigma, progress, grey, chrominance)


def shrink_to_mean(u: Unit, sigma: float, radius: int, strength: float) -> Unit:
    """The module's filter.

    Args:
        u: f, (M, N).
        sigma: Noise level on the scale of the picture.
        radius: r >= 1, in pixels.
        strength: n/sigma^2.

    Returns:
        The shape of ``u``, float32.
    """
    from scipy.signal import wiener as filter_

    # SciPy's own boundary is black. The variance is a difference of squares, so it is taken around 0.
    mean = u.mean(dtype=np.float64)
    padded = np.pad(u - mean, radius, mode="symmetric")
    with np.errstate(divide="ignore", invalid="ignore"):  # where v = 0, SciPy takes the mean after all
        result = filter_(padded, 2 * radius + 1, strength * sigma**2)
    return np.asarray(result[radius:-radius, radius:-radius] + mean, dtype=np.float32)
