"""What lies between the convolutions of a diffusion step: the kernels of :mod:`tnrd.kernels.step_convolved_triton`.

Images of the step lie by planes (N, C, H, W), what convolutions take and give by pixels (N, H, W, C): there a pixel's
components are neighbours, and the matrix units are fed without a copy.
"""

# Kernels are compiled by Triton, which has no types of its own for their arguments.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from tnrd.kernels.correlate_triton import mirrored
from tnrd.kernels.step_kernels_triton import load_scale, segment


@triton.jit
def extend_by_pixels(
    image, out, height, width, CHANNELS: tl.constexpr, MARGIN: tl.constexpr, BLOCK: tl.constexpr, PIXELS: tl.constexpr
):
    """The mirrored extension of (N, C, H, W) as (N, H + 2r, W + 2r, C)."""
    wide, pixels = width + 2 * MARGIN, (height + 2 * MARGIN) * (width + 2 * MARGIN)
    n = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    c = tl.arange(0, BLOCK)
    row, column = mirrored(i // wide - MARGIN, height, MARGIN), mirrored(i % wide - MARGIN, width, MARGIN)
    mask = (c < CHANNELS)[:, None] & (i < pixels)[None, :]
    plane = (n * CHANNELS + c) * height * width
    value = tl.load(image + plane[:, None] + (row * width + column)[None, :], mask=mask, other=0.0)
    tl.store(out + ((n * pixels + i) * CHANNELS)[None, :] + c[:, None], value, mask=mask)


@triton.jit
def influence(
    z, words, inner, outer, v, rate, shift, filters, samples, plane,
    MAPS: tl.constexpr, FILTERS: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """v = s(z), both (N, H, W, F)."""
    n = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    for first in range(0, filters, FILTERS):
        f = first + tl.arange(0, FILTERS)
        mask = (f < filters)[:, None] & (pixel < plane)[None, :]
        place = ((n * plane + pixel) * filters)[None, :] + f[:, None]
        gain = load_scale(inner, n, f[:, None], pixel[None, :], mask, filters, plane, MAPS) * rate
        position = tl.load(z + place, mask=mask, other=0.0) * gain + shift
        _, left, rise, fraction = segment(position, words, f[:, None], filters, samples)
        factor = load_scale(outer, n, f[:, None], pixel[None, :], mask, filters, plane, MAPS)
        tl.store(v + place, factor * (left + fraction * rise), mask=mask)


@triton.jit
def influence_backward(
    zw, words, inner, outer, hv, sums, to_table, rate, shift, filters, samples, plane,
    FILTERS: tl.constexpr, PIXELS: tl.constexpr, COPIES: tl.constexpr,
):  # fmt: skip
    """h = s'(z) w and v = s(z), from z = K u and w = K g one behind the other; the gradients for scales and table.

    Those for the table lie by segments, for its left and for its right sample.
    """
    n = tl.program_id(1).to(tl.int64)
    images = tl.num_programs(1)
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    sums += (tl.program_id(0) * 2 * images + n) * filters
    to_table += (tl.program_id(0) + n) % COPIES * filters * samples * 2
    behind = images.to(tl.int64) * plane * filters
    for first in range(0, filters, FILTERS):
        f = first + tl.arange(0, FILTERS)
        known = f < filters
        mask = known[:, None] & (pixel < plane)[None, :]
        place = ((n * plane + pixel) * filters)[None, :] + f[:, None]
        z = tl.load(zw + place, mask=mask, other=0.0)
        w = tl.load(zw + behind + place, mask=mask, other=0.0)
        gain = load_scale(inner, n, f[:, None], pixel[None, :], mask, filters, plane, False) * rate
        factor = load_scale(outer, n, f[:, None], pixel[None, :], mask, filters, plane, False)
        position = z * gain + shift
        index, left, rise, fraction = segment(position, words, f[:, None], filters, samples)
        value = left + fraction * rise
        slope = tl.where((position >= 0) & (position <= samples - 1), rise, 0.0)
        tl.store(hv + place, factor * slope * gain * w, mask=mask)
        tl.store(hv + behind + place, factor * value, mask=mask)
        tl.store(sums + f, -tl.sum(tl.where(mask, factor * slope * rate * z * w, 0.0), axis=1), mask=known)
        tl.store(sums + images * filters + f, -tl.sum(tl.where(mask, value * w, 0.0), axis=1), mask=known)
        # The two samples of a segment as neighbours: one addition of a pair where the GPU has such, half as many.
        entry = to_table + 2 * ((f * samples)[:, None] + index)
        pair = tl.join(factor * w * (fraction - 1), -factor * w * fraction)
        side = tl.arange(0, 2)[None, None, :]  # compared below to give the mask its third axis
        tl.atomic_add(entry[:, :, None] + side, pair, mask=mask[:, :, None] & (side < 2), sem="relaxed")


@triton.jit
def settle_by_pixels(
    extended, u, f, reaction, out, observed, height, width, plane,
    CHANNELS: tl.constexpr, MAP: tl.constexpr, SEEN: tl.constexpr, MARGIN: tl.constexpr, DOWN: tl.constexpr,
    ACROSS: tl.constexpr, BLOCK: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """u - lambda (u - f) minus the sum over all places of (N, H + 2r, W + 2r, C) that mirror onto a pixel.

    DOWN, ACROSS and SEEN as in :func:`tnrd.kernels.correlate_triton.settle`.
    """
    tall, wide = height + 2 * MARGIN, width + 2 * MARGIN
    n = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    c = tl.arange(0, BLOCK)
    y, x = pixel // width, pixel % width
    mask = (c < CHANNELS)[:, None] & (pixel < plane)[None, :]
    force = tl.zeros((BLOCK, PIXELS), tl.float32)
    for j in tl.static_range(-DOWN, DOWN + 1):
        row = j * height + (y if j % 2 == 0 else height - 1 - y) + MARGIN
        for i in tl.static_range(-ACROSS, ACROSS + 1):
            column = i * width + (x if i % 2 == 0 else width - 1 - x) + MARGIN
            known = (row >= 0) & (row < tall) & (column >= 0) & (column < wide)
            place = ((n * tall + row) * wide + column) * CHANNELS
            force += tl.load(extended + place[None, :] + c[:, None], mask=mask & known[None, :], other=0.0)
    place = ((n * CHANNELS + c) * plane)[:, None] + pixel[None, :]
    before = tl.load(u + place, mask=mask, other=0.0)
    seen = mask & (c < observed)[:, None]
    strength = (
        tl.load(reaction + n * plane + pixel, mask=pixel < plane, other=0.0)[None, :] if MAP else tl.load(reaction + n)
    )
    noisy = 0.0
    if SEEN:
        noisy = tl.load(f + ((n * observed + c) * plane)[:, None] + pixel[None, :], mask=seen, other=0.0)
    pull = tl.where(seen, strength * (before - noisy), 0.0)
    tl.store(out + place, before - (force + pull), mask=mask)
