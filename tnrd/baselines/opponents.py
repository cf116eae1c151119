"""A method of grey pictures in colour: on the mean of the channels, and on what they differ by.

The channels are rotated by the orthonormal transform that CBM3D and others use,

    (1, 1, 1)/sqrt(3)  luminance,    (1, 0, -1)/sqrt(2)  red against blue,    (1, -2, 1)/sqrt(6)  green against both,

which leaves white noise white and at its level. Photographs keep nearly all their detail in the first plane, so the
other two bear a far stronger smoothing: a method scores better this way than on red, green and blue alike. The first
plane is taken as the mean (R + G + B)/3, a grey picture like any other, with noise of sigma/sqrt(3).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tnrd.baselines.contract import Progress, Unit

Method = Callable[[Unit, float, Progress], Unit]

LUMINANCE_NOISE = 1 / math.sqrt(3)
# Rows: the mean, then the two opponent planes; its inverse is written out in `from_planes`.
_FORWARD = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.array([[3], [math.sqrt(2)], [math.sqrt(6)]])


def by_plane(u: Unit, sigma: float, progress: Progress, grey: Method, chrominance: Method) -> Unit:
    """Denoise a grey picture by one method, a colour picture plane by plane by two.

    Args:
        u: (M, N) or (M, N, 3), [0, 1] scale.
        sigma: Noise level of each channel.
        progress: As in :class:`tnrd.baselines.contract.Denoiser`.
        grey: For a grey picture, and for the mean of the channels with its lower noise level.
        chrominance: For the two opponent planes, which lie around 0 and have the noise level of the channels.

    Returns:
        The shape of ``u``.
    """
    if u.ndim == 2:
        return grey(u, sigma, progress)
    planes = to_planes(u)
    methods = ((grey, sigma * LUMINANCE_NOISE), (chrominance, sigma), (chrominance, sigma))

    def part(c: int) -> Progress:
        return lambda done, total: progress(c * total + done, len(planes) * total)

    return from_planes(np.stack([method(planes[c], level, part(c)) for c, (method, level) in enumerate(methods)]))


def to_planes(u: Unit) -> Unit:
    """(M, N, 3) to (3, M, N): the mean of the channels and two opponent planes."""
    return np.stack([u @ row.astype(np.float32) for row in _FORWARD])


def from_planes(planes: Unit) -> Unit:
    """The inverse of :func:`to_planes`."""
    mean, red_blue, green = planes[0], planes[1] / np.float32(math.sqrt(2)), planes[2] / np.float32(math.sqrt(6))
    return np.stack([mean + red_blue + green, mean - 2 * green, mean - red_blue + green], axis=-1)
