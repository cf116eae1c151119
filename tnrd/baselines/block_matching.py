"""Block matching: for patches on a grid, the most similar patches near them, found exactly.

With P_x u the patch of size x size pixels (of all components) whose first pixel is x, the distance of two patches is

    |P_x u - P_y u|^2 = |P_x u|^2 + |P_y u|^2 - 2 <P_x u, P_y u>.

The inner products of neighbouring references with a row of their common window are one register-blocked product
(:func:`tnrd.kernels.simd.multiply_block`): what is read of the row serves all of them.

Dabov, Foi, Katkovnik & Egiazarian, IEEE TIP 16(8), 2007; Gu, Zhang, Zuo & Feng, CVPR 2014.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from tnrd.kernels.correlate_numba import SOURCES, address, compiled, part
from tnrd.kernels.simd import LANES, multiply_block
from tnrd.kernels.threads_numba import use_torch_threads

TOGETHER = 8  # references whose inner products are taken at once: as many accumulators hide an addition's latency
_products = multiply_block(TOGETHER, 1)


def grid(length: int, size: int, step: int) -> NDArray[np.int64]:
    """First pixels of the patches every ``step`` pixels along an axis, and of the last patch that there is."""
    last = length - size
    return np.unique(np.append(np.arange(0, last + 1, step), last))


def least_candidates(shape: tuple[int, int], size: int, radius: int) -> int:
    """How many patches a window holds at least, in a corner of a picture of that shape."""
    rows, columns = (min(length - size, radius) + 1 for length in shape)
    return rows * columns


def match_patches(
    u: NDArray[np.float32], size: int, rows: NDArray[np.int64], columns: NDArray[np.int64], radius: int, count: int
) -> NDArray[np.int32]:
    """The ``count`` patches nearest to each reference.

    Args:
        u: (C, M, N), intensities in about [0, 1].
        size: Side of a patch.
        rows: First rows of the references, ascending.
        columns: First columns of the references, ascending.
        radius: First pixels of the patches looked at are so many pixels up, down, left and right at most.
        count: From 1 to :func:`least_candidates`.

    Returns:
        (len(rows), len(columns), count): first pixels as row * N + column, in no particular order, the reference
        among them. Of equally distant patches, those earlier in the picture are taken.
    """
    channels, height, width = u.shape
    # Vectors at the end of a row reach beyond it, into the next row or what is appended here.
    centred = np.zeros(u.size + LANES, np.float32)
    centred[: u.size] = (u - u.mean(axis=(1, 2), keepdims=True)).ravel()
    energy = _energy(centred[: u.size].reshape(u.shape), size)
    c, dy, dx = np.meshgrid(np.arange(channels), np.arange(size), np.arange(size), indexing="ij")
    offsets = 4 * ((c * height + dy) * width + dx).ravel().astype(np.int64)
    span = max(columns[min(i + TOGETHER, len(columns)) - 1] - columns[i] for i in range(0, len(columns), TOGETHER))
    pitch = math.ceil((2 * radius + 1 + int(span)) / LANES) * LANES
    found = np.empty((len(rows), len(columns), count), np.int32)
    use_torch_threads()
    _match(centred, width, energy, offsets, rows, columns, radius, pitch, found)
    return found


def _energy(u: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """|P_x u|^2, (M - size + 1, N - size + 1)."""
    squares = np.sum(u.astype(np.float64) ** 2, axis=0)
    rows, columns = squares.shape[0] - size + 1, squares.shape[1] - size + 1
    down = np.sum([squares[i : i + rows] for i in range(size)], axis=0)
    return np.asarray(np.sum([down[:, i : i + columns] for i in range(size)], axis=0), np.float32)


@part
def _multiply_windows(u: Any, width: Any, offsets: Any, firsts: Any, window: Any, factors: Any, products: Any) -> None:
    """products[row - y0, o, x - x0] = <P_o u, P_(row, x) u> for the references at ``firsts`` and a common window."""
    y0, y1, x0, x1 = window
    for t in range(offsets.size):
        for o in range(TOGETHER):
            factors[t, o] = u[firsts[o] + offsets[t] // 4]
    pitch = np.int64(products.shape[2] * 4)
    for row in range(y0, y1):
        source = address(u) + (row * width + x0) * 4
        target = address(products) + (row - y0) * TOGETHER * pitch
        for x in range(0, x1 - x0, LANES):
            _products(source + x * 4, address(offsets), address(factors), np.int64(offsets.size), target + x * 4, pitch)


@part
def _collect(inner: Any, energy: Any, width: Any, y: Any, x: Any, window: Any, limit: Any, keys: Any) -> Any:
    """Keys of the patches in the window no farther than ``limit`` from patch (y, x), and how many they are.

    A key is the distance, whose bits order as integers do since it is not negative, and below it the place. The
    reference comes first, whatever rounding makes of its distance.
    """
    y0, y1, x0, x1 = window
    distances = np.empty(x1 - x0, np.float32)
    bits = distances.view(np.int32)
    total = 0
    for row in range(y0, y1):
        products, energies = inner[row - y0], energy[row, x0:x1]
        for k in range(x1 - x0):
            distance = energy[y, x] + energies[k] - np.float32(2) * products[k]
            distances[k] = max(distance, np.float32(0))
        for k in range(x1 - x0):
            if distances[k] <= limit:
                own = row == y and x0 + k == x
                keys[total] = np.int64(row * width + x0 + k) | (np.int64(0) if own else np.int64(bits[k] + 1) << 32)
                total += 1
    return total


@part
def _select(keys: Any, total: Any, count: Any) -> None:
    """Move the ``count`` smallest of keys[:total] to the front (Hoare's selection)."""
    low, high = 0, total - 1
    while low < high:
        pivot = keys[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while keys[i] < pivot:
                i += 1
            while keys[j] > pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                i += 1
                j -= 1
        if count <= j + 1:
            high = j
        elif count > i:
            low = i
        else:
            break


@part
def _nearest(products: Any, left: Any, energy: Any, width: Any, y: Any, x: Any, window: Any, limit: Any, keys: Any,
             found: Any) -> Any:  # fmt: skip
    """Write the nearest patches; the distance of the last of them, with a margin, is the next reference's limit."""
    inner = products[:, window[2] - left :]
    count = found.size
    total = _collect(inner, energy, width, y, x, window, limit, keys)
    if total < count:
        total = _collect(inner, energy, width, y, x, window, np.float32(np.inf), keys)
    _select(keys, total, count)
    last = np.int64(0)
    for i in range(count):
        found[i] = keys[i] & np.int64(0xFFFFFFFF)
        last = max(last, keys[i] >> 32)
    bits = np.empty(1, np.int32)
    bits[0] = last
    return np.float32(1.15) * bits.view(np.float32)[0]


@part
def _match_row(u: Any, width: Any, energy: Any, offsets: Any, y: Any, columns: Any, radius: Any, pitch: Any,
               found: Any) -> None:  # fmt: skip
    """The patches nearest to the references of one row, found (len(columns), count)."""
    factors = np.empty((offsets.size, TOGETHER), np.float32)
    products = np.empty((2 * radius + 1, TOGETHER, pitch), np.float32)
    keys = np.empty((2 * radius + 1) ** 2, np.int64)
    firsts = np.empty(TOGETHER, np.int64)
    limit = np.float32(np.inf)
    y0, y1 = max(y - radius, 0), min(y + radius + 1, energy.shape[0])
    for start in range(0, len(columns), TOGETHER):
        stop = min(start + TOGETHER, len(columns))
        for o in range(TOGETHER):
            firsts[o] = y * width + columns[min(start + o, stop - 1)]
        left = max(columns[start] - radius, 0)
        right = min(columns[stop - 1] + radius + 1, energy.shape[1])
        _multiply_windows(u, width, offsets, firsts, (y0, y1, left, right), factors, products)
        for i in range(start, stop):
            x = columns[i]
            window = (y0, y1, max(x - radius, 0), min(x + radius + 1, energy.shape[1]))
            limit = _nearest(products[:, i - start], left, energy, width, y, x, window, limit, keys, found[i])


def _loops(sources: int) -> Callable[..., Any]:
    """The function to compile; ``sources`` adds nothing but what it is known by."""

    def match(u, width, energy, offsets, rows, columns, radius, pitch, found):  # type: ignore[no-untyped-def]
        for r in prange(len(rows) + 0 * sources):
            _match_row(u, width, energy, offsets, rows[r], columns, radius, pitch, found[r])

    return match


_match = compiled(_loops(SOURCES), "block matching")
