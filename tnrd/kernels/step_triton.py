"""The diffusion step on a GPU, forward and backward, in Triton; parity with :mod:`tnrd.kernels.step_torch`.

Forward, s(z) = outer T(inner z), in four kernels, none of which makes the host wait:

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

All sums but one have a fixed order. The table's gradient is collected by atomic additions, whose order on a GPU is left
to chance, and its last bits with it.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor
from torch.nn import functional

from tnrd.kernels.correlate_triton import extend, settle, spread
from tnrd.kernels.operators import register
from tnrd.kernels.step_kernels_triton import diffuse, respond, respond_backward, sum_products

ROWS, COLUMNS = 4, 32  # pixels of a tile; 32 floats are a line of the cache
TALL = 8  # rows of a tile of ``spread``, which reads k - 1 rows more than it has
TAPS = 64  # taps of a product: all of a 7 x 7 filter, so that the image is read once for all filters
BLOCK = 16  # filters of a product where registers are short; 48 is a multiple
CHUNKS = 128  # partial sums of the filters' gradient, a program each
COPIES = 64  # of the table's gradient, so that few programs add to the same one
SLOTS = {3: 4, 5: 8, 7: 8}  # rows of sums in work for filters of a size; with 16 of 16 for 9 x 9 no registers are left
BROAD = 128  # columns of a strip of ``diffuse``
STRIPS = 16, 64  # its least and most rows: k - 1 rows more are computed
PROGRAMS = 1024  # strips that a GPU should be given at least
LINE = 256  # pixels of a row that ``settle`` takes at once
# Multiplications and additions in one instruction; named, because Triton warns where it has to choose by itself.
FUSED: Any = {"enable_fp_fusion": True}
# More warps and no loads ahead, where registers run short: with 4 warps or 2 stages these kernels spill them.
LEAN: Any = {"num_warps": 8, "num_stages": 1, **FUSED}

INTERPRETED = not isinstance(respond, triton.JITFunction)  # decided by TRITON_INTERPRET when this module is imported


def step(u: Tensor, f: Tensor, kernels: Tensor, table: Tensor, origin: float, spacing: float, inner: Tensor,
         outer: Tensor, reaction: Tensor) -> Tensor:  # fmt: skip
    """The step; arguments as in :func:`tnrd.kernels.step_torch.diffusion_step`."""
    n, channels, height, width = u.shape
    filters, _, size, _ = kernels.shape
    taps, block = _blocks(kernels)
    with torch.cuda.device_of(u):  # type: ignore[no-untyped-call]
        gain, outer = _fields((inner / spacing, outer), filters, u)
        if channels == 1 and size in SLOTS:
            rows = u.new_empty(n, size, height + size - 1, width)
            across = triton.cdiv(width, BROAD)
            strip = max(STRIPS[0], min(STRIPS[1], height * across * n // PROGRAMS))
            diffuse[across, triton.cdiv(height + size - 1, strip), n](
                _extended(u, size // 2), _parts(kernels), _words(table), gain, outer, rows, -origin / spacing,
                filters, table.shape[1], height, width, height * width, strip, gain.shape[2:] != (1, 1), size,
                SLOTS[size], BLOCK, taps, BROAD, maxnreg=128, **LEAN,
            )  # fmt: skip
            return _settled(rows, size, u, f, reaction)
        v = u.new_empty(n, filters, height, width)
        respond[_tiles(height, width, ROWS), n](
            _extended(u, size // 2), kernels.reshape(filters, -1).t().contiguous(), _words(table), gain, outer, v,
            -origin / spacing, filters, table.shape[1], height, width, height * width, gain.shape[2:] != (1, 1),
            channels, size, block, taps, ROWS, COLUMNS, num_warps=8, num_stages=2, **FUSED,
        )  # fmt: skip
        return _settled(_spread_rows(v, kernels), size, u, f, reaction)


def step_backward(g: Tensor, u: Tensor, f: Tensor, kernels: Tensor, table: Tensor, origin: float, spacing: float,
                  inner: Tensor, outer: Tensor, reaction: Tensor) -> tuple[Tensor, ...]:  # fmt: skip
    """Gradients for u, f, kernels, table, inner, outer and reaction, from the gradient g for the result.

    Scales must not vary from pixel to pixel.
    """
    n, channels, height, width = u.shape
    filters, _, size, _ = kernels.shape
    plane, samples = height * width, table.shape[1]
    with torch.cuda.device_of(u):  # type: ignore[no-untyped-call]
        v, h = u.new_empty(2, n, filters, height, width)
        images = _extended(u, size // 2), _extended(g, size // 2)
        gain, growth = _fields((inner / spacing, outer), filters, u)
        taps, block = _blocks(kernels)
        tiles = _tiles(height, width, ROWS)
        sums = u.new_empty(tiles, n, 2, filters)
        to_table = u.new_zeros(COPIES, filters, samples)
        respond_backward[tiles, n](
            *images, kernels.reshape(filters, -1).t().contiguous(), _words(table), gain, growth, v, h, sums, to_table,
            -origin / spacing, filters, samples, height, width, plane, channels, size, block, taps, ROWS, COLUMNS,
            COPIES, **LEAN,
        )  # fmt: skip
        chunks = min(CHUNKS, n * tiles)
        to_kernels = u.new_empty(chunks, *kernels.shape)
        sum_products[chunks, triton.cdiv(channels * size**2, taps), triton.cdiv(filters, BLOCK)](
            *images, v, h, to_kernels, n, filters, height, width, plane, channels, size, BLOCK, taps, ROWS, COLUMNS,
            **LEAN,
        )  # fmt: skip
        to_u = _settled(_spread_rows(h, kernels), size, g, torch.zeros_like(f), reaction)
    reacting = g[:, : f.shape[1]]
    to_outer, to_gain = (total.view(n, filters, 1, 1) for total in sums.sum(0).unbind(1))
    return (
        to_u,
        reaction * reacting,
        -to_kernels.sum(0),
        -to_table.sum(0),
        (-to_gain * outer / spacing).sum_to_size(inner.shape),
        (-to_outer).sum_to_size(outer.shape),
        -(reacting * (u[:, : f.shape[1]] - f)).sum((1, 2, 3), keepdim=True).sum_to_size(reaction.shape),
    )


diffusion_step = register("triton", step, step_backward)


def _spread_rows(v: Tensor, kernels: Tensor) -> Tensor:
    """K^T v on the extended image, but for the sum over the columns of a filter: (N, C k, H + 2r, W)."""
    n, filters, height, width = v.shape
    _, channels, size, _ = kernels.shape
    outputs, tall = channels * size, height + size - 1
    rows = v.new_empty(n, outputs, tall, width)
    block = _power(outputs, 8, 64)
    spread[_tiles(tall, width, TALL), triton.cdiv(outputs, block), n](
        v, kernels.permute(2, 0, 1, 3).contiguous(), rows, filters, outputs, height, width, height * width,
        size, BLOCK, block, TALL, COLUMNS, num_warps=8, **FUSED,
    )  # fmt: skip
    return rows


def _settled(rows: Tensor, size: int, u: Tensor, f: Tensor, reaction: Tensor) -> Tensor:
    """u - K^T v - lambda (u - f)."""
    n, channels, height, width = u.shape
    margin = size // 2
    out = torch.empty(u.shape, dtype=u.dtype, device=u.device)
    (strength,) = _fields((reaction,), 1, u)
    settle[height * triton.cdiv(width, LINE), n * channels](
        rows, u.contiguous(), f.contiguous(), strength, out, channels, f.shape[1], height, width, height * width,
        strength.shape[2:] != (1, 1), size, triton.cdiv(margin, height), triton.cdiv(margin, width), LINE,
        **FUSED,
    )  # fmt: skip
    return out


def _extended(u: Tensor, margin: int) -> Tensor:
    n, channels, height, width = u.shape
    out = u.new_empty(n, channels, height + 2 * margin, width + 2 * margin)
    pixels = out.shape[2] * out.shape[3]
    extend[triton.cdiv(pixels, 1024), n * channels](u.contiguous(), out, height, width, margin, 1024, **FUSED)
    return out


def _fields(scales: Any, rows: int, u: Tensor) -> list[Tensor]:
    """Scales as (N, rows, 1, 1), or all of them as (N, rows, H, W) if one varies from pixel to pixel."""
    n, _, height, width = u.shape
    size = (1, 1) if all(scale.shape[2:] == (1, 1) for scale in scales) else (height, width)
    return [scale.expand(n, rows, *size).contiguous() for scale in scales]


def _words(table: Tensor) -> Tensor:
    """Every sample with the rise to the next in one word, so that a look-up is one load."""
    rise = functional.pad(table[:, 1:] - table[:, :-1], (0, 1))
    return torch.stack([table, rise], dim=-1).view(torch.int64)


def _parts(kernels: Tensor) -> Tensor:
    """The filters of one component, taps by filters, as high and low part; see :func:`_split`."""
    matrix = kernels.flatten(1).t().contiguous()
    high = (matrix.view(torch.int32) & -8192).view(torch.float32)
    return torch.stack([high, matrix - high])


def _tiles(height: int, width: int, rows: int) -> int:
    return int(triton.cdiv(height, rows) * triton.cdiv(width, COLUMNS))


def _blocks(kernels: Tensor) -> tuple[int, int]:
    """Taps and filters of a product."""
    filters, channels, size, _ = kernels.shape
    return _power(channels * size**2, 16, TAPS), 16 if filters % 32 and filters % 32 <= 16 else 32


def _power(count: int, least: int, most: int) -> int:
    """The smallest power of two that holds ``count``, within bounds that are powers of two themselves."""
    return int(min(most, max(least, triton.next_power_of_2(count))))
