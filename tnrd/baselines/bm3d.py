"""BM3D by its authors' package: block matching and collaborative filtering in a 3-d transform domain.

Dabov, Foi, Katkovnik & Egiazarian, IEEE TIP 16(8), 2007; Makinen, Azzari & Foi, IEEE TIP 29, 2020. The ``bm3d`` package
is for **non-commercial use**, which is why it is an extra (``pip install "tnrd[bm3d]"``) and never installed unasked.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def bm3d(image: NDArray[np.generic], sigma: float, *, channel_axis: int | None = None) -> NDArray[np.float32]:
    """Denoise by BM3D, or CBM3D in colour, with the package's own settings for white noise.

    Args:
        image: (M, N), or three channels with ``channel_axis``; floats nominally in [0, 1], integers scaled to it.
        sigma: Standard deviation of the noise on the [0, 1] scale; 0 returns the image.
        channel_axis: The axis of the channels, None for grey.

    Returns:
        The shape of ``image``.

    Raises:
        ModuleNotFoundError: The ``bm3d`` package is not installed.
        ValueError: The image is not finite or sigma is negative.
    """
    try:
        import bm3d as package
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'BM3D needs the bm3d package, which is for non-commercial use: pip install "tnrd[bm3d]".', name="bm3d"
        ) from error
    from skimage.util import img_as_float64

    pixels = img_as_float64(image)  # type: ignore[no-untyped-call]
    if not np.isfinite(pixels).all():
        raise ValueError("The image has values that are not finite.")
    if not 0 <= sigma < np.inf:
        raise ValueError(f"sigma must be finite and at least 0, got {sigma}.")
    if sigma == 0:
        return np.asarray(pixels, dtype=np.float32)
    if channel_axis is None:
        return np.asarray(package.bm3d(pixels, sigma), dtype=np.float32)
    result = package.bm3d_rgb(np.moveaxis(pixels, channel_axis, -1), sigma)
    return np.ascontiguousarray(np.moveaxis(result, -1, channel_axis), dtype=np.float32)
