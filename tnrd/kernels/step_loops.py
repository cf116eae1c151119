"""The compiled loops of :mod:`tnrd.kernels.step_numba`.

A picture is cut into strips of columns and those into bands of rows. A strip is swept downwards, a few rows at a time: the
responses K u of those rows are computed, turned into psi(K u) in place, and held in a window that is just long enough for
the adjoint, which is then taken row by row. The window stays in a core's cache; responses never reach main memory.

Both correlations are the same register-blocked product (:func:`tnrd.kernels.simd.multiply_block`): K sums shifted rows of
the picture into F responses; K^T sums rows of responses into C k partial rows, one for each column of the kernels, which
are shifted and added at the end. What falls beyond the border is folded back onto the pixels that it mirrors.

Numba keeps what it compiled while this file is unchanged: after a change in simd.py, touch it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import get_thread_id, njit, prange

from tnrd.kernels.simd import (
    LANES,
    LEFT,
    RIGHT,
    dot_block,
    influence_block,
    influence_gradient_block,
    multiply_block,
    vectors_beside,
)

# No "nnan" or "ninf": NaN and infinity pass through as they do in the reference.
FAST = {"reassoc", "arcp", "contract", "nsz"}
LINE = 4 * LANES  # bytes of a vector
TRACES = 5  # rows that the backward pass of psi notes


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile for all cores; kept on disk where a folder for it can be written, once a process where none can."""
    options: dict[str, Any] = {"nogil": True, "fastmath": FAST, "parallel": True}
    try:
        result: Callable[..., Any] = njit(cache=True, **options)(function)
    except RuntimeError:
        result = njit(**options)(function)
    return result


inner = njit(nogil=True, fastmath=FAST)  # a part of the compiled functions above, kept with them


def _multiply_row(outputs: int) -> Callable[..., Any]:
    most = vectors_beside(outputs)
    wide, two, one = (multiply_block(outputs, vectors) for vectors in (most, 2, 1))

    @inner
    def row(source, offsets, factors, taps, target, pitch, vectors):  # type: ignore[no-untyped-def]  # pragma: no cover
        x = np.int64(0)
        while vectors - x >= most:
            wide(source + x * LINE, offsets, factors, taps, target + x * LINE, pitch)
            x += most
        while vectors - x >= 2:
            two(source + x * LINE, offsets, factors, taps, target + x * LINE, pitch)
            x += 2
        if x < vectors:
            one(source + x * LINE, offsets, factors, taps, target + x * LINE, pitch)

    return row  # type: ignore[no-any-return]


_row3, _row4, _row5, _row6, _row7, _row8 = (_multiply_row(outputs) for outputs in range(3, 9))
_dots = [dot_block(LEFT, right) for right in RIGHT]
_dot_narrow, _dot_wide = _dots
_NARROW = RIGHT[0]


@inner
def _multiply(outputs, source, offsets, factors, taps, target, pitch, vectors):  # type: ignore[no-untyped-def]  # pragma: no cover
    if outputs == 3:
        _row3(source, offsets, factors, taps, target, pitch, vectors)
    elif outputs == 4:
        _row4(source, offsets, factors, taps, target, pitch, vectors)
    elif outputs == 5:
        _row5(source, offsets, factors, taps, target, pitch, vectors)
    elif outputs == 6:
        _row6(source, offsets, factors, taps, target, pitch, vectors)
    elif outputs == 7:
        _row7(source, offsets, factors, taps, target, pitch, vectors)
    else:
        _row8(source, offsets, factors, taps, target, pitch, vectors)


@inner
def _address(array):  # type: ignore[no-untyped-def]  # pragma: no cover
    return np.int64(array.ctypes.data)


@inner
def _mirror(i, length):  # type: ignore[no-untyped-def]  # pragma: no cover
    i = i % (2 * length)
    return i if i < length else 2 * length - 1 - i


