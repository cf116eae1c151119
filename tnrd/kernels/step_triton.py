"""The diffusion step on a GPU, forward and backward, in Triton; parity with :mod:`tnrd.kernels.step_torch`.

Forward, s(z) = outer T(inner z), in five kernels, none of which makes the host wait:

    arrange  filters and table as products and look-ups read them
    extend   u with its mirrored margin
    respond  v = s(K u), a product (pixels x taps) (taps x filters) of which the left matrix is never stored
    spread   rows[c, dx](y, x) = sum_f sum_dy q_f[c, dy, dx] v_f(y - dy, x), for y in the extended image
    settle   u - lambda (u - f) - sum_dx rows[c, dx](y', x' - dx), over all extended places (y', x') that mirror onto a
             pixel: the exact adjoint of the extension, however small the image is

K^T of an image with one component has one output, too few for the matrix units. Leaving the last sum, over the columns
of a filter, to ``settle`` makes k outputs of each component; the price is k planes of memory instead of F.

The backward pass recomputes the responses; with g the gradient for the result and everything taken at the input,

    du = g - lambda g - K^T (s'(K u) K g),        dq = -sum_x [ s(K u) g(x + .) + s'(K u) (K g) u(x + .) ].

Where the image has one component and the filters are 3, 5 or 7 pixels wide, the forward pass does ``respond`` and
``spread`` in one kernel, ``diffuse``, and v is never stored: at 48 filters that is most of the memory traffic.

With products of 11 bits and several components, :mod:`tnrd.kernels.step_convolved_triton` does all this by
convolutions.

The matrix units do not take float32. ``diffuse`` splits its numbers into two of float16, brought into their range by
powers of two, and leaves the product of the low ones out; the other kernels do the same with TF32. What is left is the
accuracy of float32 itself (:func:`precision`).

All sums but one have a fixed order. The table's gradient is collected by atomic additions, whose order on a GPU is left
to chance, and its last bits with it. Convolutions have one where torch.backends.cudnn.deterministic asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import triton
from torch import Tensor

from tnrd.kernels import step_convolved_triton
from tnrd.kernels.correlate_triton import settle, spread
from tnrd.kernels.dispatch import allows_tf32
from tnrd.kernels.launch_triton import FUSED, arranged, extended, extended_and_largest, fields, power
from tnrd.kernels.operators import register
from tnrd.kernels.step_kernels_triton import (
    bring_into_range,
    diffuse,
    respond,
    respond_backward,
    sum_products,
)

COLUMNS = 32  # of a tile; 32 floats are a line of the cache
# Rows of a tile, and the most taps, filters and outputs of a product: the fastest of those tried on an H200.
RESPOND, RESPOND_TAPS, RESPOND_FILTERS = 4, 16, 64
BACKWARD_TAPS = 64  # all of a 7 x 7 filter
PRODUCTS, PRODUCTS_TAPS, PRODUCTS_FILTERS = 1, 64, 64
SPREAD, SPREAD_OUTPUTS, SPREAD_FILTERS = 2, 64, 32
BLOCK = 16  # filters of a product where registers are short; 48 is a multiple
CHUNKS = 256  # partial sums of the filters' gradient, a program each
COPIES = 64  # of the table's gradient, so that few programs add to the same one
SLOTS = {3: 4, 5: 8, 7: 8}  # rows of sums in work for filters of a size; with 16 of 16 for 9 x 9 no registers are left
BROAD = 128  # columns of a strip of ``diffuse``
STRIPS = 16, 64  # its least and most rows: k - 1 rows more are computed
PROGRAMS = 1024  # strips that a GPU should be given at least
MOST_PROGRAMS = 65_535  # along the second and third axis of a grid, where images and their components lie
# Outputs of a product at least; Triton before 3.4 knows no products with 8.
LEAST_OUTPUTS = 8 if tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 4) else 16
LEAST = 2.0**-100  # smallest largest magnitude that is brought into the range of float16
LINE = 256  # pixels of a tile of ``settle``, most of them in a row
AHEAD: Any = {"num_warps": 4, "num_stages": 3, **FUSED}  # loads two products ahead
LEAN: Any = {"num_stages": 1, **FUSED}  # no loads ahead, where registers run short

INTERPRETED = not isinstance(respond, triton.JITFunction)  # decided by TRITON_INTERPRET when this module is imported


def precision() -> str:
    """How float32 is multiplied: as three products of halves ("tf32x3"), or as one that keeps 11 bits ("tf32").

    One is taken where torch.set_float32_matmul_precision allows it ("high" or "medium"): twice as fast in training.
    """
    return "tf32" if allows_tf32() else "tf32x3"


def step(u: Tensor, f: Tensor, kernels: Tensor, table: Tensor, origin: float, spacing: float, inner: Tensor,
         outer: Tensor, reaction: Tensor) -> Tensor:  # fmt: skip
    """The step; arguments as in :func:`tnrd.kernels.step_torch.diffusion_step`."""
    n, channels, height, width = u.shape
    filters, _, size, _ = kernels.shape
    at_once = max(1, MOST_PROGRAMS // channels)
    if n > at_once:
        batches = _by_parts(at_once, u, f, inner, outer, reaction)
        return torch.cat([step(u, f, kernels, table, origin, spacing, *scales) for u, f, *scales in batches])
    with torch.cuda.device_of(u):  # type: ignore[no-untyped-call]
        if _convolves(u, filters):
            return step_convolved_triton.step(u, f, kernels, table, origin, spacing, inner, outer, reaction)
        matrix, turned, words, largest = arranged(kernels, table)
        inner, outer = fields((inner, outer), filters, u)
        maps = inner.shape[2:] != (1, 1)
        scales = 1 / spacing, -origin / spacing, filters, table.shape[1], height, width, height * width
        if channels == 1 and size in SLOTS:
            rows = u.new_empty(n, size, height + size - 1, width)
            image, parts_of_image = extended_and_largest(u, size // 2)
            ranges, parts = _into_range(parts_of_image, outer, largest, matrix)
            across = triton.cdiv(width, BROAD)
            strip = max(STRIPS[0], min(STRIPS[1], height * across * n // PROGRAMS))
            diffuse[across, triton.cdiv(height + size - 1, strip), n](
                image, parts, words, inner, outer, rows, ranges, *scales, strip,
                maps, size, SLOTS[size], BLOCK, power(size**2, 16, 64), BROAD,
                2 if precision() == "tf32x3" else 1, num_warps=8, maxnreg=128, **LEAN,
            )  # fmt: skip
            return _settled(rows, size, u, f, reaction)
        v = u.new_empty(n, filters, height, width)
        respond[_tiles(height, width, RESPOND), n](
            extended(u, size // 2), matrix, words, inner, outer, v, *scales, maps, channels,
            size, power(filters, 16, BLOCK if maps else RESPOND_FILTERS), RESPOND_TAPS, RESPOND, COLUMNS, precision(),
            **AHEAD,
        )  # fmt: skip
        return _settled(_spread_rows(v, turned), size, u, f, reaction)


def step_backward(g: Tensor, u: Tensor, f: Tensor, kernels: Tensor, table: Tensor, origin: float, spacing: float,
                  inner: Tensor, outer: Tensor, reaction: Tensor) -> tuple[Tensor, ...]:  # fmt: skip
    """Gradients for u, f, kernels, table, inner, outer and reaction, from the gradient g for the result.

    Scales must not vary from pixel to pixel.
    """
    n, filters, reacting = len(u), len(kernels), g[:, : f.shape[1]]
    at_once = max(1, MOST_PROGRAMS // u.shape[1])
    if n > at_once:
        found = [
            step_backward(g, u, f, kernels, table, origin, spacing, *scales)
            for g, u, f, *scales in _by_parts(at_once, g, u, f, inner, outer, reaction)
        ]
        by_argument: list[tuple[Tensor, ...]] = list(zip(*found, strict=True))
        images, weights, scales = by_argument[:2], by_argument[2:4], by_argument[4:]
        return (
            *map(torch.cat, images),
            *(torch.stack(parts).sum(0) for parts in weights),
            *(torch.cat(p).sum_to_size(of.shape) for p, of in zip(scales, (inner, outer, reaction), strict=True)),
        )
    with torch.cuda.device_of(u):  # type: ignore[no-untyped-call]
        passes = step_convolved_triton.gradients if _convolves(u, filters) else _gradients
        to_u, to_kernels, to_table, parts = passes(
            g, u, f.shape[1], kernels, table, origin, spacing, inner, outer, reaction
        )
    to_inner, to_outer = (parts[:, i].sum(0).view(n, filters, 1, 1) for i in (0, 1))
    return (
        to_u,
        (reaction * reacting).contiguous(),
        to_kernels,
        to_table,
        to_inner.sum_to_size(inner.shape),
        to_outer.sum_to_size(outer.shape),
        (reacting * (f - u[:, : f.shape[1]])).sum((1, 2, 3), keepdim=True).sum_to_size(reaction.shape),
    )


diffusion_step = register("triton", step, step_backward)


def _by_parts(count: int, *tensors: Tensor) -> Iterator[list[Tensor]]:
    """The arguments for so many images at a time."""
    n = len(tensors[0])
    whole = [tensor.expand(n, *tensor.shape[1:]) for tensor in tensors]
    return ([tensor[start : start + count] for tensor in whole] for start in range(0, n, count))


def _convolves(u: Tensor, filters: int) -> bool:
    """Whether the products are convolutions of torch; responses that 31 bits do not count are beyond cuDNN."""
    _, channels, height, width = u.shape
    fits = filters * height * width < 2**31
    return channels >= step_convolved_triton.LEAST_COMPONENTS and fits and allows_tf32() and _convolves_in_tf32()


def _convolves_in_tf32() -> bool:
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:  # somebody set the newer of torch's two settings
        return bool(torch.backends.cudnn.conv.fp32_precision == "tf32")  # type: ignore[attr-defined]


def _gradients(g: Tensor, u: Tensor, observed: int, kernels: Tensor, table: Tensor, origin: float, spacing: float,
               inner: Tensor, outer: Tensor, reaction: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients for u, kernels and table, and parts of those for inner and outer, (tiles, 2, N, F)."""
    n, channels, height, width = u.shape
    filters, _, size, _ = kernels.shape
    plane, samples = height * width, table.shape[1]
    v, h = u.new_empty(2, n, filters, height, width)
    images = extended(u, size // 2), extended(g, size // 2)
    matrix, turned, words, _ = arranged(kernels, table)
    scales = fields((inner, outer), filters, u)
    lines = 1 if filters <= 64 else 4  # of a tile
    block = 16 if filters % 32 and filters % 32 <= 16 else 32
    tiles = _tiles(height, width, lines)
    sums = u.new_empty(tiles, 2, n, filters)
    to_table = u.new_zeros(COPIES, filters, samples)
    respond_backward[tiles, n](
        *images, matrix, words, *scales, v, h, sums, to_table, 1 / spacing, -origin / spacing, filters, samples,
        height, width, plane, channels, size, block, power(channels * size**2, 16, BACKWARD_TAPS), lines, COLUMNS,
        COPIES, precision(), num_warps=4, **LEAN,
    )  # fmt: skip
    chunks = min(CHUNKS, n * _tiles(height, width, PRODUCTS))
    taps, block = power(channels * size**2, 16, PRODUCTS_TAPS), power(filters, 16, PRODUCTS_FILTERS)
    to_kernels = u.new_empty(chunks, *kernels.shape)
    sum_products[chunks, triton.cdiv(channels * size**2, taps), triton.cdiv(filters, block)](
        *images, v, h, to_kernels, n, filters, height, width, plane, channels, size, block, taps, PRODUCTS, COLUMNS,
        precision(), **AHEAD,
    )  # fmt: skip
    to_u = _settled(_spread_rows(h, turned), size, g, None, reaction, observed)
    return to_u, to_kernels.sum(0), to_table.sum(0), sums


def _spread_rows(v: Tensor, turned: Tensor) -> Tensor:
    """K^T v on the extended image, but for the sum over the columns of a filter: (N, C k, H + 2r, W)."""
    n, filters, height, width = v.shape
    size, _, outputs = turned.shape
    tall = height + size - 1
    rows = v.new_empty(n, outputs, tall, width)
    block = power(outputs, LEAST_OUTPUTS, SPREAD_OUTPUTS)
    spread[_tiles(tall, width, SPREAD), triton.cdiv(outputs, block), n](
        v, turned, rows, filters, outputs, height, width, height * width,
        size, power(filters, 16, SPREAD_FILTERS), block, SPREAD, COLUMNS, precision(), **AHEAD,
    )  # fmt: skip
    return rows


def _settled(rows: Tensor, size: int, u: Tensor, f: Tensor | None, reaction: Tensor, observed: int = 0) -> Tensor:
    """u - K^T v - lambda (u - f), the reaction on the components of f; or on the first ones, with f = 0."""
    n, channels, height, width = u.shape
    margin = size // 2
    u = u.contiguous()
    out = torch.empty_like(u)
    (strength,) = fields((reaction,), 1, u)
    columns = power(width, 16, LINE)
    tile = LINE // columns, columns
    settle[triton.cdiv(height, tile[0]) * triton.cdiv(width, columns), n * channels](
        rows, u, u if f is None else f.contiguous(), strength, out, channels, observed if f is None else f.shape[1],
        height, width, height * width, strength.shape[2:] != (1, 1), f is not None, size,
        triton.cdiv(margin, height), triton.cdiv(margin, width), *tile, **FUSED,
    )  # fmt: skip
    return out


def _into_range(image: Tensor, outer: Tensor, largest: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Powers of two (3,) for image, s(K u) and filters, and the filters split, (2, taps, F)."""
    if outer.shape[2:] != (1, 1):
        outer = torch.where(outer.isfinite(), outer.abs(), 0).amax().view(1)
    ranges = matrix.new_empty(3)
    parts = torch.empty(2, *matrix.shape, dtype=torch.float16, device=matrix.device)
    bring_into_range[(1,)](
        image, outer, largest, matrix, ranges, parts, image.numel(), outer.numel(), matrix.shape[1], matrix.numel(),
        LEAST, 1024, num_warps=8, **FUSED,
    )  # fmt: skip
    return ranges, parts


def _tiles(height: int, width: int, rows: int) -> int:
    return int(triton.cdiv(height, rows) * triton.cdiv(width, COLUMNS))
