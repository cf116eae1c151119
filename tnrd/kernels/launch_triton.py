"""What the engines on a GPU share: their operands, laid out as kernels read them."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from tnrd.kernels.correlate_triton import arrange, extend

# Multiplications and additions in one instruction; named, because Triton warns where it has to choose by itself.
FUSED: Any = {"enable_fp_fusion": True}


def extended(u: Tensor, margin: int) -> Tensor:
    """u with its mirrored margin, (N, C, H + 2r, W + 2r)."""
    n, channels, height, width = u.shape
    out = u.new_empty(n, channels, height + 2 * margin, width + 2 * margin)
    pixels = out.shape[2] * out.shape[3]
    extend[triton.cdiv(pixels, 1024), n * channels](u.contiguous(), out, height, width, margin, 1024, **FUSED)
    return out


def fields(scales: Any, rows: int, u: Tensor) -> list[Tensor]:
    """Scales as (N, rows, 1, 1), or all of them as (N, rows, H, W) if one varies from pixel to pixel."""
    n, _, height, width = u.shape
    size = (1, 1) if all(scale.shape[2:] == (1, 1) for scale in scales) else (height, width)
    return [scale.expand(n, rows, *size).contiguous() for scale in scales]


def arranged(kernels: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Filters as (taps, F) and as (k, F, C k), and each sample with the rise to the next in one word: one load each."""
    filters, channels, size, _ = kernels.shape
    matrix = kernels.new_empty(channels * size**2, filters)
    turned = kernels.new_empty(size, filters, channels * size)
    words = table.new_empty(*table.shape, 2)
    arrange[(filters,)](
        kernels.contiguous(), table.contiguous(), matrix, turned, words, filters, channels, table.shape[1], size, 256,
        **FUSED,
    )  # fmt: skip
    return matrix, turned, words.view(torch.int64)


def power(count: int, least: int, most: int) -> int:
    """The smallest power of two that holds ``count``, within bounds that are powers of two themselves."""
    return int(min(most, max(least, triton.next_power_of_2(count))))