@inner
def _load_rows(picture, tile, first_row, rows, first_column, columns):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Copy mirrored rows of a (C, H, W) picture into tile (rows, C, pitch), zero beyond ``columns``."""
    channels, height, width = picture.shape
    start = max(0, -first_column)
    stop = min(columns, width - first_column)
    for r in range(rows):
        y = _mirror(first_row + r, height)
        for c in range(channels):
            source, target = picture[c, y], tile[r, c]
            for x in range(start):
                target[x] = source[_mirror(first_column + x, width)]
            for x in range(start, stop):
                target[x] = source[first_column + x]
            for x in range(stop, columns):
                target[x] = source[_mirror(first_column + x, width)]
            target[columns:] = np.float32(0.0)


@inner
def _correlate(tile, first, rows, vectors, kernels, offsets, target, row):  # type: ignore[no-untyped-def]  # pragma: no cover
    """target[row + j, :] = K tile for ``rows`` rows; target is (rows, planes, pitch)."""
    blocks, taps, outputs = kernels.shape
    pitch = target.shape[2] * 4
    for b in range(blocks):
        factors = _address(kernels) + b * taps * outputs * 4
        for j in range(rows):
            _multiply(
                outputs,
                _address(tile) + (first + j) * tile.shape[1] * tile.shape[2] * 4,
                _address(offsets),
                factors,
                taps,
                _address(target) + ((row + j) * target.shape[1] + b * outputs) * pitch,
                pitch,
                vectors,
            )


@inner
def _influence(responses, row, columns, words, slope, offset, last, factor, y, start):  # type: ignore[no-untyped-def]  # pragma: no cover
    """psi in place on one row of responses (rows, planes, pitch), zero beyond ``columns``.

    ``slope`` and ``factor`` are (F, 1, 1), or (F, H, W) with this row at y and its first column at ``start``.
    """
    per_pixel = slope.size > slope.shape[0]
    zero = np.float32(0.0)
    for f in range(words.shape[0]):
        z = responses[row, f]
        table = _address(words) + f * words.shape[1] * 8
        slopes, factors = slope[f, y if per_pixel else 0], factor[f, y if per_pixel else 0]
        if per_pixel:
            for x in range(columns):
                z[x] *= slopes[start + x]
        scale = np.float32(1.0) if per_pixel else slopes[0]
        rise = np.float32(1.0) if per_pixel else factors[0]
        for x in range(0, columns, LANES):
            influence_block(_address(z) + x * 4, table, scale, offset, last, rise)
        if per_pixel:
            for x in range(columns):
                z[x] *= factors[start + x]
        z[columns:] = zero


@inner
def _subtract_adjoint(
    window,
    j,
    kernels,
    offsets,
    partial,
    total,
    columns,
    size,
    start,
    state,
    other,
    target,
    weight,
    y,
    x0,
    x1,
    left,
    right,
    fresh,
):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Take row y of K^T from the target, folding what lies beyond the border.

    ``partial`` holds C k rows of column sums with 2r zeros on the left, ``total`` one row of the result. ``fresh`` rows are
    first set to state - weight (state - other), weight (1, 1, 1) or (1, H, W).
    """
    blocks, taps, outputs = kernels.shape
    channels, height, width = target.shape
    r = size // 2
    pitch = partial.shape[1] * 4
    for b in range(blocks):
        _multiply(
            outputs,
            _address(window) + j * window.shape[1] * window.shape[2] * 4,
            _address(offsets),
            _address(kernels) + b * taps * outputs * 4,
            taps,
            _address(partial) + b * outputs * pitch + 2 * r * 4,
            pitch,
            (columns + LANES - 1) // LANES,
        )
    row = _mirror(y, height)
    for c in range(channels):
        for dx in range(size):
            partial[c * size + dx, 2 * r + columns :] = np.float32(0.0)
        first = x0 - left
        count = x1 + right - first
        for dx in range(size):
            shift = first - start + 3 * r - dx
            source = partial[c * size + dx, shift : shift + count]
            for x in range(count):
                total[x] = source[x] + (total[x] if dx else np.float32(0.0))
        out = target[c, row, x0:x1]
        middle = total[left : left + x1 - x0]
        if fresh:
            _explicit_reaction(state, other, weight, out, c, row, x0, x1)
        for x in range(x1 - x0):
            out[x] -= middle[x]
        for x in range(left):
            target[c, row, _mirror(x - left, width)] -= total[x]
        for x in range(right):
            target[c, row, _mirror(width + x, width)] -= total[left + x1 - x0 + x]


