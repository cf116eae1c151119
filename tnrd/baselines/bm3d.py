"""BM3D by its authors' package: block matching and collaborative filtering in a 3-d transform domain.

Dabov, Foi, Katkovnik & Egiazarian, IEEE TIP 16(8), 2007; Makinen, Azzari & Foi, IEEE TIP 29, 2020. The ``bm3d`` package
is for **non-commercial use**, which is why it is an extra (``pip install "tnrd[bm3d]"``) and never installed unasked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tnrd.baselines.contract import Progress, Unit, denoiser

SMALLEST = 48  # pixels a side that the package needs, with some room
LEAST_CONTRAST = 1e-6  # of the planes that the package divides by


@denoiser
def bm3d(u: Unit, sigma: float, progress: Progress) -> Unit:
    """BM3D, or CBM3D in colour, with the package's own settings for white noise; it tells nothing of its progress.

    Pictures narrower than 48 pixels, at which the package can end the process, are mirrored to that size. Its threads
    add up in any order: two runs differ by float rounding.

    Signature, units and errors as in :class:`tnrd.baselines.contract.Denoiser`, and

    Raises:
        ModuleNotFoundError: The ``bm3d`` package is not installed.
    """
    try:
        import bm3d as package
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'BM3D needs the bm3d package, which is for non-commercial use: pip install "tnrd[bm3d]".', name="bm3d"
        ) from error
    if np.all(u == u[:1, :1]):
        return u
    height, width = u.shape[:2]
    margins = [(0, max(0, SMALLEST - side)) for side in (height, width)] + [(0, 0)] * (u.ndim - 2)
    whole = np.pad(u.astype(np.float64), margins, mode="symmetric")
    return np.asarray(_run(package, whole, sigma)[:height, :width], dtype=np.float32)


def _run(package: Any, u: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    if u.ndim == 2:
        return np.asarray(package.bm3d(u, sigma))
    if np.array_equal(u[..., 0], u[..., 1]) and np.array_equal(u[..., 0], u[..., 2]):
        return np.repeat(package.bm3d(u[..., 0], sigma)[..., np.newaxis], 3, axis=2)
    # The package divides by the range of each plane: one that is constant must not be quite so.
    flat = [plane for plane in ((1, 0, -1), (1, -2, 1)) if not np.ptp(u @ np.array(plane))]
    for plane in flat:
        u = u + np.random.default_rng(0).normal(scale=LEAST_CONTRAST, size=u.shape[:2])[..., np.newaxis] * plane
    return np.asarray(package.bm3d_rgb(u, sigma))
