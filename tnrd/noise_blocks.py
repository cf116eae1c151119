"""Overlapping blocks of a picture, their texture and their high frequencies: how :mod:`tnrd.noise` measures noise."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tnrd.moments import dct_basis

_BLOCK = 8
# Below this many blocks the variance of a frequency is itself too uncertain; above it, only flat blocks are taken. With
# a stride of one, neighbours tell nearly the same, and more of them are needed.
_MIN_FLAT = 25
_MIN_FLAT_NEIGHBOURS = 100
# Bounds time and memory: 2^16 overlapping blocks are all of a 256 x 256 picture.
_MAX_BLOCKS = 1 << 16
_CHUNK = 1 << 13
_ALONE = 1 << 18  # multiply-adds of a product that OpenBLAS takes by one thread
_FRAMES = 2
_MAX_ITERATIONS = 20
_TOLERANCE = 1e-4


def without_frame(channel: NDArray[Any]) -> tuple[slice, slice]:
    """Rows and columns of the channel without those of one value at its sides, and once more without such that follow.

    A frame holds no noise, and would be all that counts as flat. At least 16 rows and columns stay, or all do.
    """
    area = [slice(0, length) for length in channel.shape]
    for _ in range(_FRAMES):
        for axis, step in itertools.product((0, 1), (1, -1)):
            lines = np.moveaxis(channel[tuple(area)], axis, 0)[::step]  # from the side that is looked at
            beyond = int(np.argmax((lines != lines[0, 0]).any(axis=1)))
            start, stop = area[axis].start, area[axis].stop
            area[axis] = slice(start + beyond, stop) if step > 0 else slice(start, stop - beyond)
    rows, columns = area
    if min(rows.stop - rows.start, columns.stop - columns.start) < 2 * _BLOCK:
        return slice(0, channel.shape[0]), slice(0, channel.shape[1])
    return rows, columns


def measure_blocks(
    channel: NDArray[Any], low: float, high: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """Texture, squared high-frequency coefficients and number of extreme pixels of B blocks.

    Intensities are divided by ``high - low``, so that the estimate follows any scaling of the picture.

    Returns:
        The mean square of the low-frequency coefficients (B,), the squares of the high-frequency ones (K, B) and the
        count of pixels equal to ``low`` or ``high`` (B,).
    """
    shape = _block_shape(channel.shape)
    fine, low_count = _high_frequencies(shape)
    textures, squares, extremes = [], [], []
    for blocks in _chunks(channel):
        steps = _steps_within(blocks, high - low)
        noisy = _product(fine, steps) ** 2
        # Parseval: the low frequencies hold what is left of the block's variance.
        energy = np.einsum("pb,pb->b", steps, steps) - steps.sum(axis=0) ** 2 / len(steps)
        textures.append(np.maximum(energy - noisy.sum(axis=0), 0) / max(1, low_count))
        squares.append(noisy)
        extremes.append(_count((blocks == low) | (blocks == high)))
    return np.concatenate(textures), np.concatenate(squares, axis=1), np.concatenate(extremes)


def _product(matrix: NDArray[np.float32], columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """matrix @ columns, on the calling thread.

    The threads that OpenBLAS wakes for larger products spin on for a while, and compiled loops that follow would have
    to share their cores with them.
    """
    result = np.empty((len(matrix), columns.shape[1]), np.float32)
    few = max(1, _ALONE // matrix.size)
    for start in range(0, columns.shape[1], few):
        np.matmul(matrix, columns[:, start : start + few], out=result[:, start : start + few])
    return result


def pixels_in_blocks(chosen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The number of chosen pixels in each block, (B,)."""
    return np.concatenate([_count(blocks) for blocks in _chunks(chosen)])


def constant_parts(channel: NDArray[Any]) -> NDArray[np.bool_]:
    """Which blocks have 3 x 3 pixels of one value in them, (B,): noise hardly leaves any."""
    return np.concatenate([constant_squares(blocks).any(axis=(0, 1)).ravel() for blocks in _chunks(channel)])


