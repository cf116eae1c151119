"""What the steps of a model are computed with, for all steps at once: kernels, tables of psi, their scales."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tnrd.influence import SIGMA_FLOOR, curve_values
from tnrd.stage import DiffusionStage, Prepared


class Kept:
    """What of a model's preparation depends on its weights alone, kept for as long as they stay as they are.

    Kernels and tables are some forty small operations a step: a quarter of the time of a picture of 256 x 256.

    Args:
        stages: Steps of one shape on one grid.
        weights: What :func:`weights_of` says of the model that they belong to.
    """

    def __init__(self, stages: Sequence[DiffusionStage], weights: tuple[Any, ...]) -> None:
        self.weights = weights
        self._alive = [p.detach() for stage in stages for p in stage.parameters()]  # so that no other takes their place
        self._fixed = [(stage.filters().detach(), stage.influence.table().detach()) for stage in stages]
        curves = [curve for s in stages for curve in (s.argument_scale, s.value_scale, s.reaction)]
        coefficients = [curve.coefficients().detach() for curve in curves]
        self._sizes = [len(theta) for theta in coefficients]
        self._theta = torch.cat(coefficients)

    def at(self, sigma: Tensor) -> list[list[Prepared]]:
        """:meth:`DiffusionStage.prepare` of the steps, at noise levels (N, 1, 1, 1)."""
        values = torch.split(curve_values(self._theta, sigma), self._sizes, dim=1)
        floored = sigma.clamp_min(SIGMA_FLOOR)
        scales = zip(values[::3], values[1::3], values[2::3], strict=True)
        return [
            [Prepared(kernels, table, argument / floored, sigma * value, reaction)]
            for (kernels, table), (argument, value, reaction) in zip(self._fixed, scales, strict=True)
        ]


def weights_of(model: nn.Module) -> tuple[Any, ...] | None:
    """Where the weights lie and how often they were changed; None for a model of which nothing can be kept."""
    found: list[Any] = []
    rest: list[Any] = [model]
    while rest:
        parts = rest.pop().__dict__  # module.parameters() and the like take several times as long
        if parts.get("exact") or parts["_forward_hooks"] or parts["_forward_pre_hooks"]:
            return None  # the host has to take part in every call
        rest += [module for module in parts["_modules"].values() if module is not None]
        for tensor in parts["_parameters"].values():
            if tensor is not None and not isinstance(tensor, nn.Parameter):
                return None  # put in its place for one call
        for tensor in (*parts["_parameters"].values(), *parts["_buffers"].values()):
            if tensor is not None:
                found.append((tensor.data_ptr(), None if tensor.is_inference() else tensor._version))
    return tuple(found)


def prepare_together(stages: Sequence[DiffusionStage], sigma: Tensor) -> list[list[Prepared]]:
    """:meth:`DiffusionStage.prepare` of stages of one shape at once.

    As many small operations as for one, which is what counts on a GPU; differentiable in the parameters that learn.
    """
    # A copy, since the parameters of the template change for a while, and other threads may use the stage.
    own = {id(tensor): tensor for tensor in (*stages[0].parameters(), *stages[0].buffers())}
    template = _Preparation(copy.deepcopy(stages[0], own))
    parameters_of = [dict(_Preparation(stage).named_parameters()) for stage in stages]
    together = {name: torch.stack([of[name] for of in parameters_of]) for name in parameters_of[0]}

    def prepare(parameters: dict[str, Tensor]) -> list[tuple[Tensor, ...]]:
        return torch.func.functional_call(template, parameters, (sigma,))  # type: ignore[no-any-return]

    grids = [[tensor.unbind() for tensor in grid] for grid in torch.func.vmap(prepare)(together)]
    found = [[Prepared(*(of_stage[t] for of_stage in grid)) for grid in grids] for t in range(len(stages))]
    learn = [any(p.requires_grad for p in stage.parameters()) for stage in stages]
    return [
        of_stage if learns else [Prepared(*(tensor.detach() for tensor in grid)) for grid in of_stage]
        for of_stage, learns in zip(found, learn, strict=True)
    ]


class _Preparation(nn.Module):
    """``prepare`` as a module's call, for :func:`torch.func.functional_call`."""

    def __init__(self, stage: DiffusionStage) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, sigma: Tensor) -> list[tuple[Tensor, ...]]:
        return [tuple(grid) for grid in self.stage.prepare(sigma)]
