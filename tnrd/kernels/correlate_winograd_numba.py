"""K and K^T of 3x3 kernels by half the products, for parts of :mod:`tnrd.kernels.step_winograd_numba`.

The three rows of a kernel are taken by :mod:`tnrd.kernels.simd_winograd`, four rows of the result at a time; along the
columns the three taps are summed as they are. With V = B^T of six rows of the source and U = G of the kernels,

    result row i = sum_p A^T[i, p] M_p,        M_p[o, x] = sum_{s, dx} U_p[o, s, dx] V_p[s, x + dx],

o over outputs, s over sources: filters over components for K, components over filters (with turned kernels) for K^T.
The rows of K's results that are made together begin at multiples of four, those of K^T one before, wherever a strip or
a band of a picture begins: what a pixel gets does not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tnrd.kernels.correlate_numba import LINE, address, mirror, part
from tnrd.kernels.simd import LANES, vectors_beside
from tnrd.kernels.simd_winograd import (
    POINTS,
    ROWS,
    TAPS,
    data_transform,
    multiply_column_block,
    multiply_points_block,
    result_transform,
)

SIDES = (4, 5, 6)  # outputs of a register block: a choice, since each takes time to compile


class PointBank(NamedTuple):
    """Transformed kernels (POINTS, blocks, taps, outputs of a block), and byte offsets of the taps of K."""

    forward: Any
    offsets: Any
    adjoint: Any


@part
def transform_rows(source, first, planes, column, vectors, target):
    """V = B^T of rows ``first`` to first + 6 of source (rows, planes or more, pitch), so many vectors of each.

    They begin at ``column``; target is (POINTS, planes or more, pitch).
    """
    pitch, target_pitch = source.strides[0], target.strides[0]
    for s in range(planes):
        row = address(source) + first * pitch + s * source.strides[1] + column * 4
        out = address(target) + s * target.strides[1]
        for x in range(vectors):
            data_transform(row + x * LINE, pitch, out + x * LINE, target_pitch)


@part
def multiply_points(values, column, factors, first, stop, products, target, pitch, row_pitch, vectors):
    """Blocks ``first`` to ``stop`` of the outputs of four rows, from the values V from ``column`` on.

    ``products`` is scratch memory, (POINTS, outputs, 4 vectors); ``target`` is the address of the first row of the
    first output, ``pitch`` bytes from output to output, ``row_pitch`` bytes from row to row.
    """
    _, _, taps, side = factors.shape
    outputs = (stop - first) * side
    most = vectors_beside_outputs(side)
    wide = most * LINE
    a, into = address(factors) + first * factors.strides[1], address(products)
    x = np.int64(0)
    while x < vectors:
        blocks = (vectors - x + most - 1) // most
        count = (vectors - x + blocks - 1) // blocks
        source = address(values) + column * 4 + x * LINE
        _multiply(side, count, source, values.strides[0], values.strides[1], a, factors.strides[0], stop - first,
                  taps // TAPS, into, outputs * wide, wide)  # fmt: skip
        for o in range(outputs):
            for j in range(count):
                result_transform(
                    into + o * wide + j * LINE, outputs * wide, target + o * pitch + (x + j) * LINE, row_pitch
                )
        x += count


def _chosen(side, count, otherwise):
    """Inner products of blocks of ``side`` outputs, ``count`` vectors beside each other; others by ``otherwise``."""
    block = multiply_points_block(side, count)

    @part
    def multiply(outputs, vectors, source, point, row, factors, matrix, blocks, rows, target, target_point, pitch):
        if outputs == side and vectors == count:
            block(source, point, row, factors, matrix, blocks, rows, target, target_point, pitch)
        else:
            otherwise(outputs, vectors, source, point, row, factors, matrix, blocks, rows, target, target_point, pitch)

    return multiply


@part
def _multiply(outputs, vectors, source, point, row, factors, matrix, blocks, rows, target, target_point, pitch):
    """No others: kernels are cut into blocks of these sides, and rows into as many vectors as those take."""


for _side in SIDES:
    for _count in range(1, vectors_beside(_side) + 1):
        _multiply = _chosen(_side, _count, _multiply)


@part
def vectors_beside_outputs(outputs):
    """:func:`tnrd.kernels.simd.vectors_beside`, compiled."""
    return _BESIDE[outputs]


_BESIDE = np.array([vectors_beside(outputs) for outputs in range(max(SIDES) + 1)])


@part
def subtract_adjoint_rows(window, first, bank, filters, chunk, products, lines, edges, region, y, target):
    """Take rows y to y + 3 of K^T from target (C, H, W); rows y - 1 to y + 4 of the responses are in the window.

    Those begin at row ``first`` of the window, which has two zeros before and after the columns of every response.
    ``chunk`` takes V of a stretch of columns, ``lines`` (4, outputs, pitch) the rows of the result, ``edges``
    (2, POINTS + 4, outputs or more) what falls on the columns beyond the left and the right border.
    """
    channels, height, _ = target.shape
    own = region.x1 - region.x0
    shift = region.x0 - region.start - 1  # column of the responses that the first tap of the first sees
    vectors = (own + LANES - 1) // LANES
    longest = chunk.shape[2] // LANES - 1
    pitch, row_pitch = lines.shape[2] * 4, lines.shape[1] * lines.shape[2] * 4
    for x in range(0, vectors, longest):
        now = min(longest, vectors - x)
        transform_rows(window, first, filters, shift + x * LANES, now + 1, chunk)
        multiply_points(chunk, 0, bank.adjoint, 0, bank.adjoint.shape[1], products, address(lines) + x * LINE, pitch,
                        row_pitch, now)  # fmt: skip
        # Of the responses, a column beyond the border sees the last one within by one tap, and zeros by the others.
        if x == 0 and region.left > 0:
            _adjoint_column(chunk, 1, bank.adjoint, TAPS - 1, edges[0])
        if x + now == vectors and region.right > 0:
            _adjoint_column(chunk, own - x * LANES, bank.adjoint, 0, edges[1])
    for i in range(ROWS):
        if region.first <= y + i < region.end:
            row = mirror(y + i, height)
            for c in range(channels):
                out, line = target[c, row, region.x0 : region.x1], lines[i, c, :own]
                for x in range(own):
                    out[x] -= line[x]
                if region.left > 0:
                    out[0] -= edges[0, POINTS + i, c]
                if region.right > 0:
                    out[own - 1] -= edges[1, POINTS + i, c]


@part
def _adjoint_column(values, column, factors, tap, edge):
    """Rows POINTS to POINTS + 3 of ``edge``: four rows of all outputs, from one column of V by one tap."""
    _, blocks, taps, side = factors.shape
    source = address(values) + column * 4
    for b in range(blocks):
        _multiply_column(side, source, values.strides[0], values.strides[1],
                         address(factors) + b * factors.strides[1] + tap * side * 4, factors.strides[0], taps // TAPS,
                         address(edge) + b * side * 4, edge.strides[0])  # fmt: skip
    results = address(edge) + POINTS * edge.strides[0]
    for x in range(0, (blocks * side + LANES - 1) // LANES):
        result_transform(address(edge) + x * LINE, edge.strides[0], results + x * LINE, edge.strides[0])


def _column_chosen(side, otherwise):
    """The same of blocks of ``side`` outputs; others by ``otherwise``."""
    block = multiply_column_block(side)

    @part
    def multiply(outputs, source, point, row, factors, matrix, rows, target, target_point):
        if outputs == side:
            block(source, point, row, factors, matrix, rows, target, target_point)
        else:
            otherwise(outputs, source, point, row, factors, matrix, rows, target, target_point)

    return multiply


@part
def _multiply_column(outputs, source, point, row, factors, matrix, rows, target, target_point):
    """No others, as of :func:`_multiply`."""


for _side in SIDES:
    _multiply_column = _column_chosen(_side, _multiply_column)
