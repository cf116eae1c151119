"""The noise of a stack: of one kind, the same for all planes or one each, as a small Dask array beside it.

The array holds :class:`tnrd.inference.levels.NoiseLevel` objects, or :class:`tnrd.inference.whitening.Whitening` for
photon noise, and has the axes of the stack, of length 1 where all share one: so Dask hands each block the noise of its
own planes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from tnrd.inference.assumption import GAUSSIAN, Assumption
from tnrd.inference.levels import NoiseLevel, given_noise
from tnrd.inference.whitening import Whitening, measured_white, whitening
from tnrd.pixels import check_finite, to_unit

PER_PLANE = "per-plane"
Sigma = float | str | Sequence[Any] | NDArray[Any] | None
OfPlane = NoiseLevel | Whitening
# Noise is estimated from the whole plane up to this side, beyond it from blocks spread evenly over it.
SAMPLE_SIDE = 1024
SAMPLE_BLOCK = 128
# Of so many planes the brightest tells the white that all share.
WHITE_PLANES = 8


@dataclass(frozen=True, eq=False)
class StackAssumption:
    """What is assumed of the noise of a stack.

    Attributes:
        sigma: Of Gaussian noise: one number, or one a plane. For both kinds: None to estimate the noise once where it
            is not given, "per-plane" to estimate it in each plane.
        of_a_plane: What is known of each plane beside ``sigma``.

    Raises:
        ValueError: The two do not fit together.
    """

    sigma: Sigma
    of_a_plane: Assumption

    def __post_init__(self) -> None:
        kind, gain = self.of_a_plane.kind, self.of_a_plane.gain
        if isinstance(self.sigma, str) and self.sigma != PER_PLANE:
            raise ValueError(f'sigma must be None, a number, "{PER_PLANE}" or one number a plane, got {self.sigma!r}.')
        if kind != GAUSSIAN and self.sigma is not None and not self.is_per_plane:
            raise ValueError(f"sigma belongs to Gaussian noise, got {self.sigma!r} for the noise {kind!r}.")
        if gain is not None and self.is_per_plane:
            raise ValueError(f'"{PER_PLANE}" estimates gain and read noise, but a gain of {gain} is given.')

    @property
    def is_per_plane(self) -> bool:
        """Whether each plane has noise of its own, which is estimated."""
        return isinstance(self.sigma, str)


@dataclass(frozen=True)
class StackNoise:
    """The noise of the planes.

    Attributes:
        array: NoiseLevel or Whitening objects, of the stack's dimensions, with lengths 1 for the axes of a picture.
        halvings: How often pixels are added up two by two, of the plane with the scarcest light.
    """

    array: da.Array
    halvings: int = 0


def noise_of(stack: da.Array, assumed: StackAssumption, *, colour: bool) -> StackNoise:
    """The noise of a stack.

    Args:
        stack: (..., M, N), or (..., M, N, 3) with ``colour``.
        assumed: What is known. Without ``sigma`` and ``gain``, the noise is estimated once, now, from the plane in the
            middle; white, for photon noise, is that of the brightest of planes spread evenly over the stack.
            "per-plane": Gaussian noise is estimated for each plane when it is denoised; photon noise and white of all
            planes now, since the halo depends on them. An array of the shape of the leading axes: one level for each
            plane; with ``colour`` also of that shape and 3 more, one for each channel.
        colour: Whether the last axis holds channels.

    Raises:
        ValueError: ``sigma`` has another shape or is out of range, or the estimate is.
    """
    picture = 3 if colour else 2
    leading, shape = stack.shape[: stack.ndim - picture], stack.shape[stack.ndim - picture :]
    if assumed.sigma is None:
        return _held([_shared(stack, leading, shape, assumed.of_a_plane)], (1,) * len(leading), picture)
    if not assumed.is_per_plane:
        return _held(*_given(assumed.sigma, leading, colour=colour), picture)
    sample = sampled(stack, colour=colour)
    chunks = (*sample.chunks[: len(leading)], *((1,) for _ in range(picture)))
    meta = np.empty((0,) * stack.ndim, object)
    measured = da.map_blocks(_measure, sample, assumed.of_a_plane, shape, chunks=chunks, meta=meta)
    if assumed.of_a_plane.kind == GAUSSIAN:
        return StackNoise(measured)
    return _held(list(measured.compute().ravel()), leading, picture)


def noise_array(noises: Sequence[OfPlane], leading: tuple[int, ...], picture: int) -> da.Array:
    """The noise of planes, in their order, as an array beside a stack whose pictures have ``picture`` axes."""
    held = np.empty(len(noises), object)
    held[:] = noises
    shape = (*leading, *(1,) * picture)
    return da.from_array(held.reshape(shape), chunks=shape)


def sampled(stack: da.Array, *, colour: bool) -> da.Array:
    """What the noise of each plane is estimated from: the planes, or blocks spread evenly over them."""
    rows = stack.ndim - (3 if colour else 2)
    for axis in (rows, rows + 1):
        length = stack.shape[axis]
        if length > SAMPLE_SIDE:
            # Starts at multiples of 8, since a JPEG's own blocks are to be seen whole.
            starts = np.linspace(0, length - SAMPLE_BLOCK, SAMPLE_SIDE // SAMPLE_BLOCK).astype(int) // 8 * 8
            before = (slice(None),) * axis
            stack = da.concatenate([stack[(*before, slice(at, at + SAMPLE_BLOCK))] for at in starts], axis=axis)
    return stack.rechunk(dict.fromkeys(range(rows, stack.ndim), -1))


def _given(sigma: Sigma, leading: tuple[int, ...], *, colour: bool) -> tuple[list[OfPlane], tuple[int, ...]]:
    """Given levels, checked, and the shape in which they lie beside the planes."""
    levels = np.asarray(sigma)
    example = np.zeros((1, 1, 3) if colour else (1, 1), np.float32)
    if levels.ndim == 0:
        return [given_noise(levels, example)], (1,) * len(leading)
    if levels.shape not in ({leading, (*leading, 3)} if colour else {leading}):
        raise ValueError(
            f'sigma must be one number, one a plane (the shape {leading}) or "{PER_PLANE}", got the shape '
            f"{levels.shape}; maps are for single pictures (tnrd.denoise)."
        )
    by_plane = levels.reshape(math.prod(leading), *levels.shape[len(leading) :])
    return [given_noise(level, example) for level in by_plane], leading


def _held(noises: list[OfPlane], leading: tuple[int, ...], picture: int) -> StackNoise:
    halvings = max(noise.halvings if isinstance(noise, Whitening) else 0 for noise in noises)
    return StackNoise(noise_array(noises, leading, picture), halvings)


def _measure(planes: NDArray[Any], assumed: Assumption, shape: tuple[int, ...]) -> NDArray[Any]:
    """The noise of each plane of a block of samples; ``shape`` is that of a plane."""
    leading = planes.shape[: planes.ndim - len(shape)]
    noises = np.empty((*leading, *(1,) * len(shape)), object)
    for index in np.ndindex(leading):
        noises[(*index, *(0,) * len(shape))] = _measured(planes[index], assumed, shape)
    return noises


def _shared(stack: da.Array, leading: tuple[int, ...], shape: tuple[int, ...], assumed: Assumption) -> OfPlane:
    """The noise of all planes, from the one in the middle."""
    colour = len(shape) == 3
    middle = sampled(stack[tuple(length // 2 for length in leading)], colour=colour).compute()
    check_finite(middle)
    noise = assumed.of(middle)
    if isinstance(noise, NoiseLevel):
        return noise
    white = measured_white(to_unit(middle), noise, shape)
    count = math.prod(leading)
    for plane in np.unique(np.linspace(0, count - 1, min(count, WHITE_PLANES)).astype(int)):
        sample = sampled(stack[np.unravel_index(plane, leading)], colour=colour).compute() if leading else middle
        check_finite(sample)
        white = max(white, measured_white(to_unit(sample), noise, shape))
    return whitening(to_unit(middle), noise, white, shape)


def _measured(pixels: NDArray[Any], assumed: Assumption, shape: tuple[int, ...]) -> OfPlane:
    check_finite(pixels)
    noise = assumed.of(pixels)
    return noise if isinstance(noise, NoiseLevel) else whitening(to_unit(pixels), noise, shape=shape)
