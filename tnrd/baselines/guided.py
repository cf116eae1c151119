"""The guided filter: around every pixel the picture is fitted by a line in its guide, and the line is kept.

In each square window w of radius r, p ~ a I + b by ridge regression on the guide I; a pixel takes the mean of the
lines of all windows that hold it:

    a = cov_w(I, p)/(var_w(I) + eps),    b = mean_w(p) - a mean_w(I),    u = mean_w(a) I + mean_w(b).

Where the guide is flatter than eps, a is near 0 and u a blur; at an edge a is near 1 and u keeps it. A grey picture is
its own guide. Mirrored boundary. Computed by kornia's ``guided_blur``.

He, Sun & Tang, ECCV 2010, and IEEE PAMI 35(6), 2013.
"""

from __future__ import annotations

import numpy as np
import torch

from tnrd.baselines.contract import Progress, Unit, denoiser
from tnrd.baselines.opponents import LUMINANCE_NOISE, from_planes, to_planes
from tnrd.baselines.rules import PowerLaw, PowerLaws, nearest

# Found by `scripts/tune_baselines.py --every 20` on training pictures. PSNR there in grey at sigma
# 5 / 15 / 25 / 50 / 75: 35.94 / 28.69 / 25.79 / 22.55 / 21.25 dB (one power law for eps:
# 35.90 / 28.64 / 25.76 / 22.49 / 21.23).
RADIUS = {50: 1, 75: 2}
EPS = PowerLaws((5, 15, 25, 50, 75), (9.29e-4, 0.01216, 0.05104, 0.8489, 1.91))
CHROMINANCE_RADIUS = {5: 2, 15: 3, 25: 4, 50: 6}
CHROMINANCE_EPS = PowerLaw(0.00523, 0.527)


@denoiser
def guided(u: Unit, sigma: float, progress: Progress) -> Unit:
    """Denoise by the module's filter, with a radius and eps that follow from the noise level.

    In colour the mean of the channels is filtered as a grey picture, and then guides the two chrominances
    (:mod:`tnrd.baselines.opponents`). Signature, units and errors as in :class:`tnrd.baselines.contract.Denoiser`.
    """
    if u.ndim == 2:
        return _grey(u, sigma)
    planes = to_planes(u)
    mean = _grey(planes[0], sigma * LUMINANCE_NOISE)
    progress(1, 2)
    radius, eps = nearest(CHROMINANCE_RADIUS, sigma), CHROMINANCE_EPS(sigma)
    return from_planes(np.stack([mean, *(fit_to_guide(mean, plane, radius, eps) for plane in planes[1:])]))


def fit_to_guide(guide: Unit, u: Unit, radius: int, eps: float) -> Unit:
    """The module's filter.

    Args:
        guide: I, (M, N).
        u: p, (M, N).
        radius: r >= 1, in pixels.
        eps: Above 0, the square of a contrast on the scale of the guide.

    Returns:
        The shape of ``u``, float32.
    """
    from kornia.filters import guided_blur

    margin = 2 * radius  # what a pixel depends on, so that kornia's own boundary is never seen

    def padded(v: Unit) -> torch.Tensor:
        # In double precision, and around 0: the variances are differences of squares.
        return torch.from_numpy(np.pad(v.astype(np.float64) - v.mean(), margin, mode="symmetric"))[None, None]

    seen = padded(guide)
    p = seen if u is guide else padded(u)
    result = guided_blur(seen, p, 2 * radius + 1, eps, separable=True)[0, 0, margin:-margin, margin:-margin].numpy()
    return np.asarray(result + u.mean(), dtype=np.float32)


def _grey(u: Unit, sigma: float) -> Unit:
    return fit_to_guide(u, u, nearest(RADIUS, sigma), EPS(sigma))
