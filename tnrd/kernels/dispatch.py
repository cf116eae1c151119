"""Which engine computes an operation.

``torch`` is the reference and runs anywhere; ``numba`` is compiled for the CPU. ``auto`` takes the fastest engine that
can do the tensor at hand; an engine asked for by name never gives way to another silently.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tnrd.kernels import influence_torch

ENGINES = ("auto", "torch", "numba")


def resolve_engine(engine: str, device: torch.device, dtype: torch.dtype = torch.float32) -> str:
    """The engine that ``engine`` means for a tensor of this device and dtype.

    Args:
        engine: "auto", "torch" or "numba".
        device: Where the tensor lies.
        dtype: Its dtype.

    Returns:
        "torch" or "numba".

    Raises:
        ValueError: The engine is unknown, or was asked for by name and cannot run here.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}.")
    fits = device.type == "cpu" and dtype == torch.float32
    if engine == "numba" and not fits:
        raise ValueError(f"Engine 'numba' computes float32 on the CPU, got {dtype} on {device}; 'torch' can do this.")
    if engine == "auto":
        return "numba" if fits else "torch"
    return engine


def table_influence(
    z: Tensor, table: Tensor, origin: float, spacing: float, inner: Tensor, outer: Tensor, engine: str = "auto"
) -> Tensor:
    """outer * T(inner * z) by the chosen engine; arguments as in :mod:`tnrd.kernels.influence_torch`.

    Factors that vary from pixel to pixel, (N, F, H, W), are applied outside the compiled loop.
    """
    if resolve_engine(engine, z.device, z.dtype) == "torch":
        return influence_torch.table_influence(z, table, origin, spacing, inner, outer)
    from tnrd.kernels import influence_numba

    per_image = (z.shape[0], z.shape[1], 1, 1)
    if inner.shape[2:] == (1, 1) and outer.shape[2:] == (1, 1):
        return influence_numba.table_influence(
            z, table, origin, spacing, inner.expand(per_image), outer.expand(per_image)
        )
    ones = z.new_ones(per_image)
    return outer * influence_numba.table_influence(inner * z, table, origin, spacing, ones, ones)
