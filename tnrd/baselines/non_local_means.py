"""Non-local means: every pixel becomes a mean of those whose surroundings look alike.

    u(x) = sum over y of w(x, y) f(y) / sum of w(x, y),
    w    = exp(-max(sum over z of ((f(x + z) - f(y + z))^2 - 2 sigma^2), 0)/(p h)^2),

y within ``DISTANCE`` pixels of x along either axis and z over the square patch of side p, where the noise alone makes
2 sigma^2 of each difference. Repeating structure lends itself to it. Computed by scikit-image's ``denoise_nl_means`` in
its fast mode, whose integral images hold one row and one column of the patch less than its side: z runs from -(p - 3)/2
to (p - 1)/2, so that the result of a flipped picture is not quite the flipped result.

Buades, Coll & Morel, CVPR 2005, and IPOL 1, 2011; Darbon, Cunha, Chan, Osher & Jensen, ISBI 2008 (fast mode).
"""

from __future__ import annotations

import numpy as np

from tnrd.baselines.contract import Progress, Unit, denoiser
from tnrd.baselines.opponents import by_plane
from tnrd.baselines.rules import PowerLaw, PowerLaws, nearest

DISTANCE = 7
# Found by `scripts/tune_baselines.py --every 20` on training pictures. PSNR there in grey at sigma
# 5 / 15 / 25 / 50 / 75: 35.93 / 29.30 / 26.71 / 23.31 / 21.48 dB; cuts free for each level would gain nothing. Looking
# farther loses (docs/experiments.md).
PATCH = {25: 5, 50: 7}
CUT = PowerLaw(0.05933, 0.829)
# The bare chrominances reach 42.74 / 38.04 / 35.65 / 32.35 / 30.42 dB; one power law would lose up to 0.11 dB of it.
CHROMINANCE_PATCH = {5: 7, 15: 9}
CHROMINANCE_CUT = PowerLaws((5, 15, 25, 50, 75), (0.01292, 0.03472, 0.06039, 0.1734, 0.3567))
# Rows computed at once: progress is told after each strip, and sums over a strip keep their digits.
STRIP = 128


@denoiser
def non_local_means(u: Unit, sigma: float, progress: Progress) -> Unit:
    """Denoise by the module's mean, with a patch and a cut h that follow from the noise level.

    Colour is denoised as luminance and chrominance (:mod:`tnrd.baselines.opponents`). Mirrored boundary. Signature,
    units and errors as in :class:`tnrd.baselines.contract.Denoiser`.
    """

    def grey(plane: Unit, level: float, report: Progress) -> Unit:
        return mean_of_alike(plane, level, nearest(PATCH, level), CUT(level), report)

    def chrominance(plane: Unit, level: float, report: Progress) -> Unit:
        return mean_of_alike(plane, level, nearest(CHROMINANCE_PATCH, level), CHROMINANCE_CUT(level), report)

    return by_plane(u, sigma, progress, grey, chrominance)


def mean_of_alike(
    u: Unit, sigma: float, patch: int, cut: float, progress: Progress, distance: int = DISTANCE, strip: int = STRIP
) -> Unit:
    """The module's mean, strip by strip; the strips overlap by what a pixel depends on.

    Args:
        u: f, (M, N).
        sigma: Noise level on the scale of the picture.
        patch: Side of a patch in pixels, odd.
        cut: h > 0, on the scale of the picture.
        progress: Called after each strip.
        distance: How far away a pixel may lie, along either axis.
        strip: Rows computed at once.

    Returns:
        The shape of ``u``, float32.
    """
    from skimage.restoration import denoise_nl_means

    halo = distance + patch
    starts = range(0, len(u), strip)
    out = np.empty_like(u)
    for done, start in enumerate(starts, 1):
        first = max(start - halo, 0)
        seen = u[first : start + strip + halo].astype(np.float64)
        result = denoise_nl_means(seen, patch_size=patch, patch_distance=distance, h=cut, sigma=sigma, fast_mode=True)
        # A single pixel comes back without its axes.
        out[start : start + strip] = result.reshape(seen.shape)[start - first :][:strip]
        progress(done, len(starts))
    return out
