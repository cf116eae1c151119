"""Classic denoisers to measure the trained diffusion against, one file each, one signature: (image, sigma) -> image.

This package lists them; what one of them needs is imported when it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Denoiser(Protocol):
    """The signature that every baseline has."""

    def __call__(
        self, image: NDArray[np.generic], sigma: float, *, channel_axis: int | None = None
    ) -> NDArray[np.float32]:
        """The denoised image.

        Args:
            image: (M, N), or with a channel axis; floats nominally in [0, 1], integers scaled to it.
            sigma: Standard deviation of the noise, on the [0, 1] scale.
            channel_axis: The axis of the channels, None for grey.

        Returns:
            The shape of ``image``.
        """


class Baseline(NamedTuple):
    """A denoiser and one plain line about it."""

    denoise: Denoiser
    description: str


def _perona_malik(image: NDArray[np.generic], sigma: float, *, channel_axis: int | None = None) -> NDArray[np.float32]:
    from tnrd.baselines.perona_malik import perona_malik

    return perona_malik(image, sigma, channel_axis=channel_axis)


def _bm3d(image: NDArray[np.generic], sigma: float, *, channel_axis: int | None = None) -> NDArray[np.float32]:
    from tnrd.baselines.bm3d import bm3d

    return bm3d(image, sigma, channel_axis=channel_axis)


BASELINES: dict[str, Baseline] = {
    "perona_malik": Baseline(
        _perona_malik,
        "Perona-Malik diffusion (1990): smooths within regions and slows down at edges; nothing is learned.",
    ),
    "bm3d": Baseline(
        _bm3d,
        "BM3D (2007): filters groups of similar blocks together; its package is for non-commercial use, an extra.",
    ),
}
