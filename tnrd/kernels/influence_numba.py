"""Table look-up of influence functions on the CPU, compiled by Numba; parity with :mod:`tnrd.kernels.influence_torch`.

Works on channels-last memory, where neighbouring lanes read the tables of neighbouring filters and a pixel's F
responses are one contiguous run. Tables are stored sample-major, (L, F), so that lanes of one run lie close together.
The backward pass returns the gradients for the responses, the table and both factors in one sweep.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

# Of Numba's thread pools, the one that is always there ends the process when two threads of Python enter it at once.
POOL = threading.Lock()
CHUNKS = 16  # fixed, so that sums over chunks do not depend on the number of threads


# No "nnan" or "ninf": they would let the compiler drop the clamp that keeps the index of a NaN inside the table.
FAST = {"reassoc", "arcp", "contract", "nsz"}


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile for all cores; kept on disk where a folder for it can be written, once a process where none can."""
    try:
        cached: Callable[..., None] = njit(parallel=True, fastmath=FAST, cache=True)(function)
    except RuntimeError:
        uncached: Callable[..., None] = njit(parallel=True, fastmath=FAST)(function)
        return uncached
    return cached


def table_influence(z: Tensor, table: Tensor, origin: float, spacing: float, inner: Tensor, outer: Tensor) -> Tensor:
    """outer * T(inner * z), T linear between its samples and constant beyond them.

    Args:
        z: (N, F, H, W) float32 on the CPU.
        table: (F, L) samples of psi at origin, origin + spacing, ...
        origin: Argument of the first sample.
        spacing: Distance of the samples.
        inner: (N, F, 1, 1) factor on the argument.
        outer: (N, F, 1, 1) factor on the value.

    Returns:
        The shape of ``z`` in channels-last memory; differentiable in z, table, inner and outer.
    """
    psi: Tensor = _TableInfluence.apply(z, table, origin, spacing, inner, outer)  # type: ignore[no-untyped-call]
    return psi


class _TableInfluence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z: Tensor, table: Tensor, origin: float, spacing: float, inner: Tensor, outer: Tensor
    ) -> Tensor:
        n, filters, height, width = z.shape
        rows = _rows(z)
        samples = table.t().contiguous()
        slope = (inner.reshape(n, filters) / spacing).contiguous()
        factor = outer.reshape(n, filters).contiguous()
        out = torch.empty_like(rows)
        _run(_forward, rows, samples, -origin / spacing, slope, factor, out)
        ctx.save_for_backward(rows, samples, slope, factor)
        ctx.offset = -origin / spacing
        ctx.spacing = spacing
        return out.view(n, height, width, filters).permute(0, 3, 1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, Tensor, Tensor]:
        rows, samples, slope, factor = ctx.saved_tensors
        n, _, filters = rows.shape
        height, width = gradient.shape[2:]
        to_z = torch.empty_like(rows)
        chunks = max(1, CHUNKS // n)
        to_table = rows.new_zeros(n, chunks, *samples.shape)
        to_factors = rows.new_zeros(n, chunks, 2, filters)
        incoming = _rows(gradient)
        _run(_backward, rows, incoming, samples, ctx.offset, slope, factor, to_z, to_table, to_factors)
        to_inner, to_outer = (to_factors.sum(1)[:, i].view(n, filters, 1, 1) for i in (0, 1))
        back = to_z.view(n, height, width, filters).permute(0, 3, 1, 2)
        return back, to_table.sum((0, 1)).t(), None, None, to_inner / ctx.spacing, to_outer


def _run(kernel: Callable[..., None], *arguments: Tensor | float) -> None:
    """Call compiled code on as many threads as torch uses, one caller at a time."""
    arrays = [a.numpy() if isinstance(a, Tensor) else np.float32(a) for a in arguments]
    with POOL:
        numba.set_num_threads(min(torch.get_num_threads(), int(numba.config.NUMBA_NUM_THREADS)))  # type: ignore[attr-defined]
        kernel(*arrays)


def _rows(z: Tensor) -> Tensor:
    """(N, F, H, W) as contiguous (N, H*W, F)."""
    return z.detach().permute(0, 2, 3, 1).contiguous().view(z.shape[0], -1, z.shape[1])


@_compiled
def _forward(z, table, offset, slope, factor, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    images, pixels, filters = z.shape
    last = np.float32(table.shape[0] - 1)
    top = np.int32(table.shape[0] - 2)
    flat = table.reshape(-1)
    for row in prange(images * pixels):
        n = row // pixels
        p = row - n * pixels
        for f in range(filters):
            position = min(max(z[n, p, f] * slope[n, f] + offset, np.float32(0.0)), last)
            i = max(min(np.int32(position), top), np.int32(0))
            t = position - np.float32(i)
            base = i * np.int32(filters) + np.int32(f)
            left = flat[base]
            right = flat[base + np.int32(filters)]
            out[n, p, f] = factor[n, f] * (left + t * (right - left))


@_compiled
def _backward(z, gradient, table, offset, slope, factor, to_z, to_table, to_factors):  # type: ignore[no-untyped-def]  # pragma: no cover
    images, pixels, filters = z.shape
    chunks = to_table.shape[1]
    last = np.float32(table.shape[0] - 1)
    top = np.int32(table.shape[0] - 2)
    for job in prange(images * chunks):
        n = job // chunks
        chunk = job - n * chunks
        grad_table = to_table[n, chunk]
        grad_factors = to_factors[n, chunk]
        for p in range(pixels * chunk // chunks, pixels * (chunk + 1) // chunks):
            for f in range(filters):
                raw = z[n, p, f] * slope[n, f] + offset
                position = min(max(raw, np.float32(0.0)), last)
                i = max(min(np.int32(position), top), np.int32(0))
                t = position - np.float32(i)
                left = table[i, f]
                rise = table[i + 1, f] - left
                g = gradient[n, p, f]
                scaled = g * factor[n, f]
                grad_table[i, f] += scaled * (np.float32(1.0) - t)
                grad_table[i + 1, f] += scaled * t
                grad_factors[1, f] += g * (left + t * rise)
                inside = scaled * rise if position == raw else np.float32(0.0)
                to_z[n, p, f] = inside * slope[n, f]
                grad_factors[0, f] += inside * z[n, p, f]
