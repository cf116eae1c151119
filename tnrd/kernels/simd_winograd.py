"""Winograd's minimal filtering F(4, 3) from row to row: four outputs of three taps by six products instead of twelve.

    y = A^T [ (G g) . (B^T d) ],        y[i] = sum_k g[k] d[i + k],    i < 4, k < 3,

the polynomial product of Toom and Cook at the points 0, +-a, +-b and infinity, transposed (Winograd, Arithmetic
Complexity of Computations, 1980; Lavin & Gray, CVPR 2016, arXiv 1509.09308, use a = 1, b = 2). With a^2 = 1/2 and
b^2 = 2 the rounding error is half as large again as that of twelve products (docs/experiments.md).

The transposes give the rest: the adjoint is the same with turned kernels, and the gradient for g is

    dL/dg = G^T [ (A dL/dy) . (B^T d) ].

Here are the products and the three transforms of rows of pixels as vector instructions, and G as a matrix. Memory is
given by addresses in bytes, as in :mod:`tnrd.kernels.simd`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from tnrd.kernels.simd import (
    FLOAT,
    INT64,
    VECTOR,
    accumulate,
    load_vector,
    multiply_add,
    pointer_at,
    splat,
    store_vector,
    zeros_of,
)

ROWS, POINTS, TAPS = 4, 6, 3
_A, _B = math.sqrt(0.5), math.sqrt(2.0)


@lru_cache
def kernel_transform() -> NDArray[np.float64]:
    """G, (POINTS, TAPS): a kernel as a polynomial, at each point, over the product of that point's distances."""
    points = np.array([0.0, _A, -_A, _B, -_B])
    distances = points[:, None] - points + np.eye(len(points))
    matrix = np.vander(points, TAPS, increasing=True) / distances.prod(1, keepdims=True)
    result = np.vstack([matrix, [0.0, 0.0, 1.0]])
    result.flags.writeable = False
    return result


def multiply_points_block(outputs: int, vectors: int) -> Callable[..., Any]:
    """An intrinsic that accumulates ``outputs`` x ``vectors`` registers over all columns of kernels, point by point.

        M[p, b, i, x] = sum_{s, j} U[p, b, s, j, i] V[p, s, x + j],     i < outputs,  x < vectors * LANES,  j < TAPS.

    Its arguments, int64: V and the distances in bytes of its points and of its rows s; U (contiguous but for the first
    axis) and the distance of its points; the numbers of blocks b and of rows; M and the distances of its points and of
    its rows, of which a block has ``outputs``. The sum runs over s and j in order.
    """

    @intrinsic
    def multiply(typingctx, source, point, row, factors, matrix, blocks, rows, target, target_point, pitch):
        def codegen(context, builder, signature, arguments):
            source, point, row, factors, matrix, blocks, rows, target, target_point, pitch = arguments
            zeros = [[zeros_of(VECTOR)] * vectors for _ in range(outputs)]
            step = 4 * outputs * TAPS  # bytes of the factors of a row
            block, out = builder.mul(rows, INT64(step)), builder.mul(pitch, INT64(outputs))

            def at_point(p, nothing):
                start, first, into = (
                    builder.add(place, builder.mul(distance, p))
                    for place, distance in ((source, point), (factors, matrix), (target, target_point))
                )

                def at_block(b, nothing):
                    a_start, d_start = builder.add(first, builder.mul(block, b)), builder.add(into, builder.mul(out, b))

                    def at_row(s, sums):
                        v, a_row = (
                            builder.add(start, builder.mul(row, s)),
                            builder.add(a_start, builder.mul(s, INT64(step))),
                        )
                        for j in range(TAPS):
                            here = builder.add(v, INT64(4 * j))
                            x = [load_vector(builder, here, number) for number in range(vectors)]
                            for i in range(outputs):
                                a = builder.load(pointer_at(builder, a_row, INT64(j * outputs + i), 4, FLOAT))
                                a = splat(builder, a)
                                sums[i] = [multiply_add(builder, a, x[k], sums[i][k]) for k in range(vectors)]
                        return sums

                    sums = accumulate(builder, rows, zeros, at_row)
                    for i in range(outputs):
                        for k in range(vectors):
                            store_vector(builder, sums[i][k], builder.add(d_start, builder.mul(pitch, INT64(i))), k)
                    return nothing

                accumulate(builder, blocks, [], at_block)
                return nothing

            accumulate(builder, INT64(POINTS), [], at_point)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 10), codegen

    return multiply


