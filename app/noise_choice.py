"""The noise that a visitor adds to a clean picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tnrd.degradations import add_poisson_gaussian, add_salt_and_pepper, compress_jpeg
from tnrd.noise import add_noise

Unit = NDArray[np.float32]
SEED = 1
READ_NOISE = 2 / 255


class Noise(NamedTuple):
    """A way to spoil a picture.

    Attributes:
        label: For people.
        unit: What the slider means.
        low: Left end of the slider.
        high: Right end.
        start: Where it stands at first.
        add: The spoiled picture of (picture on the [0, 1] scale, value of the slider).
    """

    label: str
    unit: str
    low: float
    high: float
    start: float
    add: Callable[[Unit, float], Unit]


NOISES = {
    "none": Noise("None: my picture is noisy already", "", 0, 1, 0, lambda u, _: u),
    "gaussian": Noise("Gaussian", "sigma, 8-bit scale", 1, 75, 25, lambda u, s: add_noise(u, s / 255, SEED)),
    "poisson": Noise(
        "Photons and read noise",
        "photons at white (fewer are noisier)",
        5,
        500,
        80,
        lambda u, peak: add_poisson_gaussian(u, 1 / peak, READ_NOISE, SEED),
    ),
    "salt": Noise(
        "Salt and pepper", "percent of the pixels", 0.5, 30, 5, lambda u, p: add_salt_and_pepper(u, p / 100, SEED)
    ),
    "jpeg": Noise("JPEG", "quality (lower is worse)", 5, 95, 20, lambda u, quality: compress_jpeg(u, round(quality))),
}
