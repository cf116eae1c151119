"""What the command says about the noise that it has estimated, and which option would serve a picture better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tnrd.cli.reporting import as_level

if TYPE_CHECKING:
    from tnrd.inference.levels import NoiseLevel


def described_level(noise: NoiseLevel, dtype: np.dtype[Any]) -> str:
    """The level for people: on the 8-bit scale, and of deeper pictures in their own steps too."""
    channels = " (red, green, blue)" if len(noise.levels) == 3 else ""
    if noise.has_own_scale:
        return "sigma = " + ", ".join(f"{level:.4g}" for level in noise.levels) + f"{channels} in the file's own unit"
    found, own = ", ".join(as_level(level) for level in noise.levels), ""
    if dtype.kind in "iu" and dtype.itemsize > 1:
        steps = ", ".join(f"{np.iinfo(dtype).max * float(level):.3g}" for level in noise.levels)
        own = f", {steps} in steps of the file"
    return f"sigma = {found}{channels} on the 8-bit scale{own}"


def hint_for(noise: NoiseLevel, pixels: NDArray[Any]) -> str:
    """What the noise is beside white noise of one level, and what helps; "" if there is nothing to say."""
    from tnrd.inference.advice import advice
    from tnrd.inference.levels import MAX_SIGMA

    if noise.amplification * float(noise.levels.max()) > 0.999 * MAX_SIGMA:
        return "That is the most that the models cover; the noise may be stronger."
    better = advice(noise, pixels)
    if better is None:
        return ""
    if better.sigma is None:
        return (
            "The noise is stronger where the picture is brighter, as photon noise is: --noise poisson-gaussian treats "
            "it so."
        )
    covering = f"{better.sigma:.4g}" if noise.has_own_scale else f"{255 * better.sigma:.0f}"
    return (
        "At lower resolution there is more than white noise of this level would leave. If that is noise, as in a "
        "camera's JPEG or a scan, much of it will stay: --noise correlated takes "
        f"sigma = {covering}, which smooths more. If it is fine texture, leave it so."
    )
