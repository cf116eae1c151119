"""The compiled loops of the diffusion step.

A picture is cut into strips of columns and those into bands of rows. A band is swept downwards, a few rows at a time:
the responses K u of those rows are computed, turned into psi(K u) in place, and held in a window that is just long
enough for the adjoint, which is then taken row by row. The window stays in a core's cache; responses never reach main
memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import get_thread_id, prange

from tnrd.kernels.correlate_numba import (
    SOURCES,
    address,
    carve,
    compiled,
    correlate_rows,
    keep_rows,
    load_rows,
    part,
    region_of,
    subtract_adjoint_row,
    zero_rows,
)
from tnrd.kernels.simd import LANES, influence_block


class Influence(NamedTuple):
    """factor T(slope z + offset): words of T and its rise (F, L), slope and factor (N, F, 1, 1) or (N, F, H, W)."""

    words: Any
    slope: Any
    offset: Any
    last: Any
    factor: Any


@part
def react(u, f, weight, out, y, x0, x1):
    """out = u - weight (u - f) on one row; weight is (1, 1, 1) or (1, H, W), f has the first of the components of u."""
    per_pixel = weight.size > 1
    weights = weight[0, y if per_pixel else 0]
    for c in range(u.shape[0]):
        source, target = u[c, y, x0:x1], out[c, y, x0:x1]
        observed = f[min(c, f.shape[0] - 1), y, x0:x1]
        if c >= f.shape[0]:
            for x in range(x1 - x0):
                target[x] = source[x]
        elif per_pixel:
            for x in range(x1 - x0):
                target[x] = source[x] - weights[x0 + x] * (source[x] - observed[x])
        else:
            for x in range(x1 - x0):
                target[x] = source[x] - weights[0] * (source[x] - observed[x])


@part
def influence_rows(window, first, rows, begin, end, columns, influence, f0, f1, n, y, start):
    """psi of filters f0 to f1 in place on rows of the window, columns ``begin`` to ``end``, zero beyond ``columns``.

    The first of them is row y of picture n, from column ``start`` on; ``begin`` is a multiple of the vectors' length.
    """
    words, slope, factor = influence.words, influence.slope, influence.factor
    per_pixel = slope.shape[2] * slope.shape[3] > 1
    one = np.float32(1.0)
    inside = min(end, columns)
    for f in range(f0, min(f1, words.shape[0])):
        table = address(words) + f * words.shape[1] * 8
        a = one if per_pixel else slope[n, f, 0, 0]
        b = one if per_pixel else factor[n, f, 0, 0]
        for j in range(rows):
            z = address(window) + ((first + j) * window.shape[1] + f) * window.shape[2] * 4
            if per_pixel:
                for x in range(begin, inside):
                    window[first + j, f, x] *= slope[n, f, y + j, start + x]
            for x in range(begin, inside, LANES):
                influence_block(z + x * 4, table, a, influence.offset, influence.last, b)
            if per_pixel:
                for x in range(begin, inside):
                    window[first + j, f, x] *= factor[n, f, y + j, start + x]
            for x in range(inside, end):
                window[first + j, f, x] = np.float32(0.0)


@part
def _sweep(u, f, n, region, bank, influence, weight, buffers, out, work):
    """One part of picture n, (C, H, W)."""
    channels, height, _ = u.shape
    size, group, planes, pitch = buffers
    r = size // 2
    tile, used = carve(work, 0, group + 2 * r, channels, pitch + 2 * r)
    window, used = carve(work, used, group + 2 * r, planes, pitch)
    sums, used = carve(work, used, 1, bank.adjoint.shape[0] * bank.adjoint.shape[2] + 1, pitch + 4 * r)
    partial, total = sums[0, :-1], sums[0, -1]
    partial[:, : 2 * r] = np.float32(0.0)
    if region.y0 == 0:  # the border folds onto these rows before the sweep comes to them
        for y in range(min(r, region.y1)):
            react(u, f, weight, out, y, region.x0, region.x1)
    begin = 0  # of the window: row y - r
    ready = 0  # rows of the window that hold responses
    coming = region.first - r  # the next row of responses
    for y in range(region.first, region.end):
        if ready < size:
            while ready < 2 * r + group and coming < region.end + r:
                rows = min(group, 2 * r + group - ready, region.end + r - coming)
                low, high = min(max(0, -coming), rows), max(min(rows, height - coming), 0)
                zero_rows(window, ready, ready + low)
                zero_rows(window, ready + high, ready + rows)
                if low < high:
                    load_rows(u, tile, coming + low - r, high - low + 2 * r, region.start - r, region.columns + 2 * r)
                    side = bank.forward.shape[2]
                    for b in range(bank.forward.shape[0]):
                        correlate_rows(tile, high - low, region.columns, bank, b, window, ready + low)
                        influence_rows(window, ready + low, high - low, 0, pitch, region.columns, influence, b * side,
                                       b * side + side, n, coming + low, region.start)  # fmt: skip
                ready += rows
                coming += rows
            begin = 0
        if region.y0 <= y < region.y1 and not (region.y0 == 0 and y < r):
            react(u, f, weight, out, y, region.x0, region.x1)
        subtract_adjoint_row(window, begin, bank, partial, total, region, y, size, out)
        begin += 1
        if begin + size > ready:
            keep_rows(window, begin, 2 * r)
            ready = 2 * r


def _forward(sources):
    """The function to compile; ``sources`` adds nothing but what it is known by."""

    def forward(u, f, parts, bank, influence, weights, buffers, out, workspace):
        """out = u - K^T psi(K u) - weight (u - f), every part (image, y0, y1, x0, x1) by itself."""
        for number in prange(parts.shape[0] + 0 * sources):
            n = parts[number, 0]
            region = region_of(parts[number], u.shape[2], u.shape[3], buffers.size // 2)
            _sweep(u[n], f[n], n, region, bank, influence, weights[n], buffers, out[n], workspace[get_thread_id()])

    return forward


forward = compiled(_forward(SOURCES), "the diffusion step")
