"""The diffusion step and its gradient on a GPU: the kernels that :mod:`tnrd.kernels.step_triton` launches."""

# Kernels are compiled by Triton, which has no types of its own for their arguments.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from tnrd.kernels.correlate_triton import finite_magnitude, load_window, responses, tile


@triton.jit
def segment(position, words, f, filters, samples):
    """Index, left value, rise and fraction in the table's segment; a NaN is in the first, with a fraction of NaN.

    ``f`` is a row or a column, as the filters lie in ``position``.
    """
    last = (samples - 1) * 1.0
    bounded = tl.where(position > 0, position, 0.0)
    bounded = tl.where(bounded < last, bounded, last)
    index = tl.minimum(bounded.to(tl.int32), samples - 2)
    word = tl.load(words + f * samples + index, mask=f < filters, other=0)
    left = word.to(tl.int32).to(tl.float32, bitcast=True)
    rise = (word >> 32).to(tl.int32).to(tl.float32, bitcast=True)
    fraction = tl.where(position == position, bounded - index.to(tl.float32), position)
    return index, left, rise, fraction


@triton.jit
def load_scale(scale, n, f, pixel, mask, filters, plane, MAPS: tl.constexpr):
    """A scale (N, F, 1, 1), or (N, F, H, W) with MAPS; of ``f`` and ``pixel`` one is a row and one a column."""
    start = scale + n * filters
    if MAPS:
        start += n * filters * (plane - 1)
        factor = tl.load(start + f.to(tl.int64) * plane + pixel, mask=mask, other=0.0)
    else:
        factor = tl.load(start + f, mask=f < filters, other=0.0)
    return factor


@triton.jit
def split(value):
    """The leading 11 bits, which float16 holds, and the next 11; |value| is below 2^15."""
    high = value.to(tl.float16)
    return high, (value - high.to(tl.float32)).to(tl.float16)


@triton.jit
def power_into_range(largest, LEAST: tl.constexpr):
    """The power of two that brings a largest magnitude to 2^13 to 2^14; of one far from the rest, that of 1."""
    usable = (largest > LEAST) & (largest < 1 / LEAST)
    # Biased by 127, of a fraction in [1, 2).
    exponent = tl.where(usable, largest, 1.0).to(tl.int32, bitcast=True) >> 23
    return ((13 + 2 * 127 - exponent) << 23).to(tl.float32, bitcast=True)


@triton.jit
def largest_of(values, count, BLOCK: tl.constexpr):
    most = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, count, BLOCK):
        i = first + tl.arange(0, BLOCK)
        most = tl.maximum(most, finite_magnitude(tl.load(values + i, mask=i < count, other=0.0)))
    return tl.max(most)