@inner
def _explicit_reaction(state, other, weight, out, c, row, x0, x1):  # type: ignore[no-untyped-def]  # pragma: no cover
    u = state[c, row, x0:x1]
    if c >= other.shape[0]:
        for x in range(x1 - x0):
            out[x] = u[x]
    else:
        f = other[c, row, x0:x1]
        if weight.size > 1:
            weights = weight[0, row, x0:x1]
            for x in range(x1 - x0):
                out[x] = u[x] - weights[x] * (u[x] - f[x])
        else:
            for x in range(x1 - x0):
                out[x] = u[x] - weight[0, 0, 0] * (u[x] - f[x])


@inner
def _zero_rows(window, start, stop):  # type: ignore[no-untyped-def]  # pragma: no cover
    for j in range(start, stop):
        window[j, :, :] = np.float32(0.0)


@inner
def _keep_rows(window, begin, rows):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Move the last rows of the window to its start."""
    for j in range(rows):
        source, target = window[begin + j].reshape(-1), window[j].reshape(-1)
        for i in range(source.size):
            target[i] = source[i]


@inner
def _carve(work, start, a, b, c):  # type: ignore[no-untyped-def]  # pragma: no cover
    return work[start : start + a * b * c].reshape(a, b, c)


@inner
def _extent(y0, y1, x0, x1, height, width, r):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Rows and columns that a part owns beyond the border, and the columns of responses that it needs."""
    above, below = (r if y0 == 0 else 0), (r if y1 == height else 0)
    left, right = (r if x0 == 0 else 0), (r if x1 == width else 0)
    return y0 - above, y1 + below, left, right, max(x0 - r, 0), min(x1 + r, width)


@inner
def _forward_part(
    u,
    f,
    part,
    kernels,
    offsets,
    adjoint,
    rows_of,
    words,
    slope,
    offset,
    last,
    factor,
    weight,
    size,
    group,
    planes,
    pitch,
    out,
    work,
):  # type: ignore[no-untyped-def]  # pragma: no cover
    """One part of one picture, (C, H, W)."""
    _, y0, y1, x0, x1 = part
    channels, height, width = u.shape
    r = size // 2
    first, end, left, right, start, stop = _extent(y0, y1, x0, x1, height, width, r)
    columns = stop - start
    vectors = (columns + LANES - 1) // LANES
    tile = _carve(work, 0, group + 2 * r, channels, pitch + 2 * r)
    used = tile.size
    window = _carve(work, used, group + 2 * r, planes, pitch)
    used += window.size
    partial = _carve(work, used, 1, adjoint.shape[0] * adjoint.shape[2], pitch + 4 * r)[0]
    used += partial.size
    total = work[used : used + pitch + 4 * r]
    partial[:, : 2 * r] = np.float32(0.0)
    if y0 == 0:  # rows onto which the border folds are set before anything is folded
        for y in range(min(r, y1)):
            for c in range(channels):
                _explicit_reaction(u, f, weight, out[c, y, x0:x1], c, y, x0, x1)
    begin = 0  # row y - r of the window
    ready = 0  # rows of the window that hold responses
    below = first - r  # the next row of responses
    for y in range(first, end):
        if ready < 2 * r + 1:
            while ready < 2 * r + group and below < end + r:
                rows = min(group, 2 * r + group - ready, end + r - below)
                low, high = min(max(0, -below), rows), max(min(rows, height - below), 0)
                _zero_rows(window, ready, ready + low)
                _zero_rows(window, ready + high, ready + rows)
                if low < high:
                    _load_rows(u, tile, below + low - r, high - low + 2 * r, start - r, columns + 2 * r)
                    _correlate(tile, 0, high - low, vectors, kernels, offsets, window, ready + low)
                    for j in range(ready + low, ready + high):
                        _influence(window, j, columns, words, slope, offset, last, factor, below - ready + j, start)
                ready += rows
                below += rows
            begin = 0
        fresh = 0 <= y < height and not (y0 == 0 and y < r)
        _subtract_adjoint(
            window,
            begin,
            adjoint,
            rows_of,
            partial,
            total,
            columns,
            size,
            start,
            u,
            f,
            out,
            weight,
            y,
            x0,
            x1,
            left,
            right,
            fresh,
        )
        begin += 1
        if begin + 2 * r + 1 > ready:
            _keep_rows(window, begin, 2 * r)
            ready = 2 * r


