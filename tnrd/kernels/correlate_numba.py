"""K and K^T for a band of rows that stays in a core's cache, compiled; parity with :mod:`tnrd.kernels.correlate_torch`.

Both are one register-blocked product (:func:`tnrd.kernels.simd.multiply_block`). K sums shifted rows of the picture
into F rows of responses. K^T sums rows of responses into C k partial rows, one for each column of the kernels, which
are shifted and added at the end; what falls beyond the border is folded back onto the pixels that it mirrors.

These are parts of the compiled functions of :mod:`tnrd.kernels.step_forward_numba` and ``step_backward_numba``; some
are parts of those of ``step_winograd_numba``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from tnrd.kernels.simd import LANES, copy_floats, multiply_block, vectors_beside

# No "nnan" or "ninf": NaN and infinity pass through as they do in the reference.
FAST = {"reassoc", "arcp", "contract", "nsz"}
LINE = 4 * LANES  # bytes of a vector
BLOCKS = range(3, 9)  # outputs of a register block


def sources(*names: str) -> int:
    """A number that stands for the text of these files of this folder, and of those that all compiled functions use.

    Numba knows what it has kept on disk by the file of the function called from outside and by that function's closure:
    this number is put there, so that a change in the files of its parts is not answered with old machine code.
    """
    folder = Path(__file__).parent
    texts = [(folder / name).read_bytes() for name in ("simd.py", "correlate_numba.py", *names)]
    return int.from_bytes(hashlib.sha256(b"".join(texts)).digest()[:7], "big")


SOURCES = sources()

part = njit(nogil=True, fastmath=FAST)


# What users are told while it compiles, by the function.
ANNOUNCED: dict[Callable[..., Any], str] = {}


def compiled(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    """Compile for all cores; kept on disk where a folder for it can be written, once a process where none can.

    Args:
        function: To compile.
        what: Its name in the sentence that users read while it compiles.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": FAST, "parallel": True}
    try:
        result: Callable[..., Any] = njit(cache=True, **options)(function)
    except RuntimeError:
        result = njit(**options)(function)
    ANNOUNCED[result] = what
    return result


class Bank(NamedTuple):
    """Kernels as the loops read them: factors (blocks, taps, outputs of a block), and byte offsets of the taps."""

    forward: Any
    forward_offsets: Any
    adjoint: Any
    adjoint_offsets: Any


class Buffers(NamedTuple):
    """Sizes of the scratch memory: rows advanced at a time, planes of responses, floats of a row of responses."""

    size: int
    group: int
    planes: int
    pitch: int


class Region(NamedTuple):
    """A part of a picture: its rows and columns, and what its sweep covers.

    At a border of the picture, a sweep of K^T goes on for r rows and columns beyond it: ``first`` to ``end``, and
    ``left`` and ``right`` columns. ``start`` is the first of the ``columns`` of responses that this takes.
    """

    y0: int
    y1: int
    x0: int
    x1: int
    first: int
    end: int
    left: int
    right: int
    start: int
    columns: int


@part
def region_of(bounds, height, width, r):
    """The region of a row (image, y0, y1, x0, x1) of a plan."""
    y0, y1, x0, x1 = bounds[1], bounds[2], bounds[3], bounds[4]
    first = y0 - r if y0 == 0 else y0
    end = y1 + r if y1 == height else y1
    left = r if x0 == 0 else 0
    right = r if x1 == width else 0
    start = max(x0 - r, 0)
    return Region(y0, y1, x0, x1, first, end, left, right, start, min(x1 + r, width) - start)


@part
def address(array):
    """Address of the first element; signed, since Numba makes floats of signed and unsigned integers together."""
    return np.int64(array.ctypes.data)


@part
def carve(work, used, a, b, c):
    """An array (a, b, c) from scratch memory, and how much of that is used with it."""
    return work[used : used + a * b * c].reshape(a, b, c), used + a * b * c


@part
def mirror(i, length):
    """Half-sample symmetric, period 2 length."""
    if 0 <= i < length:
        return i
    i = i % (2 * length)
    return i if i < length else 2 * length - 1 - i


@part
def load_rows(picture, tile, first_row, rows, first_column, columns):
    """Copy mirrored rows of a (C, H, W) picture into tile (rows, C, pitch), zero beyond ``columns``."""
    channels, height, width = picture.shape
    inside = max(0, -first_column)
    beyond = min(columns, width - first_column)
    for r in range(rows):
        y = mirror(first_row + r, height)
        for c in range(channels):
            source = address(picture) + c * picture.strides[0] + y * picture.strides[1] + first_column * 4
            target = address(tile) + r * tile.strides[0] + c * tile.strides[1]
            copy_floats(source + inside * 4, target + inside * 4, beyond - inside)
        for x in range(inside):
            mirrored = mirror(first_column + x, width)
            for c in range(channels):
                tile[r, c, x] = picture[c, y, mirrored]
        for x in range(beyond, columns):
            mirrored = mirror(first_column + x, width)
            for c in range(channels):
                tile[r, c, x] = picture[c, y, mirrored]
        for c in range(channels):
            for x in range(columns, tile.shape[2]):
                tile[r, c, x] = np.float32(0.0)