@triton.jit
def bring_into_range(
    image, outer, largest, matrix, ranges, parts, blocks, scales, filters, size,
    LEAST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Powers of two that bring image, s(K u) and filters into the range of float16, and the filters split in it.

    One program, from the largest magnitudes of their parts: of the image, of outer, and of filters and table, (2, F).
    """
    of_filters = power_into_range(largest_of(largest, filters, BLOCK), LEAST)
    values = largest_of(outer, scales, BLOCK) * largest_of(largest + filters, filters, BLOCK)
    tl.store(ranges, power_into_range(largest_of(image, blocks, BLOCK), LEAST))
    tl.store(ranges + 1, power_into_range(values, LEAST))
    tl.store(ranges + 2, of_filters)
    for first in range(0, size, BLOCK):
        i = first + tl.arange(0, BLOCK)
        high, low = split(of_filters * tl.load(matrix + i, mask=i < size, other=0.0))
        tl.store(parts + i, high, mask=i < size)
        tl.store(parts + size + i, low, mask=i < size)


@triton.jit
def product(high, low, matrix, place, known, size, total, PARTS: tl.constexpr):
    """total + (high + low) @ part of a matrix, split as well, its low part ``size`` behind; nearly in float32.

    With one of two PARTS the low ones are left out.
    """
    other_high = tl.load(matrix + place, mask=known, other=0.0)
    if PARTS == 2:
        other_low = tl.load(matrix + size + place, mask=known, other=0.0)
        total = tl.dot(low, other_high, total)
        total = tl.dot(high, other_low, total)
    return tl.dot(high, other_high, total)


@triton.jit
def diffuse(
    extended, kernels, words, inner, outer, rows, ranges, rate, shift, filters, samples, height, width, plane, strip,
    MAPS: tl.constexpr, SIZE: tl.constexpr, SLOTS: tl.constexpr, FILTERS: tl.constexpr, TAPS: tl.constexpr,
    COLUMNS: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """``respond`` and ``spread`` in one, row by row of a strip, for one component: v is never stored.

    A row of v has a part in the k rows of sums from its own on. They take turns in SLOTS accumulators, (slot, dx) being
    the columns of one matrix, and what turns with them are the filters: slot - y is dy.

    The products are of halves of float32. ``ranges`` holds a power of two for each of image, v and filters that brings
    it into the range of float16.
    """
    n = tl.program_id(2).to(tl.int64)
    tall = height + SIZE - 1
    x = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    top = tl.program_id(1) * strip
    tap = tl.arange(0, TAPS)
    slot, dx = tl.arange(0, SLOTS * SLOTS) // SLOTS, tl.arange(0, SLOTS * SLOTS) % SLOTS
    size = filters * SIZE * SIZE
    extended += n * tall * (width + SIZE - 1)
    of_image, of_v, of_filters = tl.load(ranges), tl.load(ranges + 1), tl.load(ranges + 2)
    rate /= of_image * of_filters
    total = tl.zeros((COLUMNS, SLOTS * SLOTS), tl.float32)
    for y in range(top - SIZE + 1, tl.minimum(top + strip, tall)):
        inside = x < tl.where((y >= 0) & (y < height), width, 0)
        pixel = (y * width + x)[:, None]
        dy = (slot - y) & (SLOTS - 1)
        # Split here once, and not for every block of filters: instructions count here as much as products.
        high, low = split(of_image * load_window(extended, y, x, inside, tap, height, width, 1, SIZE))
        for first in range(0, filters, FILTERS):
            f = first + tl.arange(0, FILTERS)
            mask = inside[:, None] & (f < filters)[None, :]
            place = tap[:, None] * filters + f[None, :]
            known = (tap < SIZE * SIZE)[:, None] & (f < filters)[None, :]
            z = tl.zeros((COLUMNS, FILTERS), tl.float32)
            z = product(high, low, kernels, place, known, size, z, PARTS)
            position = z * load_scale(inner, n, f[None, :], pixel, mask, filters, plane, MAPS) * rate + shift
            _, left, rise, fraction = segment(position, words, f[None, :], filters, samples)
            value = load_scale(outer, n, f[None, :], pixel, mask, filters, plane, MAPS) * (left + fraction * rise)
            high_value, low_value = split(tl.where(mask, of_v * value, 0.0))
            place = (dy * SIZE + dx)[None, :] * filters + f[:, None]
            known = (f < filters)[:, None] & ((dy < SIZE) & (dx < SIZE))[None, :]
            total = product(high_value, low_value, kernels, place, known, size, total, PARTS)
        done = dy == 0
        mask = (x < tl.where(y >= top, width, 0))[:, None] & (done & (dx < SIZE))[None, :]
        tl.store(
            rows + ((n * SIZE + dx) * tall + y)[None, :] * width + x[:, None], total / (of_v * of_filters), mask=mask
        )
        # The next rows begin at zero; a NaN has left its mark even where the turned filters are zero.
        total = tl.where((done | (dy >= SIZE))[None, :], 0.0, total)


@triton.jit
def respond(
    extended, matrix, words, inner, outer, v, rate, shift, filters, samples, height, width, plane,
    MAPS: tl.constexpr, CHANNELS: tl.constexpr, SIZE: tl.constexpr, FILTERS: tl.constexpr, TAPS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(1).to(tl.int64)
    y, x, inside = tile(height, width, ROWS, COLUMNS, tl.program_id(0))
    pixel = y * width + x
    extended += n * CHANNELS * (height + SIZE - 1) * (width + SIZE - 1)
    v += n * filters * plane
    for first in range(0, filters, FILTERS):
        f = first + tl.arange(0, FILTERS)
        mask = inside[:, None] & (f < filters)[None, :]
        z = responses(
            extended, matrix, y, x, inside, f, filters, height, width, CHANNELS, SIZE, TAPS, ROWS * COLUMNS, FILTERS,
            PRECISION,
        )  # fmt: skip
        position = z * load_scale(inner, n, f[None, :], pixel[:, None], mask, filters, plane, MAPS) * rate + shift
        _, left, rise, fraction = segment(position, words, f[None, :], filters, samples)
        value = load_scale(outer, n, f[None, :], pixel[:, None], mask, filters, plane, MAPS) * (left + fraction * rise)
        tl.store(v + (f.to(tl.int64) * plane)[None, :] + pixel[:, None], value, mask=mask)


@triton.jit
def respond_backward(
    extended, extended_g, matrix, words, inner, outer, v, h, sums, to_table, rate, shift, filters, samples, height,
    width, plane,
    CHANNELS: tl.constexpr, SIZE: tl.constexpr, FILTERS: tl.constexpr, TAPS: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, COPIES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """v = s(z) and h = s'(z) w with z = K u and w = K g; the gradients for the two scales of s and for its table."""
    n = tl.program_id(1).to(tl.int64)
    y, x, inside = tile(height, width, ROWS, COLUMNS, tl.program_id(0))
    pixel = y * width + x
    image = n * CHANNELS * (height + SIZE - 1) * (width + SIZE - 1)
    images = tl.num_programs(1)
    sums += (tl.program_id(0) * 2 * images + n) * filters
    to_table += (tl.program_id(0) + n) % COPIES * filters * samples
    for first in range(0, filters, FILTERS):
        f = first + tl.arange(0, FILTERS)
        mask = inside[:, None] & (f < filters)[None, :]
        z = responses(
            extended + image, matrix, y, x, inside, f, filters, height, width, CHANNELS, SIZE, TAPS, ROWS * COLUMNS,
            FILTERS, PRECISION,
        )  # fmt: skip
        w = responses(
            extended_g + image, matrix, y, x, inside, f, filters, height, width, CHANNELS, SIZE, TAPS, ROWS * COLUMNS,
            FILTERS, PRECISION,
        )  # fmt: skip
        gain = load_scale(inner, n, f[None, :], pixel[:, None], mask, filters, plane, False) * rate
        factor = load_scale(outer, n, f[None, :], pixel[:, None], mask, filters, plane, False)
        position = z * gain + shift
        index, left, rise, fraction = segment(position, words, f[None, :], filters, samples)
        value = left + fraction * rise
        slope = tl.where((position >= 0) & (position <= samples - 1), rise, 0.0)
        place = n * filters * plane + (f.to(tl.int64) * plane)[None, :] + pixel[:, None]
        tl.store(v + place, factor * value, mask=mask)
        tl.store(h + place, factor * slope * gain * w, mask=mask)
        tl.store(sums + f, -tl.sum(tl.where(mask, factor * slope * rate * z * w, 0.0), axis=0), mask=f < filters)
        tl.store(sums + images * filters + f, -tl.sum(tl.where(mask, value * w, 0.0), axis=0), mask=f < filters)
        entry = to_table + (f * samples)[None, :] + index
        tl.atomic_add(entry, factor * w * (fraction - 1), mask=mask, sem="relaxed")
        tl.atomic_add(entry + 1, -factor * w * fraction, mask=mask, sem="relaxed")


@triton.jit
def sum_products(
    extended, extended_g, v, h, sums, images, filters, height, width, plane,
    CHANNELS: tl.constexpr, SIZE: tl.constexpr, FILTERS: tl.constexpr, TAPS: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """-sum_x [v(x) g(x + .) + h(x) u(x + .)] over every so many tiles: parts of the gradient for the filters."""
    tiles = tl.cdiv(height, ROWS) * tl.cdiv(width, COLUMNS)
    tap = tl.program_id(1) * TAPS + tl.arange(0, TAPS)
    f = tl.program_id(2) * FILTERS + tl.arange(0, FILTERS)
    total = tl.zeros((FILTERS, TAPS), tl.float32)
    for index in range(tl.program_id(0), images * tiles, tl.num_programs(0)):
        n = (index // tiles).to(tl.int64)
        y, x, inside = tile(height, width, ROWS, COLUMNS, index % tiles)
        image = n * CHANNELS * (height + SIZE - 1) * (width + SIZE - 1)
        place = n * filters * plane + (f.to(tl.int64) * plane)[:, None] + (y * width + x)[None, :]
        mask = (f < filters)[:, None] & inside[None, :]
        window = load_window(extended_g + image, y, x, inside, tap, height, width, CHANNELS, SIZE)
        total = tl.dot(tl.load(v + place, mask=mask, other=0.0), window, total, input_precision=PRECISION)
        window = load_window(extended + image, y, x, inside, tap, height, width, CHANNELS, SIZE)
        total = tl.dot(tl.load(h + place, mask=mask, other=0.0), window, total, input_precision=PRECISION)
    taps = CHANNELS * SIZE * SIZE
    place = (tl.program_id(0) * filters + f)[:, None] * taps + tap[None, :]
    tl.store(sums + place, -total, mask=(f < filters)[:, None] & (tap < taps)[None, :])
