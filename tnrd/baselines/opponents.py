"""A method of grey pictures in colour: on the mean of the channels, and on what they differ by.

The planes are those of :mod:`tnrd.colour`, in which white noise stays white and at its level. Photographs keep nearly
all their detail in the first plane, so the other two bear a far stronger smoothing: a method scores better this way
than on red, green and blue alike. The first plane is taken as the mean (R + G + B)/3, a grey picture like any other,
with noise of sigma/sqrt(3).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from tnrd import colour
from tnrd.baselines.contract import Progress, Unit

Method = Callable[[Unit, float, Progress], Unit]

LUMINANCE_NOISE = colour.PLANE_SCALES[0]


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
    planes: Unit = colour.to_planes(torch.from_numpy(u).permute(2, 0, 1)).contiguous().numpy()
    return planes


def from_planes(planes: Unit) -> Unit:
    """The inverse of :func:`to_planes`."""
    u: Unit = colour.from_planes(torch.from_numpy(planes)).permute(1, 2, 0).contiguous().numpy()
    return u