def multiply_column_block(outputs: int) -> Callable[..., Any]:
    """An intrinsic that accumulates the products of one column by one tap of a block of kernels, at all points.

        M[p, i] = sum_s U[p, s, i] V[p, s],     i < outputs.

    Its arguments, int64: V and the distances in bytes of its points and of its rows s; U, of which a row has 3 outputs,
    and the distance of its points; the number of rows; M and the distance of its points.
    """
    kind = ir.VectorType(FLOAT, outputs)

    @intrinsic
    def multiply(typingctx, source, point, row, factors, matrix, rows, target, target_point):
        def codegen(context, builder, signature, arguments):
            source, point, row, factors, matrix, rows, target, target_point = arguments

            def at_row(s, sums):
                v, a = builder.add(source, builder.mul(row, s)), builder.add(factors, builder.mul(s, INT64(step)))
                for p in range(POINTS):
                    value = builder.load(pointer_at(builder, _row(builder, v, point, p), INT64(0), 4, FLOAT))
                    factor = builder.load(pointer_at(builder, _row(builder, a, matrix, p), INT64(0), 4, kind), align=4)
                    sums[0][p] = multiply_add(builder, splat(builder, value, outputs), factor, sums[0][p])
                return sums

            step = 4 * outputs * TAPS
            sums = accumulate(builder, rows, [[zeros_of(kind)] * POINTS], at_row)
            for p in range(POINTS):
                place = pointer_at(builder, _row(builder, target, target_point, p), INT64(0), 4, kind)
                builder.store(sums[0][p], place, align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), codegen

    return multiply


@intrinsic
def data_transform(typingctx, source, pitch, target, target_pitch):
    """One vector of each of six rows d to six of B^T d; ``pitch`` and ``target_pitch`` are bytes from row to row."""

    def codegen(context, builder, signature, arguments):
        source, pitch, target, target_pitch = arguments
        d = [load_vector(builder, _row(builder, source, pitch, j), 0) for j in range(POINTS)]
        ends, half, two = _number(builder, -2.5), _number(builder, -0.5), _number(builder, -2.0)
        even_a, odd_a = multiply_add(builder, two, d[2], d[4]), multiply_add(builder, two, d[1], d[3])
        even_b, odd_b = multiply_add(builder, half, d[2], d[4]), multiply_add(builder, half, d[1], d[3])
        results = [
            multiply_add(builder, ends, d[2], builder.fadd(d[0], d[4])),
            *_both_signs(builder, _A, even_a, odd_a),
            *_both_signs(builder, _B, even_b, odd_b),
            multiply_add(builder, ends, d[3], builder.fadd(d[1], d[5])),
        ]
        _store_rows(builder, results, target, target_pitch)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@intrinsic
def result_transform(typingctx, source, pitch, target, target_pitch):
    """One vector of each of six rows of products m to four of A^T m."""

    def codegen(context, builder, signature, arguments):
        source, pitch, target, target_pitch = arguments
        m = [load_vector(builder, _row(builder, source, pitch, k), 0) for k in range(POINTS)]
        sums = [builder.fadd(m[k], m[k + 1]) for k in (1, 3)]
        differences = [builder.fsub(m[k], m[k + 1]) for k in (1, 3)]

        def combined(first, second, values, start):
            inner = builder.fmul(_number(builder, second), values[1])
            inner = multiply_add(builder, _number(builder, first), values[0], inner)
            return inner if start is None else builder.fadd(inner, start)

        results = [
            builder.fadd(m[0], builder.fadd(*sums)),
            combined(_A, _B, differences, None),
            combined(_A**2, _B**2, sums, None),
            combined(_A**3, _B**3, differences, m[5]),
        ]
        _store_rows(builder, results, target, target_pitch)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@intrinsic
def gradient_transform(typingctx, first, second, third, fourth, target, target_pitch):
    """One vector of each of four rows y, given by their addresses, to six of A y."""

    def codegen(context, builder, signature, arguments):
        *rows, target, target_pitch = arguments
        y = [load_vector(builder, row, 0) for row in rows]

        def at(point):
            square = _number(builder, point**2)
            even, odd = multiply_add(builder, square, y[2], y[0]), multiply_add(builder, square, y[3], y[1])
            return _both_signs(builder, point, even, odd)

        _store_rows(builder, [y[0], *at(_A), *at(_B), y[3]], target, target_pitch)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), codegen


def _both_signs(builder: Any, point: float, even: Any, odd: Any) -> list[Any]:
    """even +- point odd."""
    return [multiply_add(builder, _number(builder, sign * point), odd, even) for sign in (1, -1)]


def _number(builder: Any, value: float) -> Any:
    return splat(builder, FLOAT(float(np.float32(value))))


def _row(builder: Any, start: Any, pitch: Any, number: int) -> Any:
    return builder.add(start, builder.mul(pitch, INT64(number)))


def _store_rows(builder: Any, values: list[Any], target: Any, pitch: Any) -> None:
    for number, value in enumerate(values):
        store_vector(builder, value, _row(builder, target, pitch, number), 0)
