"""The compiled engines as operators of torch, so that autograd, torch.compile and its tracing see through them.

Each engine is a pair of plain functions: the step, and the gradients for its arguments. Both become operators
``tnrd::diffusion_step_ENGINE`` and ``tnrd::diffusion_step_ENGINE_backward``, pure functions of their arguments; the
gradient is not differentiable a second time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from tnrd.kernels.transforms import in_transform, is_dual

Step = Callable[..., Tensor]
Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
NAMES = ("u", "f", "kernels", "table", "origin", "spacing", "inner", "outer", "reaction")
TENSORS = (0, 1, 2, 3, 6, 7, 8)  # positions of the tensors among the arguments of a step


def register(engine: str, step: Step, step_backward: Callable[..., tuple[Tensor, ...]], keeps: bool = False) -> Step:
    """Make an operator of an engine's step; arguments as in :func:`tnrd.kernels.step_torch.diffusion_step`.

    Args:
        engine: Its name.
        step: Computes the result.
        step_backward: Takes the gradient for the result, then the arguments of the step; returns the gradients for its
            seven tensors in their order.
        keeps: Whether both take a dictionary ``kept`` besides: what the step leaves there serves its gradient.

    Returns:
        A function to be called like ``step``: the operator, or ``step`` itself where nothing watches (no gradient is
        wanted, nothing is traced), which spares a short process the second that torch takes to load its compiler, and
        is given the keywords that the operator has no use for.
    """

    last = threading.local()  # call of the step on this thread, until autograd remembers it

    def forward(
        u: Tensor, f: Tensor, kernels: Tensor, table: Tensor, origin: float, spacing: float, inner: Tensor,
        outer: Tensor, reaction: Tensor,
    ) -> Tensor:  # fmt: skip
        arguments = (u, f, kernels, table, origin, spacing, inner, outer, reaction)
        if not keeps:
            return step(*arguments)
        last.kept, last.of = {}, (kernels, table)
        return step(*arguments, kept=last.kept)

    def backward(
        gradient: Tensor, u: Tensor, f: Tensor, kernels: Tensor, table: Tensor, origin: float, spacing: float,
        inner: Tensor, outer: Tensor, reaction: Tensor,
    ) -> Gradients:  # fmt: skip
        return step_backward(gradient, u, f, kernels, table, origin, spacing, inner, outer, reaction)  # type: ignore[return-value]

    # The operators' schemas are read from the annotations, which have to be types here, not strings.
    forward.__annotations__ = {**dict.fromkeys(NAMES, Tensor), "origin": float, "spacing": float, "return": Tensor}
    backward.__annotations__ = {"gradient": Tensor, **forward.__annotations__, "return": Gradients}
    name = f"tnrd::diffusion_step_{engine}"
    operator = torch.library.custom_op(name, forward, mutates_args=())
    gradient_operator = torch.library.custom_op(f"{name}_backward", backward, mutates_args=())

    @operator.register_fake
    def _(u: Tensor, *_: Any) -> Tensor:
        return u.new_empty(u.shape)

    @gradient_operator.register_fake
    def _(gradient: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
        return tuple(arguments[i].new_empty(arguments[i].shape) for i in TENSORS)

    def remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*(inputs[i] for i in TENSORS))
        ctx.grid = inputs[4], inputs[5]
        own = all(found is given for found, given in zip(getattr(last, "of", (None, None)), inputs[2:4], strict=True))
        ctx.kept = {"kept": last.kept} if own else {}
        last.kept, last.of = None, (None, None)

    def gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        u, f, kernels, table, *scales = ctx.saved_tensors
        if is_dual(gradient):  # the tangent would be lost without a word
            raise RuntimeError(f"Engine {engine!r} has no derivatives in forward mode; 'torch' has.")
        arguments = (gradient, u, f, kernels, table, *ctx.grid, *scales)
        seen = in_transform(gradient) or watched(gradient, u, f, kernels, table, *scales)
        found = gradient_operator(*arguments) if seen else step_backward(*arguments, **ctx.kept)
        return (*found[:4], None, None, *found[4:])

    operator.register_autograd(gradients, setup_context=remember)

    def refuse(ctx: Any, *_: Any) -> None:
        raise RuntimeError(f"Engine {engine!r} has no second derivatives; 'torch' has (see tnrd.kernels.step_torch).")

    gradient_operator.register_autograd(refuse)

    def call(*arguments: Any, **keywords: Any) -> Tensor:
        seen = watched(*(arguments[i] for i in TENSORS))
        return operator(*arguments) if seen else step(*arguments, **keywords)

    return call


def watched(*tensors: Tensor) -> bool:
    """Whether something has to see an operator that takes these: a trace, or autograd for their gradients."""
    traced = torch.compiler.is_compiling() or any(type(t) not in (Tensor, Parameter) for t in tensors)
    return traced or (torch.is_grad_enabled() and any(t.requires_grad for t in tensors))
