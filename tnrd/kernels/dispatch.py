"""Which engine computes the diffusion step.

``torch`` is the reference and runs anywhere; ``numba`` is compiled for the CPU, ``triton`` for an NVIDIA GPU, or run on
the CPU by its interpreter where TRITON_INTERPRET=1 is set before it is first imported. ``auto`` takes numba for float32
on the CPU, triton for float32 on an NVIDIA GPU where the package is installed, and torch elsewhere. An engine asked for
by name never gives way to another silently.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import torch
from torch import Tensor

from tnrd.kernels import step_torch
from tnrd.kernels.transforms import in_transform, is_dual

ENGINES = ("auto", "torch", "numba", "triton")


def resolve_engine(engine: str, device: torch.device, dtype: torch.dtype = torch.float32) -> str:
    """The engine that ``engine`` means for a tensor of this device and dtype.

    Args:
        engine: One of :data:`ENGINES`.
        device: Where the tensor lies.
        dtype: Its dtype.

    Returns:
        "torch", "numba" or "triton".

    Raises:
        ValueError: The engine is unknown, or was asked for by name and cannot run here.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}.")
    if engine == "auto":
        compiled = "triton" if device.type == "cuda" else "numba"
        if compiled == "triton" and os.environ.get("TRITON_INTERPRET") == "1":
            return "torch"  # the interpreter is for checks: it runs on the CPU, thousands of times slower
        return "torch" if _why_not(compiled, device, dtype) else compiled
    reason = _why_not(engine, device, dtype)
    if reason:
        able = [name for name in ENGINES[1:] if not _why_not(name, device, dtype)]
        raise ValueError(f"Engine {engine!r} {reason}; {' or '.join(map(repr, able))} can do this.")
    return engine


def _why_not(engine: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why an engine cannot compute a tensor of this device and dtype, or None if it can."""
    if engine == "numba" and (device.type != "cpu" or dtype != torch.float32):
        return f"computes float32 on the CPU, got {dtype} on {device}"
    if engine == "triton":
        if importlib.util.find_spec("triton") is None:
            return "needs the package triton, which is not installed"
        if dtype != torch.float32:
            return f"computes float32, got {dtype}"
        if device.type == "cuda" and not _multiplies_tf32(device):
            return "needs an NVIDIA GPU of compute capability 8.0 or more"
        if device.type != "cuda" and (device.type != "cpu" or os.environ.get("TRITON_INTERPRET") != "1"):
            return f"computes on a CUDA device, or with TRITON_INTERPRET=1 on the CPU, got {device}"
    return None


def allows_tf32() -> bool:
    """Whether torch may round the factors of float32 products to 11 bits, see torch.set_float32_matmul_precision."""
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # somebody set the newer of torch's two settings
        return bool(torch.backends.cuda.matmul.fp32_precision == "tf32")


def _multiplies_tf32(device: torch.device) -> bool:
    """Whether the matrix units of a GPU take TF32; yes of one that is not there."""
    return not torch.cuda.is_available() or (
        torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)
    )


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
    kept: dict[str, Any] | None = None,
) -> Tensor:
    """The step by the chosen engine; arguments as in :func:`tnrd.kernels.step_torch.diffusion_step`.

    ``kept`` comes with kernels and a table whose values never change: an engine keeps in it what it makes of them.

    Raises:
        ValueError: The engine is unknown or cannot do this, or the shapes do not fit.
    """
    step_torch.check_step(u, f, kernels, table, inner, outer, reaction)
    chosen = resolve_engine(engine, u.device, u.dtype)
    scales = [scale.expand(len(u), -1, -1, -1) for scale in (inner, outer, reaction)]
    lacking = None if chosen == "torch" else _only_by_torch(scales, u, f, kernels, table)
    if lacking:
        if engine != "auto":
            raise ValueError(f"Engine {engine!r} has no {lacking}; 'torch' has.")
        chosen = "torch"
    if chosen == "torch":
        return step_torch.diffusion_step(u, f, kernels, table, origin, spacing, *scales)
    if chosen == "numba":
        from tnrd.kernels.step_numba import diffusion_step as compiled

        return compiled(u, f, kernels, table, origin, spacing, *scales, kept=kept)
    from tnrd.kernels.step_triton import diffusion_step as compiled

    return compiled(u, f, kernels, table, origin, spacing, *scales)


def _only_by_torch(scales: list[Tensor], *others: Tensor) -> str | None:
    """What is wanted of this step that the compiled engines do not have, if anything."""
    if in_transform(others[0]):  # the state: what is batched reaches it
        return "transforms of torch.func"
    if is_dual(*scales, *others):
        return "derivatives in forward mode"
    per_pixel = any(scale.shape[2:] != (1, 1) for scale in scales)
    wanted = per_pixel and torch.is_grad_enabled() and any(t.requires_grad for t in (*scales, *others))
    return "gradients under a noise map" if wanted else None
