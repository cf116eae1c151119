"""The median filter: every pixel becomes the middle one of its neighbourhood in order of brightness.

    u(x) = median of f over the window around x,    once or several times over, mirrored boundary.

Edges stay sharp and single outliers vanish, for which it was made; in Gaussian noise the median of n values has a
variance pi/2 times that of their mean, so it removes less than a blur of the same window, and thin lines go with the
noise. At low noise the smallest window already takes more than it gives. The five-pixel cross is computed by SciPy,
the squares by OpenCV.

Tukey, "Exploratory Data Analysis", 1977.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tnrd.baselines.contract import Progress, Unit, denoiser
from tnrd.baselines.opponents import by_plane
from tnrd.baselines.rules import nearest

CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)


class Window(NamedTuple):
    """Which median is taken, and how often.

    Attributes:
        side: 1 for the cross of a pixel and its four neighbours, 3 or 5 for a square.
        passes: How often.
    """

    side: int
    passes: int


# By level. Found by `scripts/tune_baselines.py --every 20` on training pictures. PSNR there in grey at sigma
# 5 / 15 / 25 / 50 / 75: 30.44 / 26.91 / 24.72 / 21.90 / 20.59 dB; the noisy pictures have
# 34.16 / 24.75 / 20.45 / 14.93 / 12.05.
WINDOWS = {5: Window(1, 1), 15: Window(1, 2), 25: Window(1, 5), 50: Window(3, 8), 75: Window(5, 3)}
CHROMINANCE_WINDOWS = {5: Window(3, 3), 15: Window(5, 3), 25: Window(5, 8)}


@denoiser
def median(u: Unit, sigma: float, progress: Progress) -> Unit:
    """Denoise by the module's filter, with a window and a number of passes that follow from the noise level.

    Colour is filtered as luminance and chrominance (:mod:`tnrd.baselines.opponents`). Signature, units and errors as in
    :class:`tnrd.baselines.contract.Denoiser`.
    """
    return by_plane(
        u,
        sigma,
        progress,
        grey=lambda plane, level, _: take_medians(plane, nearest(WINDOWS, level)),
        chrominance=lambda plane, level, _: take_medians(plane, nearest(CHROMINANCE_WINDOWS, level)),
    )


def take_medians(u: Unit, window: Window) -> Unit:
    """The module's filter on (M, N), float32."""
    import cv2
    from scipy.ndimage import median_filter

    for _ in range(window.passes):
        if window.side == 1:
            u = median_filter(u, footprint=CROSS, mode="reflect")
        else:
            margin = window.side // 2
            padded = np.pad(u, margin, mode="symmetric")
            u = np.asarray(cv2.medianBlur(padded, window.side), dtype=np.float32)[margin:-margin, margin:-margin]
    return u
