"""The noise of a stack: one level for all planes or one each, given or estimated, as a small Dask array beside it.

The array holds :class:`tnrd.inference.levels.NoiseLevel` objects and has the axes of the stack, of length 1 where all
share a level: so Dask hands each block the levels of its own planes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from tnrd.inference.levels import NoiseLevel, estimate_noise, given_noise
from tnrd.pixels import check_finite

PER_PLANE = "per-plane"
Sigma = float | str | Sequence[Any] | NDArray[Any] | None
# A level is estimated from the whole plane up to this side, beyond it from blocks spread evenly over it.
SAMPLE_SIDE = 1024
SAMPLE_BLOCK = 128


def noise_of(stack: da.Array, sigma: Sigma, *, colour: bool) -> da.Array:
    """The noise levels of a stack.

    Args:
        stack: (..., M, N), or (..., M, N, 3) with ``colour``.
        sigma: None: estimated once, now, from the plane in the middle. "per-plane": estimated for each plane when it
            is denoised. A number: for all. An array of the shape of the leading axes: one for each plane; with
            ``colour`` also of that shape and 3 more, one for each channel.
        colour: Whether the last axis holds channels.

    Returns:
        NoiseLevel objects, of the stack's dimensions, with lengths 1 for the axes of a picture.

    Raises:
        ValueError: ``sigma`` has another shape or is out of range, or the estimate is.
    """
    picture = 3 if colour else 2
    leading = stack.shape[: stack.ndim - picture]
    if isinstance(sigma, str):
        if sigma != PER_PLANE:
            raise ValueError(f'sigma must be None, a number, "{PER_PLANE}" or one number a plane, got {sigma!r}.')
        sample = sampled(stack, colour=colour)
        ones = tuple((1,) for _ in range(picture))
        meta = np.empty((0,) * stack.ndim, object)
        return da.map_blocks(_estimate, sample, picture, chunks=(*sample.chunks[: len(leading)], *ones), meta=meta)
    if sigma is None:
        middle = stack[tuple(length // 2 for length in leading)]
        return levels_array([_estimated(sampled(middle, colour=colour).compute())], (1,) * len(leading), picture)
    levels = np.asarray(sigma)
    example = np.zeros((1, 1, 3) if colour else (1, 1), np.float32)
    if levels.ndim == 0:
        return levels_array([given_noise(levels, example)], (1,) * len(leading), picture)
    if levels.shape not in ({leading, (*leading, 3)} if colour else {leading}):
        raise ValueError(
            f'sigma must be one number, one a plane (the shape {leading}) or "{PER_PLANE}", got the shape '
            f"{levels.shape}; maps are for single pictures (tnrd.denoise)."
        )
    given = [given_noise(level, example) for level in levels.reshape(math.prod(leading), *levels.shape[len(leading) :])]
    return levels_array(given, leading, picture)


def levels_array(levels: Sequence[NoiseLevel], leading: tuple[int, ...], picture: int) -> da.Array:
    """Levels, in the order of the planes, as an array beside a stack whose pictures have ``picture`` axes."""
    held = np.empty(len(levels), object)
    held[:] = levels
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


def _estimate(planes: NDArray[Any], picture: int) -> NDArray[Any]:
    """The level of each plane of a block."""
    leading = planes.shape[: planes.ndim - picture]
    levels = np.empty((*leading, *(1,) * picture), object)
    for index in np.ndindex(leading):
        levels[(*index, *(0,) * picture)] = _estimated(planes[index])
    return levels


def _estimated(pixels: NDArray[Any]) -> NoiseLevel:
    check_finite(pixels)
    return estimate_noise(pixels)