@_compiled
def forward(
    u,
    f,
    parts,
    kernels,
    offsets,
    adjoint,
    rows_of,
    words,
    slopes,
    offset,
    last,
    factors,
    weights,
    size,
    group,
    planes,
    pitch,
    out,
    workspace,
):  # type: ignore[no-untyped-def]  # pragma: no cover
    """out = u - K^T psi(K u) - weight (u - f), every part (image, y0, y1, x0, x1) by itself."""
    for number in prange(parts.shape[0]):
        n = parts[number, 0]
        _forward_part(
            u[n],
            f[n],
            parts[number],
            kernels,
            offsets,
            adjoint,
            rows_of,
            words,
            slopes[n],
            offset,
            last,
            factors[n],
            weights[n],
            size,
            group,
            planes,
            pitch,
            out[n],
            workspace[get_thread_id()],
        )


@inner
def _influence_gradient(
    values, i, window, j, columns, words, slope, offset, last, factor, trace, owned, x0, x1, to_table, to_scales
):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Row i of K u becomes psi, row j of K g becomes psi' K g; sums over the owned columns go to the table and scales."""
    pitch = trace.shape[1] * 4
    index = trace[4].view(np.int32)
    for f in range(words.shape[0]):
        z, w = values[i, f], window[j, f]
        table = _address(words) + f * words.shape[1] * 8
        for x in range(0, columns, LANES):
            influence_gradient_block(
                _address(z) + x * 4,
                _address(w) + x * 4,
                table,
                slope[f, 0, 0],
                offset,
                last,
                factor[f, 0, 0],
                _address(trace) + 4 * pitch + x * 4,
                _address(trace) + x * 4,
                pitch,
            )
        z[columns:] = np.float32(0.0)
        w[columns:] = np.float32(0.0)
        if owned:
            scale = factor[f, 0, 0]
            cells = to_table[f]
            outer = np.float32(0.0)
            argument = np.float32(0.0)
            for x in range(x0, x1):
                outer += trace[2, x]
                argument += trace[3, x]
            to_scales[0, f] += outer
            to_scales[1, f] += argument
            for x in range(x0, x1):
                cells[index[x], 0] += scale * trace[0, x]
                cells[index[x], 1] += scale * trace[1, x]


