"""The signature and the checks that every baseline has, put around what is its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tnrd.pixels import as_pixels, to_unit

Unit = NDArray[np.float32]
Progress = Callable[[int, int], None]

LARGEST = 1e6
LEAST_SIGMA = 1e-7  # weaker noise is below float32's resolution of [0, 1]


class Core(Protocol):
    """A method by itself: ``u`` is (M, N) or (M, N, 3), finite, on the [0, 1] scale, and ``sigma`` > 0."""

    def __call__(self, u: Unit, sigma: float, progress: Progress) -> Unit:
        """The denoised picture, shape of ``u``; ``u`` may be overwritten."""


class Denoiser(Protocol):
    """The signature that every baseline has."""

    def __call__(
        self, image: ArrayLike, sigma: float, *, channel_axis: int | None = None, progress: Progress | None = None
    ) -> Unit:
        """The denoised image.

        Args:
            image: (M, N), or 1 or 3 channels with a channel axis; floats nominally in [0, 1], integers scaled to it.
            sigma: Standard deviation of the noise, on the [0, 1] scale; 0 returns the image.
            channel_axis: The axis of the channels, None for grey.
            progress: Called with the number of parts done and their total, now and then. An exception that it raises
                ends the computation and reaches the caller: this is how to cancel.

        Returns:
            The shape of ``image``, on the [0, 1] scale, not clipped.

        Raises:
            ValueError: The image has another shape, no pixels, or values that are not finite or beyond
                :data:`LARGEST`, or ``sigma`` lies outside [0, 1].
        """


def denoiser(core: Core) -> Denoiser:
    """Give a method the signature and the checks of :class:`Denoiser`; its docstring stays."""

    @functools.wraps(core)
    def denoise(
        image: ArrayLike, sigma: float, *, channel_axis: int | None = None, progress: Progress | None = None
    ) -> Unit:
        u = to_unit(as_pixels(image, channel_axis))
        check_sigma(sigma)
        check_range(u)
        report = progress or _silent
        out = u if sigma == 0 else np.asarray(core(u, max(sigma, LEAST_SIGMA), report), dtype=np.float32)
        report(1, 1)
        return with_channels(out, channel_axis)

    del denoise.__wrapped__  # its signature is not that of the core
    return denoise


def check_range(u: Unit) -> None:
    """Raise ValueError if intensities lie so far beyond [0, 1] that squares of their sums would leave float32."""
    largest = float(np.abs(u).max())
    if largest > LARGEST:
        raise ValueError(f"Intensities must lie within {LARGEST:g}, nominally in [0, 1], got one of {largest:g}.")


def check_sigma(sigma: float) -> None:
    """Raise ValueError unless ``sigma`` lies in [0, 1]."""
    if not 0 <= sigma <= 1:
        raise ValueError(f"sigma must lie in [0, 1] (intensities in [0, 1], whatever the dtype), got {sigma:g}.")


def with_channels(pixels: Unit, channel_axis: int | None) -> Unit:
    """(M, N) or (M, N, 3) with the channel axis where the image had it."""
    if channel_axis is None:
        return pixels
    return np.ascontiguousarray(np.moveaxis(pixels.reshape(*pixels.shape[:2], -1), -1, channel_axis))


def _silent(done: int, total: int) -> None:
    pass