def constant_squares(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where 3 x 3 values are the same, (M - 2, N - 2, ...) of (M, N, ...)."""
    along = values[:, 1:] == values[:, :-1]
    rows = along[:, 1:] & along[:, :-1]  # three in a row alike
    down = values[1:, 1:-1] == values[:-1, 1:-1]
    return np.asarray(rows[:-2] & rows[1:-1] & rows[2:] & down[:-1] & down[1:])


def _block_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    return min(_BLOCK, shape[0]), min(_BLOCK, shape[1])


def _chunks(channel: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """All blocks, some at a time, as (pixel row, pixel column, block row, block column).

    Copies then run along the rows of the picture.
    """
    stride = stride_of(channel.shape)
    windows = sliding_window_view(channel, _block_shape(channel.shape))[::stride, ::stride]
    rows_at_once = max(1, _CHUNK // windows.shape[1])
    for start in range(0, windows.shape[0], rows_at_once):
        yield windows[start : start + rows_at_once].transpose(2, 3, 0, 1)


def _count(chosen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    counts: NDArray[np.uint8] = chosen.reshape(chosen.shape[0] * chosen.shape[1], -1).sum(axis=0, dtype=np.uint8)
    return counts


def _steps_within(blocks: NDArray[Any], scale: float) -> NDArray[np.float32]:
    """Differences from each block's first pixel, over ``scale``, as (pixels, blocks).

    The DCT without its constant does not see the subtraction, but it keeps weak noise on a bright picture exact in
    float32, and a constant block exactly zero.
    """
    steps = np.empty(blocks.shape, dtype=np.float32)
    wide = np.promote_types(blocks.dtype, np.float32)
    np.subtract(blocks, blocks[:1, :1], out=steps, dtype=wide, casting="same_kind")
    steps *= np.float32(1.0 / scale)
    return steps.reshape(blocks.shape[0] * blocks.shape[1], -1)


def stride_of(shape: tuple[int, ...]) -> int:
    """The stride of the blocks of a channel, (M, N)."""
    return block_stride(*(side - min(_BLOCK, side) + 1 for side in shape))


def least_flat(shape: tuple[int, ...]) -> int:
    """How many blocks of a channel, (M, N), are measured at least."""
    return _MIN_FLAT_NEIGHBOURS if stride_of(shape) == 1 else _MIN_FLAT


def block_stride(rows: int, columns: int) -> int:
    """The smallest odd stride of blocks that leaves at most ``_MAX_BLOCKS`` blocks.

    Odd, so that all positions relative to the 8x8 grid of a JPEG file occur equally often.
    """
    stride = 1
    while -(-rows // stride) * -(-columns // stride) > _MAX_BLOCKS:
        stride += 2
    return stride


def _high_frequencies(shape: tuple[int, int]) -> tuple[NDArray[np.float32], int]:
    """High frequencies of the orthonormal 2-D DCT, as rows over the block's pixels, and the number of low ones.

    High means (i + 1/2)/rows + (j + 1/2)/columns >= 5/4 for the frequency (i, j), for 8x8 the 21 with i + j >= 9. The
    constant is neither.
    """
    basis = np.kron(dct_basis(shape[0]), dct_basis(shape[1])).astype(np.float32)
    i, j = np.indices(shape)
    high = ((i + 0.5) / shape[0] + (j + 0.5) / shape[1] >= 1.25).ravel()
    return basis[high], int(np.count_nonzero(~high)) - 1


def flat_noise_variance(
    texture: NDArray[np.float32], squares: NDArray[np.float32], least: int
) -> tuple[float, NDArray[np.bool_]]:
    """Iterate variance -> flat blocks -> variance, from the flattest blocks, to the fixed point.

    Args:
        texture: Mean square of the low frequencies of B blocks, (B,).
        squares: Squares of their high frequencies, (K, B).
        least: That many count as flat at least.

    Returns:
        The variance of the noise, and which blocks counted as flat, (B,).
    """
    least = min(least, texture.size)
    flattest = np.zeros(texture.size, dtype=bool)
    flattest[np.argpartition(texture, least - 1)[:least]] = True
    flat, variance = flattest, _median_of_means(squares, flattest)
    for _ in range(_MAX_ITERATIONS):
        flat = texture <= variance
        if np.count_nonzero(flat) < least:
            flat = flattest
        previous, variance = variance, _median_of_means(squares, flat)
        if abs(variance - previous) <= _TOLERANCE * variance:
            break
    return variance, flat


def _median_of_means(squares: NDArray[np.float32], chosen: NDArray[np.bool_]) -> float:
    # A product with 0 and 1 is faster than copying the chosen columns; by einsum it stays on this thread, see _product.
    return float(np.median(np.einsum("kb,b->k", squares, chosen.astype(np.float32)))) / np.count_nonzero(chosen)
