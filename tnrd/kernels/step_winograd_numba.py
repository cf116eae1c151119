"""The compiled loops of the diffusion step and of its gradient for 3x3 kernels of several components.

They sweep as :mod:`tnrd.kernels.step_forward_numba` and ``step_backward_numba`` do, four rows at a time or a multiple
of that, with K and K^T from :mod:`tnrd.kernels.correlate_winograd_numba`. Kernels and their gradient are transformed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import get_thread_id, prange

from tnrd.kernels.correlate_numba import (
    LINE,
    address,
    carve,
    compiled,
    keep_rows,
    load_rows,
    part,
    region_of,
    sources,
    zero_rows,
)
from tnrd.kernels.correlate_winograd_numba import multiply_points, subtract_adjoint_rows, transform_rows
from tnrd.kernels.simd import EVEN_LEFT, EVEN_RIGHT, LANES, dot_block
from tnrd.kernels.simd_winograd import POINTS, ROWS, gradient_transform
from tnrd.kernels.step_backward_numba import influence_gradient, pass_reaction, sum_table, sums_of, sums_of_image
from tnrd.kernels.step_forward_numba import influence_rows, react

CHUNK = 96 // LANES  # vectors of a row of responses that are transformed at a time
_FILES = ("simd_winograd.py", "correlate_winograd_numba.py", "step_forward_numba.py", "step_backward_numba.py")
_SOURCES = sources(*_FILES)
_dot = dot_block(EVEN_LEFT, EVEN_RIGHT)


@part
def _groups(region):
    """Numbers of the first group of four rows of responses that a region takes, and of the one after its last."""
    return max(0, (region.y0 + 1) // ROWS - 1), (region.end + ROWS) // ROWS


@part
def _wide(lines):
    """Whole vectors that hold an element of every output."""
    return (lines.shape[1] + LANES - 1) // LANES * LANES


@part
def _sweep(u, f, n, region, bank, influence, weight, buffers, out, work):
    """One part of picture n, (C, H, W)."""
    channels, height, _ = u.shape
    _, _, planes, pitch = buffers
    tile, used = carve(work, 0, ROWS + 2, channels, pitch)
    values, used = carve(work, used, POINTS, channels, pitch)
    chunk, used = carve(work, used, POINTS, planes, (CHUNK + 1) * LANES)
    lines, used = carve(work, used, ROWS, bank.adjoint.shape[1] * bank.adjoint.shape[3], pitch)
    products, used = carve(work, used, POINTS, max(8, lines.shape[1]), 4 * LANES)
    edges, used = carve(work, used, 2, POINTS + ROWS, _wide(lines))
    work[used : used + LANES] = np.float32(0.0)  # before the first response; those that follow end in zeros
    window, used = carve(work, used + LANES, ROWS + 2, planes, pitch)
    window[:] = np.float32(0.0)
    side = bank.forward.shape[3]
    vectors = (region.columns + LANES - 1) // LANES
    row_pitch = planes * pitch * 4
    start, stop = _groups(region)
    for group in range(start, stop):
        top = group * ROWS
        if top < height:
            load_rows(u, tile, top - 1, ROWS + 2, region.start - 1, region.columns + 2)
            transform_rows(tile, 0, channels, 0, pitch // LANES, values)
            for x in range(0, vectors, CHUNK):
                now = min(CHUNK, vectors - x)
                last = pitch if x + now == vectors else (x + now) * LANES
                for b in range(bank.forward.shape[1]):
                    target = address(window) + ((2 * planes + b * side) * pitch) * 4 + x * LINE
                    multiply_points(values, x * LANES, bank.forward, b, b + 1, products, target,
                                    pitch * 4, row_pitch, now)  # fmt: skip
                    influence_rows(window, 2, min(ROWS, height - top), x * LANES, last, region.columns, influence,
                                   b * side, b * side + side, n, top, region.start)  # fmt: skip
        zero_rows(window, 2 + max(0, min(ROWS, height - top)), 2 + ROWS)
        y = top - 1
        for row in range(max(y, region.y0), min(y + ROWS, region.y1)):
            react(u, f, weight, out, row, region.x0, region.x1)
        if y + ROWS > region.first:
            subtract_adjoint_rows(window, 0, bank, influence.words.shape[0], chunk, products, lines, edges,
                                  region, y, out)  # fmt: skip
        keep_rows(window, ROWS, 2)


class Scratch(NamedTuple):
    """Memory of the backward pass; pictures and responses hold, point by point, the groups of rows of g, then of u."""

    tile: Any
    pictures: Any
    responses: Any
    values: Any
    traces: Any
    nothing: Any
    chunk: Any
    lines: Any
    products: Any
    edges: Any
    window: Any


@part
def _scratch(channels, buffers, bank, work):
    """The scratch memory; what is read before it is written holds zeros."""
    _, rows, planes, pitch = buffers
    groups, side = 2 * (rows // ROWS), bank.forward.shape[3]
    beside = (side + EVEN_LEFT - 1) // EVEN_LEFT * EVEN_LEFT
    tile, used = carve(work, 0, rows + 2, channels, pitch)
    pictures, used = carve(work, used, POINTS * groups, channels, pitch)
    responses, used = carve(work, used, POINTS * groups, beside, pitch)
    values, used = carve(work, used, rows, side, pitch)
    traces, used = carve(work, used, 1, 2, LANES)
    nothing, used = carve(work, used, 1, 1, pitch)
    chunk, used = carve(work, used, POINTS, planes, (CHUNK + 1) * LANES)
    lines, used = carve(work, used, ROWS, bank.adjoint.shape[1] * bank.adjoint.shape[3], pitch)
    products, used = carve(work, used, POINTS, max(8, lines.shape[1]), 4 * LANES)
    edges, used = carve(work, used, 2, POINTS + ROWS, _wide(lines))
    work[used : used + LANES] = np.float32(0.0)
    window, used = carve(work, used + LANES, rows + 2, planes, pitch)
    window[:] = np.float32(0.0)
    nothing[:] = np.float32(0.0)
    responses[:] = np.float32(0.0)
    of_points = pictures.reshape(POINTS, groups, channels, pitch), responses.reshape(POINTS, groups, beside, pitch)
    return Scratch(tile, *of_points, values, traces, nothing, chunk, lines, products, edges, window)


@part
def _sweep_back(u, g, n, region, bank, influence, buffers, to_u, sums, work):
    """The gradient of one part of picture n, (C, H, W); the group of rows of the buffers is a multiple of four."""
    channels, height, _ = u.shape
    most = buffers.group // ROWS
    scratch = _scratch(channels, buffers, bank, work)
    start, stop = _groups(region)
    for first in range(start, stop, most):
        count = min(most, stop - first)
        top = first * ROWS
        valid = max(0, min(count * ROWS, height - top))
        if valid > 0:
            _load_groups(g, scratch, 0, count, top, region)
            _load_groups(u, scratch, count, count, top, region)
            for b in range(bank.forward.shape[1]):
                _block_gradient(b, scratch, n, region, bank, influence, top, count, valid, sums)
        zero_rows(scratch.window, 2 + valid, 2 + count * ROWS)
        for i in range(count):
            y = top + i * ROWS - 1
            if y + ROWS > region.first:
                subtract_adjoint_rows(scratch.window, i * ROWS, bank, influence.words.shape[0], scratch.chunk,
                                      scratch.products, scratch.lines, scratch.edges, region, y, to_u)  # fmt: skip
        keep_rows(scratch.window, count * ROWS, 2)


@part
def _load_groups(picture, scratch, first, count, top, region):
    """B^T of ``count`` groups of rows of a picture, from row ``top`` on, into those from ``first`` on."""
    tile = scratch.tile
    load_rows(picture, tile, top - 1, count * ROWS + 2, region.start - 1, region.columns + 2)
    for i in range(count):
        transform_rows(tile, i * ROWS, tile.shape[1], 0, tile.shape[2] // LANES, scratch.pictures[:, first + i])


@part
def _block_gradient(b, scratch, n, region, bank, influence, top, count, valid, sums):
    """A block of filters: s'(K u) K g into the window, and what the block adds to the sums."""
    values, window, pictures, responses = scratch.values, scratch.window, scratch.pictures, scratch.responses
    side, planes, pitch = values.shape[1], window.shape[1], window.shape[2]
    vectors = (region.columns + LANES - 1) // LANES
    x0, own_columns, f = region.x0 - region.start, region.x1 - region.x0, b * side
    for i in range(count):
        of_u = address(values) + i * ROWS * side * pitch * 4
        of_g = address(window) + ((2 + i * ROWS) * planes + f) * pitch * 4
        multiply_points(pictures[:, count + i], 0, bank.forward, b, b + 1, scratch.products, of_u,
                        pitch * 4, side * pitch * 4, vectors)  # fmt: skip
        multiply_points(pictures[:, i], 0, bank.forward, b, b + 1, scratch.products, of_g,
                        pitch * 4, planes * pitch * 4, vectors)  # fmt: skip
    influence_gradient(values[:valid], f, window[2:], top, influence, f, f + side, n, region, scratch.traces[0], sums)
    _transform_responses(values, 0, scratch.nothing, top, count, x0, own_columns, region, side, responses)
    _transform_responses(window[2:], f, scratch.nothing, top, count, x0, own_columns, region, side,
                         responses[:, count:])  # fmt: skip
    for p in range(POINTS):
        _outer_product(responses[p], pictures[p], 2 * count, x0, own_columns, bank.offsets, sums.kernels[b, p])


