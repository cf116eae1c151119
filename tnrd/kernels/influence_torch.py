"""Radial-basis influence functions in plain torch: the reference for every engine.

    psi_i(z) = sum_j w[i, j] phi((z - m_j)/gamma),     phi(t) = exp(-t^2/2),

evaluated exactly, or from a table of samples between which it is linear.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tnrd.kernels.transforms import in_transform, is_dual


def rbf_sum(z: Tensor, weights: Tensor, nodes: Tensor, width: float, derivative: int = 0) -> Tensor:
    """The exact sum for psi (derivative 0), psi' (1) and so on, or the potential rho with rho(0) = 0, rho' = psi (-1).

    The derivatives of a Gaussian are phi^(n)(t) = (-1)^n He_n(t) phi(t), He_n the Hermite polynomials.

    Nodes are visited one by one, so that memory stays at a few times that of ``z``. Not differentiable by autograd;
    see :func:`exact_influence`.

    Args:
        z: (N, F, ...) responses.
        weights: (F, J).
        nodes: (J,) centres m_j in the unit of ``z``.
        width: gamma > 0, in the unit of ``z``.
        derivative: -1 or more.

    Returns:
        The shape of ``z``.
    """
    total = torch.zeros_like(z)
    for j, node in enumerate(nodes.unbind()):
        w = weights[:, j].view(1, -1, *([1] * (z.ndim - 2)))
        if derivative >= 0:
            total = total + w * _gaussian(z, node, width, derivative)
        else:
            scale = width * math.sqrt(math.pi / 2)
            t = (z - node) / width
            total += w * scale * (torch.erf(t / math.sqrt(2)) - torch.erf(-node / width / math.sqrt(2)))
    return total


def _gaussian(z: Tensor, node: Tensor, width: float, derivative: int) -> Tensor:
    """The derivative by z of phi((z - node)/width)."""
    t = (z - node) / width
    before, polynomial = torch.zeros_like(t), torch.ones_like(t)
    for n in range(derivative):
        before, polynomial = polynomial, t * polynomial - n * before
    return polynomial * torch.exp(-0.5 * t * t) / (-width) ** derivative


def exact_influence(z: Tensor, weights: Tensor, nodes: Tensor, width: float) -> Tensor:
    """psi(z) by the exact sum, differentiable in ``z`` and ``weights`` as often as one likes; shapes as in
    :func:`rbf_sum`."""
    if in_transform(z, weights) or is_dual(z, weights):
        return rbf_sum(z, weights, nodes, width)
    psi: Tensor = _ExactInfluence.apply(z, weights, nodes, width, 0)  # type: ignore[no-untyped-call]
    return psi


class _ExactInfluence(torch.autograd.Function):
    """A derivative of psi; its own derivative is the next one."""

    @staticmethod
    def forward(z: Tensor, weights: Tensor, nodes: Tensor, width: float, derivative: int) -> Tensor:
        return rbf_sum(z, weights, nodes, width, derivative)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.width, ctx.derivative = inputs[3:]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        z, weights, nodes = ctx.saved_tensors
        slope = _ExactInfluence.apply(z, weights, nodes, ctx.width, ctx.derivative + 1)  # type: ignore[no-untyped-call]
        axes = (0, *range(2, z.ndim))
        columns = [(gradient * _gaussian(z, node, ctx.width, ctx.derivative)).sum(dim=axes) for node in nodes.unbind()]
        return gradient * slope, torch.stack(columns, dim=1), None, None, None


def table_influence(z: Tensor, table: Tensor, origin: float, spacing: float, inner: Tensor, outer: Tensor) -> Tensor:
    """outer * T(inner * z) with T linear between its samples and constant beyond the first and the last.

    Args:
        z: (N, F, H, W) responses.
        table: (F, L) samples of psi at origin, origin + spacing, ...
        origin: Argument of the first sample.
        spacing: Distance of the samples.
        inner: Factor on the argument, broadcastable to ``z``.
        outer: Factor on the value, broadcastable to ``z``.

    Returns:
        The shape of ``z``; differentiable in z, table, inner and outer. The second derivative of psi, as the table
        has it, is zero.
    """
    filters, samples = table.shape
    position = ((inner * z - origin) / spacing).clamp(0, samples - 1)
    # A NaN has no place in the table: it reads the first sample and stays NaN through its position.
    index = position.detach().nan_to_num(nan=0.0).floor().clamp_max(samples - 2).long()
    row = torch.arange(filters, device=z.device).view(1, -1, 1, 1) * samples
    flat = table.reshape(-1)
    left, right = flat[index + row], flat[index + row + 1]
    return outer * (left + (position - index) * (right - left))
