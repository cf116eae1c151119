"""Total variation: the picture with the least sum of edge heights that still lies close to the noisy one,

    min over u of  weight TV(u) + 1/2 ||u - f||^2,    TV(u) = sum over pixels of |grad u|,

grad by forward differences, no difference across the border. Flat regions become flat and edges stay sharp, since a
jump costs the same as a slope of its height; fine texture goes, and slopes turn into stairs. Computed by scikit-image's
``denoise_tv_chambolle``, a projected gradient descent on the dual problem.

Rudin, Osher & Fatemi, Physica D 60, 1992; Chambolle, J. Math. Imaging Vis. 20, 2004.
"""

from __future__ import annotations

import numpy as np

from tnrd.baselines.contract import Progress, Unit, denoiser
from tnrd.baselines.opponents import by_plane
from tnrd.baselines.rules import PowerLaw, PowerLaws

# Found by `scripts/tune_baselines.py --every 20` on training pictures. PSNR there in grey at sigma
# 5 / 15 / 25 / 50 / 75: 35.79 / 28.97 / 26.36 / 23.36 / 21.87 dB; weights free for each level would gain 0.03 dB at
# most.
WEIGHT = PowerLaw(0.06522, 1.292)
# The bare chrominances reach 43.06 / 38.30 / 36.36 / 33.09 / 31.45 dB; one power law would lose up to 0.16 dB of it.
CHROMINANCE_WEIGHT = PowerLaws((5, 15, 25, 50, 75), (0.01726, 0.1054, 0.1905, 0.4722, 1.731))
# Nearer the minimum the pictures hardly differ (docs/experiments.md).
TOLERANCE = 5e-5
MOST_STEPS = 500


@denoiser
def total_variation(u: Unit, sigma: float, progress: Progress) -> Unit:
    """Denoise by the module's minimisation, with a weight that follows from the noise level.

    Colour is denoised as luminance and chrominance (:mod:`tnrd.baselines.opponents`), each with a weight of its own.
    Signature, units and errors as in :class:`tnrd.baselines.contract.Denoiser`.
    """
    return by_plane(
        u,
        sigma,
        progress,
        grey=lambda plane, level, _: least_variation(plane, WEIGHT(level)),
        chrominance=lambda plane, level, _: least_variation(plane, CHROMINANCE_WEIGHT(level)),
    )


def least_variation(u: Unit, weight: float, tolerance: float = TOLERANCE, most_steps: int = MOST_STEPS) -> Unit:
    """The minimiser, nearly.

    Args:
        u: f, (M, N).
        weight: Of the variation, on the scale of the picture, above 0.
        tolerance: The descent ends once the energy changes by less than this share of its first value in a step.
        most_steps: The descent ends after so many steps at the latest.

    Returns:
        The shape of ``u``.
    """
    from skimage.restoration import denoise_tv_chambolle

    result = denoise_tv_chambolle(  # type: ignore[no-untyped-call]
        u, weight=weight, eps=tolerance, max_num_iter=most_steps
    )
    return np.asarray(result, dtype=np.float32)
