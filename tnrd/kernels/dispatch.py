"""Which engine computes the diffusion step.

``torch`` is the reference and runs anywhere; ``numba`` is compiled for the CPU. ``auto`` takes the fastest engine that
can do the tensor at hand; an engine asked for by name never gives way to another silently.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tnrd.kernels import step_torch

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


def diffusion_step(
    u: Tensor,
    f: Tensor,
    kernels: Tensor,
    table: Tensor,
    origin: float,
    spacing: float,
    inner: Tensor,
    outer: Tensor,
    reaction: Tensor,
    engine: str = "auto",
) -> Tensor:
    """The step by the chosen engine; arguments as in :func:`tnrd.kernels.step_torch.diffusion_step`.

    Raises:
        ValueError: The engine is unknown or cannot do this, or the shapes do not fit.
    """
    step_torch.check_step(u, f, kernels, table, inner, outer, reaction)
    chosen = resolve_engine(engine, u.device, u.dtype)
    scales = [scale.expand(len(u), -1, -1, -1) for scale in (inner, outer, reaction)]
    if chosen != "torch" and _wants_gradient_of_a_map(scales, u, f, kernels, table):
        if engine != "auto":
            raise ValueError(f"Engine {engine!r} has no gradients under a noise map; 'torch' has.")
        chosen = "torch"
    if chosen == "torch":
        return step_torch.diffusion_step(u, f, kernels, table, origin, spacing, *scales)
    from tnrd.kernels.step_numba import diffusion_step as compiled

    return compiled(u, f, kernels, table, origin, spacing, *scales)


def _wants_gradient_of_a_map(scales: list[Tensor], *others: Tensor) -> bool:
    per_pixel = any(scale.shape[2:] != (1, 1) for scale in scales)
    return per_pixel and torch.is_grad_enabled() and any(t.requires_grad for t in (*scales, *others))
