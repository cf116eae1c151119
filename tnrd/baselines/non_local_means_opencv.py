"""Non-local means by OpenCV, the fast one that photo scripts call.

    u(x) = sum over y of w(x, y) f(y) / sum of w(x, y),    w = exp(-d(x, y)^2/h^2),

with y in a search window around x and d^2 the mean squared difference of the patches ("templates") around x and y; as
in :mod:`tnrd.baselines.non_local_means`, but without the noise level in the distances.

``cv2.fastNlMeansDenoising`` takes **8-bit pictures**. Noise that leaves black or white must not be cut off at 0 and
255, which would shift the means of dark and bright regions, so the 256 steps are spread over [-3 sigma, 1 + 3 sigma];
beyond it values are clipped. The grid is laid such that the mean of the picture is on it: a flat picture stays as it
is, any other is rounded to steps of (1 + 6 sigma)/255.

Buades, Coll & Morel, CVPR 2005, and IPOL 1, 2011.
"""

from __future__ import annotations

import numpy as np

from tnrd.baselines.contract import Progress, Unit, denoiser
from tnrd.baselines.opponents import by_plane
from tnrd.baselines.rules import PowerLaw, PowerLaws, nearest

SEARCH = 15
# Found by `scripts/tune_baselines.py --every 20` on training pictures. PSNR there in grey at sigma
# 5 / 15 / 25 / 50 / 75: 36.12 / 29.44 / 26.58 / 22.98 / 21.10 dB; cuts free for each level would gain 0.04 dB at most.
# A search window of 21, OpenCV's own, loses (docs/experiments.md).
TEMPLATE = {25: 3, 50: 5}
CUT = PowerLaw(0.1054, 0.901)
# The bare chrominances reach 42.26 / 37.45 / 35.12 / 32.14 / 30.31 dB; one power law would lose up to 0.14 dB of it.
CHROMINANCE_TEMPLATE = {5: 5, 15: 7, 25: 7, 50: 7, 75: 9}
CHROMINANCE_CUT = PowerLaws((5, 15, 25, 50, 75), (0.02161, 0.06103, 0.1119, 0.3228, 0.5652))
# The range of (R - 2 G + B)/sqrt(6), the wider of the two chrominances.
CHROMINANCE_RANGE = (-2 / 6**0.5, 2 / 6**0.5)
MARGIN = 3.0


@denoiser
def non_local_means_opencv(u: Unit, sigma: float, progress: Progress) -> Unit:
    """Denoise by the module's mean on 8 bits, with a template and a cut h that follow from the noise level.

    Colour is denoised as luminance and chrominance (:mod:`tnrd.baselines.opponents`), which is better by far than
    ``cv2.fastNlMeansDenoisingColored`` (docs/experiments.md). Mirrored boundary. Signature, units and errors as in
    :class:`tnrd.baselines.contract.Denoiser`.
    """

    def grey(plane: Unit, level: float, _: Progress) -> Unit:
        return mean_of_alike(plane, level, nearest(TEMPLATE, level), CUT(level))

    def chrominance(plane: Unit, level: float, _: Progress) -> Unit:
        cut = CHROMINANCE_CUT(level)
        return mean_of_alike(plane, level, nearest(CHROMINANCE_TEMPLATE, level), cut, CHROMINANCE_RANGE)

    return by_plane(u, sigma, progress, grey, chrominance)


def mean_of_alike(
    u: Unit, sigma: float, template: int, cut: float, span: tuple[float, float] = (0.0, 1.0), search: int = SEARCH
) -> Unit:
    """The module's mean.

    Args:
        u: f, (M, N).
        sigma: Noise level on the scale of the picture.
        template: Side of a patch in pixels, odd.
        cut: h > 0, on the scale of the picture.
        span: Smallest and largest value of a clean picture.
        search: Side of the search window in pixels, odd.

    Returns:
        The shape of ``u``, float32.
    """
    import cv2

    lowest, step = span[0] - MARGIN * sigma, (span[1] - span[0] + 2 * MARGIN * sigma) / 255
    mean = float(u.mean(dtype=np.float64))
    grey_of_mean = float(np.clip(np.rint((mean - lowest) / step), 0, 255))
    bytes_ = np.clip(np.rint((u - mean) / step) + grey_of_mean, 0, 255).astype(np.uint8)
    result = cv2.fastNlMeansDenoising(bytes_, None, h=cut / step, templateWindowSize=template, searchWindowSize=search)
    return np.asarray((result - grey_of_mean) * step + mean, dtype=np.float32)
