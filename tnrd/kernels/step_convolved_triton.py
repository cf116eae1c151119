"""The diffusion step on a GPU with products of 11 bits: convolutions by cuDNN, all between them by Triton.

Where torch.set_float32_matmul_precision allows products of TF32 and the state has several components, K u, K^T v and
the gradient for the filters are torch's convolutions: cuDNN's are as good as a matrix product on shapes like these, and
with the components of a pixel side by side they need no copies. torch.backends.cudnn.allow_tf32, which torch sets by
default, has its say too. What is left is pointwise, in a kernel each:

    extend_by_pixels  u with its mirrored margin
    influence         v = s(K u)
    settle_by_pixels  u - lambda (u - f) - E^T K^T v, E the extension

The gradients are those of :mod:`tnrd.kernels.step_triton`; K u and K g are one convolution of 2 N images, and so are
the two sums for the filters.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor
from torch.nn import functional

from tnrd.kernels.convolved_kernels_triton import extend_by_pixels, influence, influence_backward, settle_by_pixels
from tnrd.kernels.launch_triton import FUSED, arranged, fields, power

BY_PIXELS = torch.channels_last
LEAST_COMPONENTS = 4  # of fewer, a line of the cache holds too little of a pixel
FILTERS, PIXELS = 32, 64  # of a tile of the look-ups
BACKWARD = 16  # pixels of it in the backward pass, where registers run short
MOVED = 64  # pixels of a tile that moves components
COPIES = 4  # of the table's gradient, so that few programs add to the same one


def step(u: Tensor, f: Tensor, kernels: Tensor, table: Tensor, origin: float, spacing: float, inner: Tensor,
         outer: Tensor, reaction: Tensor) -> Tensor:  # fmt: skip
    """The step; arguments as in :func:`tnrd.kernels.step_torch.diffusion_step`."""
    n, channels, height, width = u.shape
    filters, _, size, _ = kernels.shape
    _, _, words, _ = arranged(kernels, table)
    kernels = kernels.contiguous(memory_format=BY_PIXELS)
    inner, outer = fields((inner, outer), filters, u)
    extended = _by_pixels(n, channels, height + size - 1, width + size - 1, u)
    _extend(u, extended, size // 2)
    with _no_autocast(u):
        z = functional.conv2d(extended, kernels).contiguous(memory_format=BY_PIXELS)
    influence[triton.cdiv(height * width, PIXELS), n](
        z, words, inner, outer, z, 1 / spacing, -origin / spacing, filters, table.shape[1], height * width,
        inner.shape[2:] != (1, 1), FILTERS, PIXELS, **FUSED,
    )  # fmt: skip
    with _no_autocast(u):
        adjoint = functional.conv_transpose2d(z, kernels)
    return _settled(adjoint, size, u, f, reaction)


def gradients(g: Tensor, u: Tensor, observed: int, kernels: Tensor, table: Tensor, origin: float, spacing: float,
              inner: Tensor, outer: Tensor, reaction: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients for u, kernels and table, and parts of those for inner and outer, (tiles, 2, N, F).

    g is the gradient for the result; the reaction acts on the first ``observed`` components. Scales must not vary from
    pixel to pixel.
    """
    n, channels, height, width = u.shape
    filters, _, size, _ = kernels.shape
    _, _, words, _ = arranged(kernels, table)
    kernels = kernels.contiguous(memory_format=BY_PIXELS)
    inner, outer = fields((inner, outer), filters, u)
    extended = _by_pixels(2 * n, channels, height + size - 1, width + size - 1, u)
    _extend(u, extended[:n], size // 2)
    _extend(g, extended[n:], size // 2)
    with _no_autocast(u):
        zw = functional.conv2d(extended, kernels).contiguous(memory_format=BY_PIXELS)
    tiles = triton.cdiv(height * width, BACKWARD)
    sums = u.new_empty(tiles, 2, n, filters)
    to_segments = u.new_zeros(COPIES, filters, table.shape[1], 2)
    influence_backward[tiles, n](
        zw, words, inner, outer, zw, sums, to_segments, 1 / spacing, -origin / spacing, filters, table.shape[1],
        height * width, FILTERS, BACKWARD, COPIES, num_warps=2, **FUSED,
    )  # fmt: skip
    left, right = to_segments.sum(0).unbind(2)
    to_table = left + functional.pad(right[:, :-1], (1, 0))
    with _no_autocast(u):
        to_kernels = _summed_products(extended, zw, kernels)
        adjoint = functional.conv_transpose2d(zw[:n], kernels)
    to_u = _settled(adjoint, size, g, None, reaction, observed)
    return to_u, to_kernels, to_table, sums


def _no_autocast(u: Tensor) -> torch.autocast:
    """The model's own autocast is off, but not that of whoever calls backward."""
    return torch.autocast(u.device.type, enabled=False)


def _by_pixels(n: int, channels: int, height: int, width: int, like: Tensor) -> Tensor:
    return torch.empty(n, channels, height, width, dtype=like.dtype, device=like.device, memory_format=BY_PIXELS)


def _extend(u: Tensor, out: Tensor, margin: int) -> None:
    n, channels, height, width = u.shape
    pixels = out.shape[2] * out.shape[3]
    extend_by_pixels[triton.cdiv(pixels, MOVED), n](
        u.contiguous(), out, height, width, channels, margin, power(channels, 4, 1 << 16), MOVED, **FUSED
    )


def _summed_products(extended: Tensor, hv: Tensor, kernels: Tensor) -> Tensor:
    """-sum_x [h(x) u(x + .) + v(x) g(x + .)], (F, C, k, k)."""
    one, none = [1, 1], [0, 0]
    _, found, _ = torch.ops.aten.convolution_backward(
        hv, extended, kernels, None, one, none, one, False, none, 1, [False, True, False]
    )
    return torch.neg(found).contiguous()


def _settled(extended: Tensor, size: int, u: Tensor, f: Tensor | None, reaction: Tensor, observed: int = 0) -> Tensor:
    """u - E^T K^T v - lambda (u - f), the reaction on the components of f; or on the first ones, with f = 0."""
    n, channels, height, width = u.shape
    margin = size // 2
    u = u.contiguous()
    out = torch.empty_like(u)
    (strength,) = fields((reaction,), 1, u)
    settle_by_pixels[triton.cdiv(height * width, MOVED), n](
        extended.contiguous(memory_format=BY_PIXELS), u, u if f is None else f.contiguous(), strength, out,
        observed if f is None else f.shape[1], height, width, height * width,
        channels, strength.shape[2:] != (1, 1), f is not None, margin, triton.cdiv(margin, height),
        triton.cdiv(margin, width), power(channels, 4, 1 << 16), MOVED, **FUSED,
    )  # fmt: skip
    return out
