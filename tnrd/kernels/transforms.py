"""What only operations of torch itself carry along: the transforms of torch.func, derivatives in forward mode."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

_functorch = torch._C._functorch


def in_transform(*tensors: Tensor) -> bool:
    """Whether this runs within a transform of torch.func (grad, jvp, vmap, ...), or a tensor comes from the vmap of
    torch.autograd, which batches gradients."""
    if torch._C._are_functorch_transforms_active():
        return True
    return not torch.compiler.is_compiling() and any(_functorch.is_legacy_batchedtensor(tensor) for tensor in tensors)


def is_dual(*tensors: Tensor) -> bool:
    """Whether one of them carries a derivative in forward mode, see :mod:`torch.autograd.forward_ad`."""
    if torch.compiler.is_compiling() or forward_ad._current_level < 0:  # which spares ordinary calls the rest
        return False
    return any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)  # type: ignore[no-untyped-call]


def untransformed(tensor: Tensor) -> Tensor:
    """The values within the wrappers of torch.func; of a vmap, those of all examples."""
    while _functorch.is_functorch_wrapped_tensor(tensor):
        tensor = _functorch.get_unwrapped(tensor)
    return tensor
