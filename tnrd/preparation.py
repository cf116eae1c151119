"""What the steps of a model are computed with, for all steps at once: kernels, tables of psi, their scales."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tnrd.filters import FilterBank
from tnrd.influence import SIGMA_FLOOR, curve_values, has_hooks
from tnrd.kernels.transforms import in_transform, is_dual
from tnrd.stage import DiffusionStage, Prepared


class Preparation:
    """How a model gets what its steps are computed with, the quickest way there is.

    On a GPU for all steps at once. On a CPU, where one only restores, kernels and tables are kept from call to call:
    they are some forty small operations a step, which is much of the time of a small picture. That the weights are
    still the same is seen from their values, whoever changed them; of buffers, which are constants, from torch's count
    of changes in place.

    A copy of a model does not share what is kept.
    """

    def __init__(self) -> None:
        self._kept: Kept | None = None

    def __reduce__(self) -> tuple[type[Preparation], tuple[()]]:
        return Preparation, ()

    def __call__(
        self, model: nn.Module, sets: Sequence[DiffusionStage], used: Sequence[DiffusionStage], sigma: Tensor
    ) -> dict[DiffusionStage, list[Prepared]]:
        """:meth:`DiffusionStage.prepare` of steps.

        Args:
            model: What the steps belong to.
            sets: Its sets of weights.
            used: Those that are asked for, each once.
            sigma: (N, 1, 1, 1) or (N, 1, H, W) noise level, on the [0, 1] scale.

        Returns:
            For each that is asked for, and perhaps for others.
        """
        if sigma.is_cuda and used:
            return dict(zip(used, prepare_on_gpu(model, used, sigma), strict=True))
        fresh = torch.is_grad_enabled() or torch.compiler.is_compiling()
        several = sigma.shape[2:] != (1, 1) or any(len(stage.coarse) for stage in sets)
        state = None if fresh or several else _state(model)
        if state is None:
            return {stage: stage.prepare(sigma) for stage in used}
        kept = self._kept
        if kept is None or not kept.is_of(state):
            kept = self._kept = Kept(sets, state)
        return dict(zip(sets, kept.at(sigma), strict=True))


class State(NamedTuple):
    """All that kernels, tables and curves are made of.

    Attributes:
        values: Of the parameters, in a tensor of its own.
        settings: What else there is of each part: its norm, its buffers and how often they were changed.
        buffers: They themselves, so that no other takes the place of one in memory.
    """

    values: Tensor
    settings: list[tuple[object, ...]]
    buffers: list[Tensor]


class Kept:
    """What of the preparation of steps depends on their weights alone.

    Args:
        stages: Steps of one shape on one grid.
        state: Of the model that they belong to: values of its weights, and settings.
    """

    def __init__(self, stages: Sequence[DiffusionStage], state: State) -> None:
        self._state = state
        self._fixed = [(s.filters().detach(), s.influence.table().detach(), dict[str, Any]()) for s in stages]
        curves = [curve for s in stages for curve in (s.argument_scale, s.value_scale, s.reaction)]
        coefficients = [curve.coefficients().detach() for curve in curves]
        self._sizes = [len(theta) for theta in coefficients]
        self._theta = torch.cat(coefficients)

    def is_of(self, state: State) -> bool:
        """Whether the model is still the same."""
        before, now = self._state.values, state.values
        alike = now.dtype == before.dtype and now.device == before.device
        return alike and state.settings == self._state.settings and torch.equal(now, before)

    def at(self, sigma: Tensor) -> list[list[Prepared]]:
        """What :meth:`DiffusionStage.prepare` of each step returns, at noise levels (N, 1, 1, 1)."""
        values = torch.split(curve_values(self._theta, sigma), self._sizes, dim=1)
        floored = sigma.clamp_min(SIGMA_FLOOR)
        scales = zip(values[::3], values[1::3], values[2::3], strict=True)
        return [
            [Prepared(kernels, table, argument / floored, sigma * value, reaction, kept)]
            for (kernels, table, kept), (argument, value, reaction) in zip(self._fixed, scales, strict=True)
        ]


def _state(model: nn.Module) -> State | None:
    tensors = tensors_of(model, buffers=False)
    if not tensors or not all(tensor.dtype == tensors[0].dtype for tensor in tensors):
        return None
    parts = list(_parts(model))
    buffers = [tensor for part in parts for tensor in part["_buffers"].values() if tensor is not None]
    changes = [(id(tensor), None if tensor.is_inference() else tensor._version) for tensor in buffers]
    values = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    return State(values, [*changes, *((part.get("norm"),) for part in parts)], buffers)


def tensors_of(model: nn.Module, buffers: bool = True) -> list[Tensor] | None:
    """Its parameters, and its buffers if asked for.

    None for a model that something else takes part in: a hook, a parametrization, an influence function by its exact
    sum (:class:`tnrd.influence.RadialBasisInfluence`), parameters put in their place for one call
    (:func:`torch.func.functional_call`).
    """
    found: list[Tensor] = []
    for part in _parts(model):
        if part.get("exact") or has_hooks(part):
            return None
        if "parametrizations" in part["_modules"]:
            return None
        parameters = [tensor for tensor in part["_parameters"].values() if tensor is not None]
        if not all(isinstance(tensor, nn.Parameter) for tensor in parameters):
            return None
        found += parameters
        if buffers:
            found += [tensor for tensor in part["_buffers"].values() if tensor is not None]
    return found


def _parts(model: nn.Module) -> Iterator[dict[str, Any]]:
    """What the model and its parts hold; module.modules(), parameters() and the like take several times as long."""
    rest = [model]
    while rest:
        part = rest.pop().__dict__
        rest += [module for module in part["_modules"].values() if module is not None]
        yield part


def prepare_on_gpu(model: nn.Module, stages: Sequence[DiffusionStage], sigma: Tensor) -> list[list[Prepared]]:
    """:meth:`DiffusionStage.prepare` of stages of a model: at once, unless something tells one from another.

    That is a hook, a parametrization, a norm of its own, or that parameters were put in its place, as
    ``nn.DataParallel`` does.
    """
    own = tensors_of(model, buffers=False)
    norms = {bank.norm for stage in stages for bank in stage.modules() if isinstance(bank, FilterBank)}
    if own and len(norms) == 1:
        return prepare_together(stages, sigma)
    return [stage.prepare(sigma) for stage in stages]


def prepare_together(stages: Sequence[DiffusionStage], sigma: Tensor) -> list[list[Prepared]]:
    """:meth:`DiffusionStage.prepare` of stages of one shape at once.

    As many small operations as for one, which is what counts on a GPU; differentiable in the parameters that learn.
    """
    # A copy, since the parameters of the template change for a while, and other threads may use the stage.
    own = {id(tensor): tensor for tensor in (*stages[0].parameters(), *stages[0].buffers())}
    template = _Preparation(copy.deepcopy(stages[0], own))
    parts = [_Preparation(stage) for stage in stages]
    tensors_of_parts = [{**dict(part.named_parameters()), **dict(part.named_buffers())} for part in parts]
    together = {name: torch.stack([of[name] for of in tensors_of_parts]) for name in tensors_of_parts[0]}

    def prepare(tensors: dict[str, Tensor]) -> list[tuple[Tensor, ...]]:
        return torch.func.functional_call(template, tensors, (sigma,))  # type: ignore[no-any-return]

    grids = [[tensor.unbind() for tensor in grid] for grid in torch.func.vmap(prepare)(together)]
    found = [[Prepared.of(of_stage[t] for of_stage in grid) for grid in grids] for t in range(len(stages))]
    carried = sigma.requires_grad or in_transform(sigma) or is_dual(sigma)
    learn = [carried or any(tensor.requires_grad for tensor in of.values()) for of in tensors_of_parts]
    return [
        of_stage if learns else [Prepared.of(tensor.detach() for tensor in grid.tensors) for grid in of_stage]
        for of_stage, learns in zip(found, learn, strict=True)
    ]


class _Preparation(nn.Module):
    """``prepare`` as a module's call, for :func:`torch.func.functional_call`."""

    def __init__(self, stage: DiffusionStage) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, sigma: Tensor) -> list[tuple[Tensor, ...]]:
        return [grid.tensors for grid in self.stage.prepare(sigma)]