@inner
def _outer(p, p_row, q, q_row, rows, x, columns, offsets, right, filters, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
    """sums[f, t] += sum over ``rows`` rows and ``columns`` columns from x of p[f] q[offset t]."""
    vectors = (columns + LANES - 1) // LANES
    for f in range(0, filters, LEFT):
        for t in range(0, offsets.shape[0], right):
            a = _address(p) + ((p_row * p.shape[1] + f) * p.shape[2] + x) * 4
            b = _address(q) + (q_row * q.shape[1] * q.shape[2] + x) * 4
            at = _address(sums) + (f * sums.shape[1] + t) * 8
            shifts = _address(offsets) + t * 8
            p_step, q_step = p.shape[1] * p.shape[2] * 4, q.shape[1] * q.shape[2] * 4
            if right == _NARROW:
                _dot_narrow(a, p.shape[2] * 4, b, shifts, rows, p_step, q_step, vectors, at, sums.shape[1] * 8)
            else:
                _dot_wide(a, p.shape[2] * 4, b, shifts, rows, p_step, q_step, vectors, at, sums.shape[1] * 8)


@inner
def _backward_part(
    u,
    g,
    part,
    kernels,
    offsets,
    adjoint,
    rows_of,
    words,
    slope,
    offset,
    last,
    factor,
    size,
    right_block,
    group,
    planes,
    pitch,
    to_u,
    to_kernels,
    to_table,
    to_scales,
    work,
):  # type: ignore[no-untyped-def]  # pragma: no cover
    """One part of one picture, (C, H, W); its sums are added to those of its job."""
    _, y0, y1, x0, x1 = part
    channels, height, width = u.shape
    r = size // 2
    tile = _carve(work, 0, group + 2 * r, channels, pitch + 2 * r)
    used = tile.size
    other = _carve(work, used, group + 2 * r, channels, pitch + 2 * r)
    used += other.size
    window = _carve(work, used, group + 2 * r, planes, pitch)
    used += window.size
    values = _carve(work, used, group, planes, pitch)
    used += values.size
    trace = _carve(work, used, 1, TRACES, pitch)[0]
    used += trace.size
    partial = _carve(work, used, 1, adjoint.shape[0] * adjoint.shape[2], pitch + 4 * r)[0]
    used += partial.size
    total = work[used : used + pitch + 4 * r]
    partial[:, : 2 * r] = np.float32(0.0)
    first, end, left, right, start, stop = _extent(y0, y1, x0, x1, height, width, r)
    columns = stop - start
    vectors = (columns + LANES - 1) // LANES
    begin = 0
    ready = 0
    below = first - r
    for y in range(first, end):
        if ready < 2 * r + 1:
            while ready < 2 * r + group and below < end + r:
                rows = min(group, 2 * r + group - ready, end + r - below)
                low, high = min(max(0, -below), rows), max(min(rows, height - below), 0)
                _zero_rows(window, ready, ready + low)
                _zero_rows(window, ready + high, ready + rows)
                if low < high:
                    top = below + low
                    _load_rows(u, tile, top - r, high - low + 2 * r, start - r, columns + 2 * r)
                    _load_rows(g, other, top - r, high - low + 2 * r, start - r, columns + 2 * r)
                    _correlate(tile, 0, high - low, vectors, kernels, offsets, values, 0)
                    _correlate(other, 0, high - low, vectors, kernels, offsets, window, ready + low)
                    for j in range(high - low):
                        owned = y0 <= top + j < y1
                        _influence_gradient(
                            values,
                            j,
                            window,
                            ready + low + j,
                            columns,
                            words,
                            slope,
                            offset,
                            last,
                            factor,
                            trace,
                            owned,
                            x0 - start,
                            x1 - start,
                            to_table,
                            to_scales,
                        )
                    own, past = max(y0, top), min(y1, below + high)
                    if own < past:
                        _outer(
                            values,
                            own - top,
                            other,
                            own - top,
                            past - own,
                            x0 - start,
                            x1 - x0,
                            offsets,
                            right_block,
                            words.shape[0],
                            to_kernels,
                        )
                        _outer(
                            window,
                            ready + own - below,
                            tile,
                            own - top,
                            past - own,
                            x0 - start,
                            x1 - x0,
                            offsets,
                            right_block,
                            words.shape[0],
                            to_kernels,
                        )
                ready += rows
                below += rows
            begin = 0
        _subtract_adjoint(
            window,
            begin,
            adjoint,
            rows_of,
            partial,
            total,
            columns,
            size,
            start,
            u,
            u,
            to_u,
            factor,
            y,
            x0,
            x1,
            left,
            right,
            False,
        )
        begin += 1
        if begin + 2 * r + 1 > ready:
            _keep_rows(window, begin, 2 * r)
            ready = 2 * r


@_compiled
def backward(
    u,
    g,
    parts,
    jobs,
    kernels,
    offsets,
    adjoint,
    rows_of,
    words,
    slopes,
    offset,
    last,
    factors,
    size,
    right_block,
    group,
    planes,
    pitch,
    to_u,
    to_kernels,
    to_table,
    to_scales,
    workspace,
):  # type: ignore[no-untyped-def]  # pragma: no cover
    """What the step's gradient g sends to its arguments; every job takes a run of parts and sums into arrays of its own.

    to_u -= K^T (s'(K u) K g), with s(z) = factor T(slope z + offset); to_kernels[job] (F, taps) and to_table[job]
    (F, L, 2) receive the sums over pixels of s(K u) g + s' (K g) u and of (K g) (1 - t, t) factor; to_scales[job, n]
    (2, F) those of (K g) T and (K g) T' K u.
    """
    for job in prange(jobs.shape[0] - 1):
        for number in range(jobs[job], jobs[job + 1]):
            n = parts[number, 0]
            _backward_part(
                u[n],
                g[n],
                parts[number],
                kernels,
                offsets,
                adjoint,
                rows_of,
                words,
                slopes[n],
                offset,
                last,
                factors[n],
                size,
                right_block,
                group,
                planes,
                pitch,
                to_u[n],
                to_kernels[job],
                to_table[job],
                to_scales[job, n],
                workspace[get_thread_id()],
            )
