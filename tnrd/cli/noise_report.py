"""What the command says about the noise that it has estimated, and which option would serve a picture better."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tnrd.cli.reporting import as_level
from tnrd.pixels import to_unit

if TYPE_CHECKING:
    from tnrd.inference.levels import NoiseLevel

# Gaussian noise of 5 and more on the 8-bit scale seems to grow by up to 1.5 from dark to bright parts of a photograph
# (1.2 in most), photon noise grows 1.8 to 6 times; weaker noise is not told from texture.
_GROWTH, _LEAST = 1.8, 3 / 255
_SIDE, _LEAST_SIDE = 1024, 64


def described_level(noise: NoiseLevel, dtype: np.dtype[Any]) -> str:
    """The level for people: on the 8-bit scale, and of deeper pictures in their own steps too."""
    found = ", ".join(as_level(level) for level in noise.levels)
    channels = " (red, green, blue)" if len(noise.levels) == 3 else ""
    if dtype.kind == "f" and noise.span > 1.5:  # on a scale of its own, of which there is no 8-bit scale
        return "sigma = " + ", ".join(f"{level:.4g}" for level in noise.levels) + f"{channels} in the file's own unit"
    own = ""
    if dtype.kind in "iu" and dtype.itemsize > 1:
        steps = ", ".join(f"{np.iinfo(dtype).max * float(level):.3g}" for level in noise.levels)
        own = f", {steps} in steps of the file"
    return f"sigma = {found}{channels} on the 8-bit scale{own}"


def hint_for(noise: NoiseLevel, pixels: NDArray[Any]) -> str:
    """What the noise is beside white noise of one level, and what helps; "" if there is nothing to say."""
    from tnrd.correlated_noise import noise_across_scales
    from tnrd.inference.levels import MAX_SIGMA

    if noise.amplification * float(noise.levels.max()) > 0.999 * MAX_SIGMA:
        return "That is the most that the models cover; the noise may be stronger."
    axis = None if pixels.ndim == 2 else -1
    if _is_of_photons(noise, pixels):
        return (
            "The noise is stronger where the picture is brighter, as photon noise is: --noise poisson-gaussian treats "
            "it so."
        )
    scales = noise_across_scales(pixels, channel_axis=axis)
    if scales.is_correlated:
        return (
            "At lower resolution there is more than white noise of this level would leave. If that is noise, as in a "
            "camera's JPEG or a scan, much of it will stay: --noise correlated takes "
            f"sigma = {255 * scales.coarse:.0f}, which smooths more. If it is fine texture, leave it so."
        )
    return ""


def _is_of_photons(noise: NoiseLevel, pixels: NDArray[Any]) -> bool:
    """Whether the noise grows with the brightness, and is white once that is taken into account."""
    from tnrd.correlated_noise import noise_across_scales
    from tnrd.inference.levels import MAX_SIGMA
    from tnrd.inference.stabilisation import stabilisation
    from tnrd.photon_noise import estimate_photon_noise, growth_with_brightness

    rows, columns = (slice(max(0, (n - _SIDE) // 2), (n + _SIDE) // 2) for n in pixels.shape[:2])
    part = to_unit(pixels[rows, columns])
    if min(part.shape[:2]) < _LEAST_SIDE or noise.span <= 0:
        return False
    axis = None if part.ndim == 2 else -1
    found = estimate_photon_noise(part, channel_axis=axis)
    level = math.sqrt(found.gain * max(0.0, float(part.mean()) - found.offset) + found.read_noise**2)
    if not _LEAST * noise.span < level < MAX_SIGMA or growth_with_brightness(found, part) < _GROWTH:
        return False
    stabilised = stabilisation(part, found).forward(part)
    return not noise_across_scales(stabilised, channel_axis=axis).is_correlated
