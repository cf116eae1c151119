"""The compiled loops of the gradient of the diffusion step; it sweeps as :mod:`tnrd.kernels.step_forward_numba` does.

The responses K u and K g are recomputed side by side, become s(K u) and s'(K u) K g in place, and are summed over
pixels against g and u for the gradient of the kernels before the adjoint of the latter is taken.
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
from tnrd.kernels.simd import LANES, LEFT, RIGHT, dot_block, influence_gradient_block

_dot_narrow, _dot_wide = (dot_block(LEFT, right) for right in RIGHT)
_NARROW = RIGHT[0]


class Sums(NamedTuple):
    """Sums of a job over pixels: table (COPIES, F, L, 2), for an image scales (2, F) and reaction (1), and kernels.

    Those lie as blocks of inner products make them: (blocks of filters, blocks of taps, LEFT, taps of a block).
    """

    kernels: Any
    table: Any
    scales: Any
    reaction: Any


@part
def sums_of(sums, job):
    """Those of a job, as zeros."""
    own = Sums(sums.kernels[job], sums.table[job], sums.scales[job], sums.reaction[job])
    own.kernels[:] = 0.0
    own.table[:] = np.float32(0.0)
    own.scales[:] = 0.0
    own.reaction[:] = 0.0
    return own


@part
def sums_of_image(sums, n):
    """Those of a job for one of its images."""
    return Sums(sums.kernels, sums.table, sums.scales[n], sums.reaction[n])


@part
def sum_table(table, f, to_table):
    """Row f of the gradient for the samples, from sums (jobs, COPIES, F, L, 2) left of each and right of the last."""
    out = to_table[f]
    out[:] = np.float32(0.0)
    for job in range(table.shape[0]):
        for copy in range(table.shape[1]):
            terms = table[job, copy, f]
            for i in range(out.size):
                out[i] -= terms[i, 0]
            for i in range(1, out.size):
                out[i] -= terms[i - 1, 1]


@part
def pass_reaction(u, f, g, weight, region, to_u, to_f, sums):
    """to_u = g - weight g and to_f = weight g in the owned pixels; those components that f has not pass g on."""
    x0, x1 = region.x0, region.x1
    for c in range(g.shape[0]):
        for y in range(region.y0, region.y1):
            given, target = g[c, y, x0:x1], to_u[c, y, x0:x1]
            if c >= f.shape[0]:
                for x in range(x1 - x0):
                    target[x] = given[x]
            else:
                state, observed, other = u[c, y, x0:x1], f[c, y, x0:x1], to_f[c, y, x0:x1]
                total = 0.0
                for x in range(x1 - x0):
                    reacting = weight * given[x]
                    target[x] = given[x] - reacting
                    other[x] = reacting
                    total += np.float64(given[x] * (state[x] - observed[x]))
                sums.reaction[0] -= total


@part
def influence_gradient(values, base, window, top, influence, f0, f1, n, region, traces, sums):
    """For filters f0 to f1, rows of K u become s(K u), rows of K g s'(K u) K g; the first is row ``top`` of picture n.

    ``values`` begins with filter ``base``.
    Over the owned rows and columns, the table sums factor K g (1 - t) and factor K g t, the scales K g T and K g T' z.
    """
    words, slope, factor = influence.words, influence.slope[n, :, 0, 0], influence.factor[n, :, 0, 0]
    pitch = words.shape[0] * words.shape[1] * 8
    x0, x1, columns = region.x0 - region.start, region.x1 - region.start, region.columns
    for f in range(f0, min(f1, words.shape[0])):
        table = address(words) + f * words.shape[1] * 8
        cells = address(sums.table) + f * words.shape[1] * 8
        for lane in range(LANES):
            traces[0, lane] = np.float32(0.0)
            traces[1, lane] = np.float32(0.0)
        for j in range(values.shape[0]):
            z, w = values[j, f - base], window[j, f]
            owned = columns if region.y0 <= top + j < region.y1 else 0
            for x in range(0, columns, LANES):
                influence_gradient_block(
                    address(z) + x * 4, address(w) + x * 4, table, slope[f], influence.offset, influence.last,
                    factor[f], x0 - x, min(x1, owned) - x, cells, pitch, address(traces),
                )  # fmt: skip
            for x in range(columns, z.size):
                z[x] = np.float32(0.0)
                w[x] = np.float32(0.0)
        value, growth = np.float32(0.0), np.float32(0.0)
        for lane in range(LANES):
            value += traces[0, lane]
            growth += traces[1, lane]
        sums.scales[0, f] += value
        sums.scales[1, f] += growth


@part
def _outer_product(p, q, rows, x, columns, offsets, right, filters, sums):
    """sums[f, t] += sum over ``rows`` rows and ``columns`` columns from x of p[row, f] q[row, offset t], in blocks.

    ``right`` is the side of the blocks of taps; a last vector beyond the columns must find zeros in p.
    """
    vectors = (columns + LANES - 1) // LANES
    p_row, q_row = p.shape[1] * p.shape[2] * 4, q.shape[1] * q.shape[2] * 4
    for f in range(0, filters, LEFT):
        for t in range(0, offsets.shape[0], right):
            a = address(p) + (f * p.shape[2] + x) * 4
            b = address(q) + x * 4
            at = address(sums) + f // LEFT * sums.strides[0] + t // right * sums.strides[1]
            shifts = address(offsets) + t * 8
            if right == _NARROW:
                _dot_narrow(a, p.shape[2] * 4, b, shifts, rows, p_row, q_row, vectors, at)
            else:
                _dot_wide(a, p.shape[2] * 4, b, shifts, rows, p_row, q_row, vectors, at)


@part
def _sweep(u, g, n, region, bank, influence, buffers, right, to_u, sums, work):
    """One part of picture n, (C, H, W)."""
    channels, height, _ = u.shape
    size, group, planes, pitch = buffers
    r = size // 2
    tile, used = carve(work, 0, group + 2 * r, channels, pitch + 2 * r)
    other, used = carve(work, used, group + 2 * r, channels, pitch + 2 * r)
    window, used = carve(work, used, group + 2 * r, planes, pitch)
    values, used = carve(work, used, group, planes, pitch)
    traces, used = carve(work, used, 1, 2, LANES)
    lines, used = carve(work, used, 1, bank.adjoint.shape[0] * bank.adjoint.shape[2] + 1, pitch + 4 * r)
    partial, total = lines[0, :-1], lines[0, -1]
    partial[:, : 2 * r] = np.float32(0.0)
    x0, own_columns, width = region.x0 - region.start, region.x1 - region.x0, region.columns + 2 * r
    begin = 0
    ready = 0
    coming = region.first - r
    for y in range(region.first, region.end):
        if ready < size:
            while ready < 2 * r + group and coming < region.end + r:
                rows = min(group, 2 * r + group - ready, region.end + r - coming)
                low, high = min(max(0, -coming), rows), max(min(rows, height - coming), 0)
                zero_rows(window, ready, ready + low)
                zero_rows(window, ready + high, ready + rows)
                if low < high:
                    top, count = coming + low, high - low
                    load_rows(u, tile, top - r, count + 2 * r, region.start - r, width)
                    load_rows(g, other, top - r, count + 2 * r, region.start - r, width)
                    side = bank.forward.shape[2]
                    for b in range(bank.forward.shape[0]):
                        correlate_rows(tile, count, region.columns, bank, b, values, 0)
                        correlate_rows(other, count, region.columns, bank, b, window, ready + low)
                        influence_gradient(values[:count], 0, window[ready + low :], top, influence, b * side,
                                            b * side + side, n, region, traces[0], sums)  # fmt: skip
                    own, past = max(region.y0, top), min(region.y1, top + count)
                    if own < past:
                        j = own - top
                        _outer_product(values[j:], other[j:], past - own, x0, own_columns, bank.forward_offsets, right,
                                       influence.words.shape[0], sums.kernels)  # fmt: skip
                        _outer_product(window[ready + low + j :], tile[j:], past - own, x0, own_columns,
                                       bank.forward_offsets, right, influence.words.shape[0], sums.kernels)  # fmt: skip
                ready += rows
                coming += rows
            begin = 0
        subtract_adjoint_row(window, begin, bank, partial, total, region, y, size, to_u)
        begin += 1
        if begin + size > ready:
            keep_rows(window, begin, 2 * r)
            ready = 2 * r


def _backward(sources):
    """The function to compile; ``sources`` adds nothing but what it is known by."""

    def backward(u, f, g, parts, jobs, bank, influence, weights, buffers, right, to_u, to_f, to_table, sums, workspace):
        """What the gradient g for the result sends to the step's arguments; ``sums`` up to signs and constant factors.

        to_u = g - weight g - K^T (s'(K u) K g), with s(z) = factor T(slope z + offset). A job takes the run of parts
        from jobs[i] to jobs[i + 1] and sums into the i-th of the arrays of ``sums``, so that nothing depends on the
        number of threads.
        """
        for job in prange(jobs.shape[0] - 1 + 0 * sources):
            of_job = sums_of(sums, job)
            for number in range(jobs[job], jobs[job + 1]):
                n = parts[number, 0]
                region = region_of(parts[number], u.shape[2], u.shape[3], buffers.size // 2)
                own = sums_of_image(of_job, n)
                pass_reaction(u[n], f[n], g[n], weights[n, 0, 0, 0], region, to_u[n], to_f[n], own)
                _sweep(u[n], g[n], n, region, bank, influence, buffers, right, to_u[n], own, workspace[get_thread_id()])
        for row in prange(to_table.shape[0]):
            sum_table(sums.table, row, to_table)

    return backward


backward = compiled(_backward(SOURCES), "the gradient of the diffusion step")
