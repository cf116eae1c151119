"""K and K^T with a mirrored boundary on a GPU: parts and kernels of :mod:`tnrd.kernels.step_triton`.

``extend`` writes the picture with its margin, ``responses`` is K u for a tile, ``spread`` and ``settle`` are K^T.
"""

# Kernels are compiled by Triton, which has no types of its own for their arguments.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def mirrored(i, length, MARGIN: tl.constexpr):
    """The sample that place i >= -MARGIN of a half-sample symmetric extension repeats."""
    i = (i + 2 * length * MARGIN) % (2 * length)
    return tl.minimum(i, 2 * length - 1 - i)


@triton.jit
def tile(height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr, index):
    """Coordinates of the pixels of a tile, and which of them lie in the image."""
    across = tl.cdiv(width, COLUMNS)
    lane = tl.arange(0, ROWS * COLUMNS)
    y = index // across * ROWS + lane // COLUMNS
    x = index % across * COLUMNS + lane % COLUMNS
    return y, x, (y < height) & (x < width)


@triton.jit
def load_window(extended, y, x, inside, tap, height, width, CHANNELS: tl.constexpr, SIZE: tl.constexpr):
    """(pixels, taps) of an extended image (C, H + 2r, W + 2r); zero beyond the last tap."""
    wide = width + SIZE - 1
    offset = (tap // (SIZE * SIZE)).to(tl.int64) * (height + SIZE - 1) * wide + tap // SIZE % SIZE * wide + tap % SIZE
    mask = inside[:, None] & (tap < CHANNELS * SIZE * SIZE)[None, :]
    return tl.load(extended + (y * wide + x)[:, None] + offset[None, :], mask=mask, other=0.0)


@triton.jit
def load_matrix(matrix, row, column, rows, columns):
    """Part of a (rows, columns) matrix, zero beyond its end."""
    mask = (row < rows)[:, None] & (column < columns)[None, :]
    return tl.load(matrix + row[:, None] * columns + column[None, :], mask=mask, other=0.0)


@triton.jit
def responses(
    extended, matrix, y, x, inside, f, filters, height, width,
    CHANNELS: tl.constexpr, SIZE: tl.constexpr, TAPS: tl.constexpr, PIXELS: tl.constexpr, FILTERS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """(pixels, filters) of K u."""
    z = tl.zeros((PIXELS, FILTERS), tl.float32)
    for first in range(0, CHANNELS * SIZE * SIZE, TAPS):
        tap = first + tl.arange(0, TAPS)
        window = load_window(extended, y, x, inside, tap, height, width, CHANNELS, SIZE)
        weights = load_matrix(matrix, tap, f, CHANNELS * SIZE * SIZE, filters)
        z = tl.dot(window, weights, z, input_precision=PRECISION)
    return z


@triton.jit
def finite_magnitude(value):
    """|value|, and 0 for what is not finite."""
    magnitude = tl.abs(value)
    return tl.where(magnitude < float("inf"), magnitude, 0.0)


@triton.jit
def extend(image, out, largest, height, width, MARGIN: tl.constexpr, LARGEST: tl.constexpr, BLOCK: tl.constexpr):
    """With LARGEST, the largest finite magnitude of each block, too."""
    wide, pixels = width + 2 * MARGIN, (height + 2 * MARGIN) * (width + 2 * MARGIN)
    plane = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    row = mirrored(i // wide - MARGIN, height, MARGIN)
    column = mirrored(i % wide - MARGIN, width, MARGIN)
    value = tl.load(image + plane * height * width + row * width + column, mask=i < pixels, other=0.0)
    tl.store(out + plane * pixels + i, value, mask=i < pixels)
    if LARGEST:
        tl.store(largest + plane * tl.num_programs(0) + tl.program_id(0), tl.max(finite_magnitude(value)))


@triton.jit
def arrange(
    kernels, table, matrix, turned, words, largest, filters, channels, samples,
    SIZE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """What products and look-ups read: filters as (taps, F) and (dy, F, C dx); samples with the rise to the next.

    And the largest finite magnitudes of each kernel and of its samples, (2, F).
    """
    f, taps = tl.program_id(0), channels * SIZE * SIZE
    most = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, taps, BLOCK):
        tap = first + tl.arange(0, BLOCK)
        value = tl.load(kernels + f * taps + tap, mask=tap < taps, other=0.0)
        most = tl.maximum(most, finite_magnitude(value))
        tl.store(matrix + tap * filters + f, value, mask=tap < taps)
        c, dy, dx = tap // (SIZE * SIZE), tap // SIZE % SIZE, tap % SIZE
        tl.store(turned + ((dy * filters + f) * channels + c) * SIZE + dx, value, mask=tap < taps)
    tl.store(largest + f, tl.max(most))
    table += f * samples
    words += f * samples * 2
    most = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, samples, BLOCK):
        i = first + tl.arange(0, BLOCK)
        left = tl.load(table + i, mask=i < samples, other=0.0)
        right = tl.load(table + tl.minimum(i + 1, samples - 1), mask=i < samples, other=0.0)
        most = tl.maximum(most, finite_magnitude(left))
        tl.store(words + 2 * i, left, mask=i < samples)
        tl.store(words + 2 * i + 1, right - left, mask=i < samples)
    tl.store(largest + filters + f, tl.max(most))


@triton.jit
def spread(
    v, matrix, rows, filters, outputs, height, width, plane,
    SIZE: tl.constexpr, FILTERS: tl.constexpr, OUTPUTS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    tall = height + SIZE - 1
    n = tl.program_id(2).to(tl.int64)
    y, x, inside = tile(tall, width, ROWS, COLUMNS, tl.program_id(0))
    output = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    total = tl.zeros((ROWS * COLUMNS, OUTPUTS), tl.float32)
    for first in range(0, filters, FILTERS):
        f = first + tl.arange(0, FILTERS)
        source = v + n * filters * plane + (f.to(tl.int64) * plane)[None, :]
        for dy in range(SIZE):
            row = y - dy
            mask = (inside & (row >= 0) & (row < height))[:, None] & (f < filters)[None, :]
            values = tl.load(source + (row * width + x)[:, None], mask=mask, other=0.0)
            weights = load_matrix(matrix + dy * filters * outputs, f, output, filters, outputs)
            total = tl.dot(values, weights, total, input_precision=PRECISION)
    place = (n * outputs + output)[None, :] * tall * width + (y * width + x)[:, None]
    tl.store(rows + place, total, mask=inside[:, None] & (output < outputs)[None, :])


@triton.jit
def settle(
    rows, u, f, reaction, out, channels, observed, height, width, plane,
    MAP: tl.constexpr, SEEN: tl.constexpr, SIZE: tl.constexpr, DOWN: tl.constexpr, ACROSS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """DOWN and ACROSS: how many times the margin wraps around the image. Not SEEN: f is zero, and not read."""
    blocks = tl.cdiv(width, COLUMNS)
    top, left = tl.program_id(0) // blocks * ROWS, tl.program_id(0) % blocks * COLUMNS
    bottom, right = tl.minimum(top + ROWS, height) - 1, tl.minimum(left + COLUMNS, width) - 1
    y, x = top + tl.arange(0, ROWS)[:, None], left + tl.arange(0, COLUMNS)[None, :]
    inside = (y < height) & (x < width)
    c = tl.program_id(1) % channels
    n = (tl.program_id(1) // channels).to(tl.int64)
    tall = height + SIZE - 1
    rows += (n * channels + c) * SIZE * tall * width
    force = tl.zeros((ROWS, COLUMNS), tl.float32)
    for j in tl.static_range(-DOWN, DOWN + 1):
        row = j * height + (y if j % 2 == 0 else height - 1 - y) + SIZE // 2
        least = j * height + (top if j % 2 == 0 else height - 1 - bottom) + SIZE // 2
        if (least + bottom - top >= 0) & (least < tall):
            for i in tl.static_range(-ACROSS, ACROSS + 1):
                column = i * width + (x if i % 2 == 0 else width - 1 - x) + SIZE // 2
                least = i * width + (left if i % 2 == 0 else width - 1 - right) + SIZE // 2
                if (least + right - left >= 0) & (least < width + SIZE - 1):
                    for dx in tl.static_range(SIZE):
                        known = inside & (row >= 0) & (row < tall) & (column >= dx) & (column < width + dx)
                        place = (dx * tall + row).to(tl.int64) * width + column - dx
                        force += tl.load(rows + place, mask=known, other=0.0)
    pixel = y * width + x
    before = tl.load(u + (n * channels + c) * plane + pixel, mask=inside, other=0.0)
    seen = inside & (x < tl.where(c < observed, width, 0))
    strength = tl.load(reaction + n * plane + pixel, mask=seen, other=0.0) if MAP else tl.load(reaction + n)
    noisy = tl.load(f + (n * observed + c) * plane + pixel, mask=seen, other=0.0) if SEEN else 0.0
    pull = tl.where(seen, strength * (before - noisy), 0.0)
    tl.store(out + (n * channels + c) * plane + pixel, before - (force + pull), mask=inside)
