"""The bilateral filter: a Gaussian blur that leaves out pixels of other brightness, so that edges stay.

    u(x) = sum over y of w(x, y) f(y) / sum of w(x, y),    w = exp(-|x - y|^2/(2 r^2) - (f(x) - f(y))^2/(2 s^2)),

over the disc of radius ceil(2.5 r), mirrored boundary. Computed in floating point by OpenCV's ``bilateralFilter``.

Aurich & Weule, DAGM 1995; Tomasi & Manduchi, ICCV 1998.
"""

from __future__ import annotations

import math

import numpy as np

from tnrd.baselines.contract import Progress, Unit, denoiser
from tnrd.baselines.opponents import by_plane
from tnrd.baselines.rules import PowerLaws

# Found by `scripts/tune_baselines.py --every 20` on training pictures. PSNR there in grey at sigma
# 5 / 15 / 25 / 50 / 75: 35.89 / 28.97 / 26.08 / 22.75 / 21.32 dB (one power law each:
# 35.84 / 28.95 / 26.02 / 22.75 / 21.20).
LEVELS = (5, 15, 25, 50, 75)
REACH = PowerLaws(LEVELS, (0.6885, 1.084, 1.227, 1.528, 2.006))
TOLERANCE = PowerLaws(LEVELS, (0.05575, 0.1492, 0.2617, 0.7142, 1.376))
# In pixels: the time grows with its square. The last reach of the chrominances was held by it.
LONGEST_REACH = 6.0
CHROMINANCE_REACH = PowerLaws(LEVELS, (1.344, 2.087, 2.803, 4.806, LONGEST_REACH))
CHROMINANCE_TOLERANCE = PowerLaws(LEVELS, (0.08635, 0.3649, 0.9151, 2.919, 6.527))


@denoiser
def bilateral(u: Unit, sigma: float, progress: Progress) -> Unit:
    """Denoise by the module's filter, with r and s that follow from the noise level.

    Colour is denoised as luminance and chrominance (:mod:`tnrd.baselines.opponents`). OpenCV looks the weight
    up in a table over the range of the picture, so that one far outlier makes it coarser. Signature, units and errors
    as in :class:`tnrd.baselines.contract.Denoiser`.
    """
    return by_plane(
        u,
        sigma,
        progress,
        grey=lambda plane, level, _: blur_among_alike(plane, REACH(level), TOLERANCE(level)),
        chrominance=lambda plane, level, _: blur_among_alike(
            plane, CHROMINANCE_REACH(level), CHROMINANCE_TOLERANCE(level)
        ),
    )


def blur_among_alike(u: Unit, reach: float, tolerance: float) -> Unit:
    """The module's filter.

    Args:
        u: f, (M, N).
        reach: r > 0, in pixels.
        tolerance: s > 0, on the scale of the picture.

    Returns:
        The shape of ``u``, float32.
    """
    import cv2

    reach = min(reach, LONGEST_REACH)
    diameter = 2 * math.ceil(2.5 * reach) + 1
    plane = np.ascontiguousarray(u)
    return np.asarray(cv2.bilateralFilter(plane, diameter, tolerance, reach, borderType=cv2.BORDER_REFLECT))
