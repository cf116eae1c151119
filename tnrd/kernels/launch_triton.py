"""What the engines on a GPU share: their operands, laid out as kernels read them."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from tnrd.kernels.correlate_triton import arrange, extend

# Multiplications and additions in one instruction; named, because Triton warns where it has to choose by itself.
FUSED: Any = {"enable_fp_fusion": True}
EXTENDED = 1024  # pixels of a block of ``extend``


def extended(u: Tensor, margin: int) -> Tensor:
    """u with its mirrored margin, (N, C, H + 2r, W + 2r)."""
    out, _ = _extended(u, margin, False)
    return out


def extended_and_largest(u: Tensor, margin: int) -> tuple[Tensor, Tensor]:
    """u with its mirrored margin, and the largest finite magnitudes of its parts, (parts,)."""
    return _extended(u, margin, True)


def _extended(u: Tensor, margin: int, measured: bool) -> tuple[Tensor, Tensor]:
    n, channels, height, width = u.shape
    out = u.new_empty(n, channels, height + 2 * margin, width + 2 * margin)
    blocks = triton.cdiv(out.shape[2] * out.shape[3], EXTENDED)
    largest = u.new_empty(n * channels * blocks if measured else 0)
    extend[blocks, n * channels](u.contiguous(), out, largest, height, width, margin, measured, EXTENDED, **FUSED)
    return out, largest


def fields(scales: Any, rows: int, u: Tensor) -> list[Tensor]:
    """Scales as (N, rows, 1, 1), or all of them as (N, rows, H, W) if one varies from pixel to pixel."""
    n, _, height, width = u.shape
    size = (1, 1) if all(scale.shape[2:] == (1, 1) for scale in scales) else (height, width)
    return [scale.expand(n, rows, *size).contiguous() for scale in scales]


def arranged(kernels: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Filters as (taps, F) and as (k, F, C k); each sample with the rise to the next in one word: one load each.

    And the largest finite magnitudes of each filter and of its table, (2, F).
    """
    filters, channels, size, _ = kernels.shape
    matrix = kernels.new_empty(channels * size**2, filters)
    turned = kernels.new_empty(size, filters, channels * size)
    words = table.new_empty(*table.shape, 2)
    largest = table.new_empty(2, filters)
    arrange[(filters,)](
        kernels.contiguous(), table.contiguous(), matrix, turned, words, largest, filters, channels, table.shape[1],
        size, 256, **FUSED,
    )  # fmt: skip
    return matrix, turned, words.view(torch.int64), largest


def power(count: int, least: int, most: int) -> int:
    """The smallest power of two that holds ``count``, within bounds that are powers of two themselves."""
    return int(min(most, max(least, triton.next_power_of_2(count))))
