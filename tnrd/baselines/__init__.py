"""Classic denoisers to measure the trained diffusion against, one file each, one signature: (image, sigma) -> image.

This package lists them; what one of them needs is imported when it is called.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from tnrd.baselines.contract import Progress, Unit

SPEEDS = {
    "fast": "under a second a megapixel on two cores",
    "medium": "seconds a megapixel",
    "slow": "a minute or more a megapixel",
}


class Baseline(NamedTuple):
    """A classic denoiser.

    Attributes:
        home: Module in this package and name in it.
        description: A plain line about it.
        licence: Of what computes it.
        speed: One of :data:`SPEEDS`.
    """

    home: tuple[str, str]
    description: str
    licence: str
    speed: str

    def denoise(
        self, image: ArrayLike, sigma: float, *, channel_axis: int | None = None, progress: Progress | None = None
    ) -> Unit:
        """The denoised image; arguments, result and errors as in :class:`tnrd.baselines.contract.Denoiser`."""
        module, name = self.home
        method = getattr(import_module(f"{__name__}.{module}"), name)
        result: Unit = method(image, sigma, channel_axis=channel_axis, progress=progress)
        return result


BASELINES: dict[str, Baseline] = {
    "perona_malik": Baseline(
        ("perona_malik", "perona_malik"),
        "Perona-Malik diffusion (1990): smooths within regions and slows down at edges; nothing is learned.",
        "Apache-2.0, this project",
        "medium",
    ),
    "bm3d": Baseline(
        ("bm3d", "bm3d"),
        "BM3D (2007): filters groups of similar blocks together.",
        "non-commercial use only, an extra of its own",
        "slow",
    ),
}
