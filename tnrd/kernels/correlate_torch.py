"""Correlation with a mirrored boundary, and its exact adjoint.

    (K u)_i(x) = sum_c sum_y q_i[c, y] u_c(x + y - r),      u extended half-sample symmetrically: u(-1) = u(0),

r = (k - 1)/2, and K^T such that <K u, v> = <u, K^T v> for every u and v, borders included: K^T is the transposed
correlation onto the extended image followed by the transposed extension, which folds the margin back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tnrd.kernels.transforms import in_transform, is_dual


def correlate(u: Tensor, kernels: Tensor) -> Tensor:
    """K u: correlate an image with a bank of kernels, mirrored at the boundary.

    Args:
        u: (N, C, H, W), any H, W >= 1.
        kernels: (F, C, k, k), k odd.

    Returns:
        (N, F, H, W) responses.

    Raises:
        ValueError: The shapes do not fit.
    """
    check_shapes(u, kernels, axis=1)
    return functional.conv2d(pad_mirrored(u, kernels.shape[-1] // 2), kernels)


def correlate_adjoint(v: Tensor, kernels: Tensor) -> Tensor:
    """K^T v, the exact adjoint of :func:`correlate`.

    Args:
        v: (N, F, H, W).
        kernels: (F, C, k, k), k odd.

    Returns:
        (N, C, H, W).

    Raises:
        ValueError: The shapes do not fit.
    """
    check_shapes(v, kernels, axis=0)
    return fold_mirrored(functional.conv_transpose2d(v, kernels), kernels.shape[-1] // 2)


def pad_mirrored(u: Tensor, margin: int) -> Tensor:
    """Extend the last two axes by ``margin``, half-sample symmetric (period 2H), however small the image is."""
    if margin == 0:
        return u
    if in_transform(u) or is_dual(u):  # by operations that torch differentiates in every mode
        for axis in (3, 2):
            u = u.index_select(axis, _mirrored(u.shape[axis], margin, u.device))
        return u
    padded: Tensor = _PadMirrored.apply(u, margin)  # type: ignore[no-untyped-call]
    return padded


def fold_mirrored(v: Tensor, margin: int) -> Tensor:
    """Transpose of :func:`pad_mirrored`: add the margin back onto the samples that it mirrors."""
    if margin == 0:
        return v
    if in_transform(v) or is_dual(v):
        return _fold(_fold(v, margin, 2), margin, 3)
    folded: Tensor = _FoldMirrored.apply(v, margin)  # type: ignore[no-untyped-call]
    return folded


class _PadMirrored(torch.autograd.Function):
    @staticmethod
    def forward(u: Tensor, margin: int) -> Tensor:
        return _extend(u, margin)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.margin = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return fold_mirrored(gradient, ctx.margin), None


class _FoldMirrored(torch.autograd.Function):
    @staticmethod
    def forward(v: Tensor, margin: int) -> Tensor:
        return _fold(_fold(v, margin, 2), margin, 3)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.margin = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return pad_mirrored(gradient, ctx.margin), None


def _margins(length: int, margin: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Samples that the left and right margins repeat; computed on the device, so that no step waits for the host."""
    steps = torch.arange(margin, device=device)
    left, right = (i % (2 * length) for i in (steps - margin, length + steps))
    return torch.minimum(left, 2 * length - 1 - left), torch.minimum(right, 2 * length - 1 - right)


def _mirrored(length: int, margin: int, device: torch.device) -> Tensor:
    """Samples that an extended axis holds."""
    left, right = _margins(length, margin, device)
    return torch.cat([left, torch.arange(length, device=device), right])


def _extend(u: Tensor, margin: int) -> Tensor:
    """Both axes at once, in the memory format of ``u``: columns of the middle rows first, then whole rows."""
    n, c, height, width = u.shape
    channels_last = u.is_contiguous(memory_format=torch.channels_last)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    shape = (n, c, height + 2 * margin, width + 2 * margin)
    out = torch.empty(shape, dtype=u.dtype, device=u.device, memory_format=memory_format)
    middle = out.narrow(2, margin, height)
    middle.narrow(3, margin, width).copy_(u)
    for axis, source, target in ((3, u, middle), (2, middle, out)):
        length = source.shape[axis]
        for start, side in zip((0, margin + length), _margins(length, margin, u.device), strict=True):
            target.narrow(axis, start, margin).copy_(source.index_select(axis, side))
    return out


def _fold(v: Tensor, margin: int, axis: int) -> Tensor:
    length = v.shape[axis] - 2 * margin
    left, right = _margins(length, margin, v.device)
    u = v.narrow(axis, margin, length).clone(memory_format=torch.preserve_format)
    u.index_add_(axis, left, v.narrow(axis, 0, margin))
    return u.index_add_(axis, right, v.narrow(axis, margin + length, margin))


def check_shapes(tensor: Tensor, kernels: Tensor, axis: int) -> None:
    """Raise ValueError unless kernels (F, C, k, k) can act on a tensor (N, C, H, W) or, with axis 0, (N, F, H, W)."""
    if kernels.ndim != 4 or kernels.shape[-1] != kernels.shape[-2] or kernels.shape[-1] % 2 == 0:
        raise ValueError(f"kernels must have shape (F, C, k, k) with k odd, got {tuple(kernels.shape)}.")
    if tensor.ndim != 4 or tensor.shape[1] != kernels.shape[axis]:
        wanted = "C" if axis else "F"
        raise ValueError(
            f"Expected a tensor (N, {wanted}, H, W) with {wanted} = {kernels.shape[axis]}, got {tuple(tensor.shape)}."
        )
    if 0 in tensor.shape[2:]:
        raise ValueError(f"The image has no pixels: shape {tuple(tensor.shape)}.")