@part
def zero_rows(window, start, stop):
    """Responses outside the picture are zero."""
    for j in range(start, stop):
        window[j, :, :] = np.float32(0.0)


@part
def keep_rows(window, begin, rows):
    """Move the last rows of the window to its start."""
    for j in range(rows):
        source = address(window) + (begin + j) * window.strides[0]
        copy_floats(source, address(window) + j * window.strides[0], window.shape[1] * window.shape[2])


def _multiply_row(outputs: int) -> Callable[..., Any]:
    most = vectors_beside(outputs)
    wide, two, one = (multiply_block(outputs, vectors) for vectors in (most, 2, 1))

    @part
    def row(source, offsets, factors, taps, target, pitch, vectors):
        x = np.int64(0)
        while vectors - x >= most:
            wide(source + x * LINE, offsets, factors, taps, target + x * LINE, pitch)
            x += most
        while vectors - x >= 2:
            two(source + x * LINE, offsets, factors, taps, target + x * LINE, pitch)
            x += 2
        if x < vectors:
            one(source + x * LINE, offsets, factors, taps, target + x * LINE, pitch)

    return row


_row3, _row4, _row5, _row6, _row7, _row8 = (_multiply_row(outputs) for outputs in BLOCKS)


@part
def multiply(factors, b, offsets, source, target, pitch, vectors):
    """Block b of the outputs of one row: ``source`` and ``target`` are addresses, ``pitch`` bytes between outputs."""
    _, taps, outputs = factors.shape
    o, a = address(offsets), address(factors) + b * taps * outputs * 4
    if outputs == 3:
        _row3(source, o, a, taps, target, pitch, vectors)
    elif outputs == 4:
        _row4(source, o, a, taps, target, pitch, vectors)
    elif outputs == 5:
        _row5(source, o, a, taps, target, pitch, vectors)
    elif outputs == 6:
        _row6(source, o, a, taps, target, pitch, vectors)
    elif outputs == 7:
        _row7(source, o, a, taps, target, pitch, vectors)
    else:
        _row8(source, o, a, taps, target, pitch, vectors)


@part
def correlate_rows(tile, rows, columns, bank, b, target, row):
    """target[row + j] = K tile for ``rows`` rows and block b of the filters.

    tile is (rows + 2r, C, pitch), target (rows, planes, pitch). A block at a time, so that what follows finds it in the
    first-level cache.
    """
    pitch = target.shape[2] * 4
    vectors = (columns + LANES - 1) // LANES
    for j in range(rows):
        source = address(tile) + j * tile.shape[1] * tile.shape[2] * 4
        responses = address(target) + ((row + j) * target.shape[1] + b * bank.forward.shape[2]) * pitch
        multiply(bank.forward, b, bank.forward_offsets, source, responses, pitch, vectors)


@part
def subtract_adjoint_row(window, j, bank, partial, total, region, y, size, target):
    """Take row y of K^T from the target (C, H, W), where rows y - r ... y + r of the responses are window[j : j + k].

    ``partial`` takes C k rows of column sums and has 2r zeros on its left, ``total`` one row of the result.
    """
    channels, height, width = target.shape
    r = size // 2
    pitch = partial.shape[1] * 4
    source = address(window) + j * window.shape[1] * window.shape[2] * 4
    vectors = (region.columns + LANES - 1) // LANES
    for b in range(bank.adjoint.shape[0]):
        sums = address(partial) + b * bank.adjoint.shape[2] * pitch + 2 * r * 4
        multiply(bank.adjoint, b, bank.adjoint_offsets, source, sums, pitch, vectors)
    count = region.left + region.x1 - region.x0 + region.right
    for c in range(channels):
        for dx in range(size):
            partial[c * size + dx, 2 * r + region.columns :] = np.float32(0.0)
            shift = region.x0 - region.left - region.start + 3 * r - dx
            column = partial[c * size + dx, shift : shift + count]
            for x in range(count):
                total[x] = column[x] + (total[x] if dx else np.float32(0.0))
        fold_row(total, region, y, height, width, target[c])


@part
def fold_row(total, region, y, height, width, target):
    """Take a row of K^T from the target (H, W), what lies beyond the borders from the pixels that it mirrors."""
    row, own = mirror(y, height), region.x1 - region.x0
    out = target[row, region.x0 : region.x1]
    middle = total[region.left : region.left + own]
    for x in range(own):
        out[x] -= middle[x]
    for x in range(region.left):
        target[row, mirror(x - region.left, width)] -= total[x]
    for x in range(region.right):
        target[row, mirror(width + x, width)] -= total[region.left + own + x]
