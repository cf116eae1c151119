"""Which weights suit a picture: families of grey and colour weights, and what decides between the two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tnrd.inference.levels import NoiseLevel
from tnrd.pixels import channels_equal

DEFAULT_FAMILY = "default"
# For grey and for colour pictures; grey weights take colour in luminance and chrominance.
FAMILIES = {
    "fast": ("gray-fast", "gray-fast"),
    DEFAULT_FAMILY: ("gray", "color"),
    "best": ("gray-best", "color"),
}
# Colour weights know one level of noise, independent from channel to channel. Where the levels of the channels, or of
# luminance and chrominance, differ by more than this factor, grey weights, which take one for each, do better.
EVEN = 1.5


def candidates(model: str | Path) -> tuple[str | Path, ...]:
    """The weights that a name may come to mean: those of a family for grey and for colour, or itself alone."""
    return FAMILIES.get(str(model), (model,))


def choose(model: str | Path, pixels: NDArray[Any], noise: NoiseLevel) -> str | Path:
    """The weights for a picture.

    Args:
        model: A family, "default", "fast" or "best"; other names and paths stand for themselves.
        pixels: (M, N) or (M, N, 3).
        noise: Its level.

    Returns:
        A name of shipped weights, or the path. Of a family the colour weights for a picture whose channels differ and
        whose noise is even (:data:`EVEN`), the grey ones otherwise.
    """
    members = candidates(model)
    if len(members) == 1:
        return members[0]
    grey, colour = members
    return grey if pixels.ndim == 2 or channels_equal(pixels) or not _even(noise) else colour


def _even(noise: NoiseLevel) -> bool:
    """Whether one level tells all of the noise of a colour picture."""
    if noise.levels.ndim == 2:
        return True
    parts = [noise.levels] if noise.planes is None else [noise.levels, noise.planes]
    return all(bool(np.max(part) <= EVEN * np.min(part)) for part in parts)
