"""Is the noise of a picture white? Its level at half the size tells.

The mean of 2 x 2 pixels halves white noise. Noise that is correlated from pixel to pixel, as it is after demosaicing,
sharpening by a camera, scaling or JPEG, loses less: its fine part, which the estimator sees at full size, is weak, and
what it leaves at half the size is twice to ten times what white noise of that level would. Such noise is often still
correlated there: how strong it is tells a quarter of the size better.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tnrd.noise import estimate_sigma
from tnrd.pixels import as_pixels, binned, to_unit

# White noise of levels 5 to 30 (8-bit scale) on photographs gives a growth of 0.95 to 1.05, noise blurred by half a
# pixel 1.3 to 1.7, and stronger correlation more.
_GROWTH = 1.25
_SIDE = 1024
_LEAST_SIDE = 48  # of a picture in which noise is measured
_VISIBLE = 1.5 / 255  # weaker noise is not worth a word


class NoiseAcrossScales(NamedTuple):
    """The noise at full size, and at half of it or a quarter.

    Attributes:
        fine: Its level as estimated from the picture, [0, 1] scale.
        coarse: The level that white noise would have to have at full size, to leave what there is at half the size or,
            where the noise is correlated and leaves more there, at a quarter.
    """

    fine: float
    coarse: float

    @property
    def is_correlated(self) -> bool:
        """Whether the noise is visibly stronger than white noise of the estimated level."""
        return self.coarse > _VISIBLE and self.coarse > _GROWTH * self.fine


def noise_across_scales(image: ArrayLike, *, channel_axis: int | None = None) -> NoiseAcrossScales:
    """Estimate the noise at full size and below; of large pictures, that of the middle 1024 x 1024 pixels.

    Args:
        image: (M, N), or three channels with ``channel_axis``; integers are scaled to [0, 1].
        channel_axis: The axis of the channels, None for grey.

    Returns:
        Both levels, root mean squares over the channels.

    Raises:
        ValueError: The image is no picture, see :func:`tnrd.estimate_sigma`.
    """
    pixels = as_pixels(image, channel_axis)
    rows, columns = (slice(max(0, (n - _SIDE) // 2), (n + _SIDE) // 2) for n in pixels.shape[:2])
    pixels = to_unit(pixels[rows, columns])
    half = binned(pixels)
    found = NoiseAcrossScales(_level(pixels), 2 * _level(half))
    if found.is_correlated and min(half.shape[:2]) >= 2 * _LEAST_SIDE:
        found = found._replace(coarse=max(found.coarse, 4 * _level(binned(half))))
    return found


def _level(pixels: NDArray[np.float32]) -> float:
    axis = None if pixels.ndim == 2 else -1
    return float(np.mean(estimate_sigma(pixels, channel_axis=axis, average_sigmas=True)))
