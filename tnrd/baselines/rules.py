"""How a parameter follows from the noise level: a power law, power laws from point to point, or a choice by level.

Levels are named on the 8-bit scale, ``sigma`` itself lies on the [0, 1] scale. The constants of the rules were found by
``scripts/tune_baselines.py`` on training pictures.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from tnrd.baselines.contract import LEAST_SIGMA

REFERENCE = 25 / 255

T = TypeVar("T")


class PowerLaw(NamedTuple):
    """``at_25 (sigma/(25/255))^growth``.

    Attributes:
        at_25: The value at the level 25 of 255.
        growth: The exponent.
    """

    at_25: float
    growth: float

    def __call__(self, sigma: float) -> float:
        """The parameter at a level, [0, 1] scale."""
        return self.at_25 * math.pow(max(sigma, LEAST_SIGMA) / REFERENCE, self.growth)


class PowerLaws(NamedTuple):
    """A power law between each two known levels, the first and the last of them continued beyond.

    Attributes:
        levels: Ascending, at least two, on the 8-bit scale.
        values: The parameter at each.
    """

    levels: tuple[float, ...]
    values: tuple[float, ...]

    def __call__(self, sigma: float) -> float:
        """The parameter at a level, [0, 1] scale."""
        level = 255 * max(sigma, LEAST_SIGMA)
        i = min(max(bisect.bisect(self.levels, level), 1), len(self.levels) - 1)
        growth = math.log(self.values[i] / self.values[i - 1]) / math.log(self.levels[i] / self.levels[i - 1])
        return self.values[i] * math.pow(level / self.levels[i], growth)


def nearest(choices: Mapping[int, T], sigma: float) -> T:
    """The choice of the level that is nearest to ``sigma``, as a ratio; of the lower one in the middle of two.

    Args:
        choices: What is best at some levels, on the 8-bit scale.
        sigma: A level, [0, 1] scale.

    Returns:
        One of the values.
    """
    level = 255 * max(sigma, LEAST_SIGMA)
    # Rounded, as the middle is met: the luminance of a colour picture with sigma 15 lies at sqrt(5 15).
    return choices[min(choices, key=lambda known: (round(abs(math.log(known / level)), 6), known))]
