"""The diffusion step in plain torch: the reference for every engine.

    u - K^T s(K u) - lambda (u - f),     s(z) = outer T(inner z),

T the table of the influence functions, linear between its samples and constant beyond the first and the last. Its
second derivative is zero, and so second derivatives of the step lack what that of psi would add; an influence function
by its exact sum (:class:`tnrd.influence.RadialBasisInfluence`) has all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tnrd.kernels.correlate_torch import check_shapes, correlate, correlate_adjoint
from tnrd.kernels.influence_torch import table_influence
from tnrd.kernels.transforms import in_transform, is_dual


def diffusion_force(u: Tensor, kernels: Tensor, influence: Callable[[Tensor], Tensor]) -> Tensor:
    """K^T psi(K u), what a step of diffusion takes away from the image.

    Args:
        u: (N, C, H, W) state; mirrored boundary.
        kernels: (F, C, k, k).
        influence: Maps responses (N, F, H, W) to the same shape. It may look at one response at a time (TNRD) or at
            all of them (the |grad u| of Perona-Malik).

    Returns:
        The shape of ``u``.
    """
    return correlate_adjoint(influence(correlate(u, kernels)), kernels)


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
) -> Tensor:
    """One step; see the module's equation.

    Args:
        u: (N, C, H, W) state, H, W >= 1, the observed components first; mirrored boundary.
        f: (N, O, H, W) noisy image, O <= C: the reaction acts on the first O components.
        kernels: (F, C, k, k), k odd.
        table: (F, L) samples of psi at origin, origin + spacing, ...; L >= 2.
        origin: Argument of the first sample.
        spacing: Distance of the samples, > 0.
        inner: Factor on the argument of psi, (N, F, 1, 1) or (N, F, H, W).
        outer: Factor on its value, the shape of ``inner``.
        reaction: lambda, (N, 1, 1, 1) or (N, 1, H, W).

    Returns:
        The shape of ``u``; in channels-last memory on the CPU, where torch's convolutions of several components are
        faster by half that way.

    Raises:
        ValueError: The shapes of state, image or kernels do not fit.
    """
    if u.device.type == "cpu" and u.shape[1] > 1 and not in_transform(u) and not is_dual(u):  # vmap: no such memory
        u = u.contiguous(memory_format=torch.channels_last)
    force = diffusion_force(u, kernels, lambda z: table_influence(z, table, origin, spacing, inner, outer))
    observed = f.shape[1]
    return u - with_reaction(force, reaction * (u[:, :observed] - f))


def with_reaction(force: Tensor, reaction: Tensor) -> Tensor:
    """A force (N, C, H, W) and, on its first O components, a reaction (N, O, H, W)."""
    observed = reaction.shape[1]
    if in_transform(reaction):  # vmap may have spread the reaction alone over its examples
        return torch.cat([force[:, :observed] + reaction, force[:, observed:]], dim=1)
    together = force.clone(memory_format=torch.preserve_format)
    together[:, :observed] += reaction
    return together


def check_step(
    u: Tensor, f: Tensor, kernels: Tensor, table: Tensor, inner: Tensor, outer: Tensor, reaction: Tensor
) -> None:
    """Raise ValueError unless the arguments of :func:`diffusion_step` fit each other."""
    check_shapes(u, kernels, axis=1)
    for name, tensor in (
        ("f", f),
        ("kernels", kernels),
        ("table", table),
        ("inner", inner),
        ("outer", outer),
        ("reaction", reaction),
    ):
        if tensor.dtype != u.dtype or tensor.device != u.device:
            raise ValueError(
                f"{name} is {tensor.dtype} on {tensor.device}, the state {u.dtype} on {u.device}: all must be alike."
            )
    n, channels, height, width = u.shape
    if f.ndim != 4 or not 0 < f.shape[1] <= channels or (f.shape[0], *f.shape[2:]) != (n, height, width):
        raise ValueError(f"The noisy image {tuple(f.shape)} does not fit the state {tuple(u.shape)}.")
    if table.ndim != 2 or len(table) != len(kernels) or table.shape[1] < 2:
        raise ValueError(
            f"Expected a table of {len(kernels)} functions, two samples or more, got {tuple(table.shape)}."
        )
    for name, scale, rows in (
        ("inner", inner, len(kernels)),
        ("outer", outer, len(kernels)),
        ("reaction", reaction, 1),
    ):
        sizes = ((1, n), (rows,), (1, height), (1, width))
        if scale.ndim != 4 or any(side not in known for side, known in zip(scale.shape, sizes, strict=True)):
            raise ValueError(f"{name} has shape {tuple(scale.shape)}, which does not fit the state {tuple(u.shape)}.")
