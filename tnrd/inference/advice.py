"""Which kind of noise would suit a picture better than white noise of one level."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tnrd.correlated_noise import noise_across_scales
from tnrd.inference.levels import MAX_SIGMA, NoiseLevel
from tnrd.inference.noise_model import CORRELATED, POISSON_GAUSSIAN
from tnrd.inference.stabilisation import stabilisation
from tnrd.photon_noise import estimate_photon_noise, growth_with_brightness
from tnrd.pixels import to_unit

# Gaussian noise of 5 and more on the 8-bit scale seems to grow by up to 1.5 from dark to bright parts of a photograph
# (1.2 in most), photon noise grows 1.8 to 6 times
# where it matters; weaker noise is not told from texture.
_GROWTH, _LEAST = 1.8, 3 / 255
_SIDE, _LEAST_SIDE = 1024, 64


class Advice(NamedTuple):
    """A kind of noise (:data:`tnrd.inference.noise_model.KINDS`), and of correlated noise its level, [0, 1] scale."""

    kind: str
    sigma: float | None = None


def advice(noise: NoiseLevel, pixels: NDArray[Any]) -> Advice | None:
    """What would suit a picture better than the white noise that was estimated; None if nothing would.

    Photon noise grows with the brightness, and is white once that is taken into account; correlated noise leaves more
    at lower resolution. Fine texture does so, too: nothing but the eye tells it from noise.

    Args:
        noise: As estimated by :func:`tnrd.inference.levels.estimate_noise`.
        pixels: (M, N) or (M, N, 3) of any depth; of large pictures the middle is looked at.
    """
    axis = None if pixels.ndim == 2 else -1
    if _is_of_photons(noise, pixels):
        return Advice(POISSON_GAUSSIAN)
    scales = noise_across_scales(pixels, channel_axis=axis)
    return Advice(CORRELATED, scales.coarse) if scales.is_correlated else None


def _is_of_photons(noise: NoiseLevel, pixels: NDArray[Any]) -> bool:
    rows, columns = (slice(max(0, (n - _SIDE) // 2), (n + _SIDE) // 2) for n in pixels.shape[:2])
    part = to_unit(pixels[rows, columns])
    if min(part.shape[:2]) < _LEAST_SIDE or noise.span <= 0:
        return False
    axis = None if part.ndim == 2 else -1
    found = estimate_photon_noise(part, channel_axis=axis)
    level = math.sqrt(found.gain * max(0.0, float(np.mean(part)) - found.offset) + found.read_noise**2)
    if not _LEAST * noise.span < level < MAX_SIGMA or growth_with_brightness(found, part) < _GROWTH:
        return False
    stabilised = stabilisation(part, found).forward(part)
    return not noise_across_scales(stabilised, channel_axis=axis).is_correlated