@part
def _transform_responses(values, f, nothing, top, count, x, columns, region, filters, target):
    """A of four owned rows at a time, of filters f on; rows that the region does not own count as zero."""
    plane = target.strides[0]
    for i in range(count):
        for j in range(filters):
            out = address(target) + i * target.strides[1] + j * target.strides[2] + x * 4
            rows = address(values) + ((i * ROWS * values.shape[1] + f + j) * values.shape[2] + x) * 4
            pitch = values.shape[1] * values.shape[2] * 4
            y = top + i * ROWS
            zero = address(nothing)
            a = rows if region.y0 <= y < region.y1 else zero
            b = rows + pitch if region.y0 <= y + 1 < region.y1 else zero
            c = rows + 2 * pitch if region.y0 <= y + 2 < region.y1 else zero
            d = rows + 3 * pitch if region.y0 <= y + 3 < region.y1 else zero
            for k in range((columns + LANES - 1) // LANES):
                # The row of zeros has the same length, and is read from its start.
                gradient_transform(a + k * LINE, b + k * LINE, c + k * LINE, d + k * LINE, out + k * LINE, plane)


@part
def _outer_product(p, q, rows, x, columns, offsets, sums):
    """sums[f, t] += sum over ``rows`` rows and ``columns`` columns from x of p[row, f] q[row, offset t], in blocks.

    p is (rows, filters, pitch), q (rows, components, pitch); a last vector beyond the columns must find zeros in p.
    """
    vectors = (columns + LANES - 1) // LANES
    for f in range(0, p.shape[1], EVEN_LEFT):
        for t in range(0, offsets.size, EVEN_RIGHT):
            at = address(sums) + f // EVEN_LEFT * sums.strides[0] + t // EVEN_RIGHT * sums.strides[1]
            _dot(address(p) + f * p.strides[1] + x * 4, p.strides[1], address(q) + x * 4, address(offsets) + t * 8,
                 rows, p.strides[0], q.strides[0], vectors, at)  # fmt: skip


def _forward(sources):
    """The function to compile; ``sources`` adds nothing but what it is known by."""

    def forward(u, f, parts, bank, influence, weights, buffers, out, workspace):
        """out = u - K^T psi(K u) - weight (u - f), every part (image, y0, y1, x0, x1) by itself."""
        for number in prange(parts.shape[0] + 0 * sources):
            n = parts[number, 0]
            region = region_of(parts[number], u.shape[2], u.shape[3], buffers.size // 2)
            _sweep(u[n], f[n], n, region, bank, influence, weights[n], buffers, out[n], workspace[get_thread_id()])

    return forward


def _backward(sources):
    """The function to compile; ``sources`` adds nothing but what it is known by."""

    def backward(u, f, g, parts, jobs, bank, influence, weights, buffers, side, to_u, to_f, to_table, sums, workspace):
        """As ``backward`` of :mod:`tnrd.kernels.step_backward_numba`; the sums for the kernels are transformed.

        They are (jobs, blocks of K, POINTS, blocks of its filters, blocks of taps, EVEN_LEFT, EVEN_RIGHT). ``side`` is
        for those loops, here the sides of the blocks of inner products are fixed.
        """
        for job in prange(jobs.shape[0] - 1 + 0 * sources):
            of_job = sums_of(sums, job)
            for number in range(jobs[job], jobs[job + 1]):
                n = parts[number, 0]
                region = region_of(parts[number], u.shape[2], u.shape[3], buffers.size // 2)
                own = sums_of_image(of_job, n)
                pass_reaction(u[n], f[n], g[n], weights[n, 0, 0, 0], region, to_u[n], to_f[n], own)
                _sweep_back(u[n], g[n], n, region, bank, influence, buffers, to_u[n], own,
                            workspace[get_thread_id()])  # fmt: skip
        for row in prange(to_table.shape[0]):
            sum_table(sums.table, row, to_table)

    return backward


forward = compiled(_forward(_SOURCES), "the diffusion step")
backward = compiled(_backward(_SOURCES), "the gradient of the diffusion step")
