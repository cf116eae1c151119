"""Optimisers of a phase: Adam with warm-up and a cosine, or L-BFGS as in Chen & Pock."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from tnrd.training.recipe import Phase

LBFGS_PAIRS = 5  # correction pairs kept, as in the paper
LBFGS_EVALUATIONS = 26  # at most in an iteration: one where it begins, the rest for its line search

NOT_KEPT = ("lr", "fused", "capturable", "max_eval")  # settings that a checkpoint does not bring


def build_optimizer(phase: Phase, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of a phase over these parameters.

    L-BFGS takes one iteration with a strong Wolfe line search per step, so that a checkpoint can lie between any two.
    In float32 the search is led by rounding: other machines, or other processes, end in other weights of a like loss.
    Adam's state and learning rate lie on the GPU where the parameters do, for the step to be part of a CUDA graph.
    """
    parameters = list(parameters)
    if phase.optimizer == "adam":
        if parameters[0].is_cuda:
            rate = torch.tensor(phase.learning_rate, device=parameters[0].device)
            return torch.optim.Adam(parameters, lr=rate, fused=True, capturable=True)
        return torch.optim.Adam(parameters, lr=phase.learning_rate)
    return torch.optim.LBFGS(
        parameters,
        lr=1.0,
        max_iter=1,
        max_eval=LBFGS_EVALUATIONS,  # 1 by default where max_iter is: no search
        history_size=LBFGS_PAIRS,
        line_search_fn="strong_wolfe",
    )


def restored_optimizer(
    phase: Phase, parameters: Iterable[nn.Parameter], state: dict[str, Any]
) -> torch.optim.Optimizer:
    """The optimiser of a phase with the state of one that may have been on another device."""
    optimizer = build_optimizer(phase, parameters)
    for group, fresh in zip(state["param_groups"], optimizer.param_groups, strict=True):
        group.update({key: fresh[key] for key in NOT_KEPT if key in fresh})
    optimizer.load_state_dict(state)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Of the updates to come."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def learning_rate(phase: Phase, iteration: int, elapsed: float = 0.0) -> float:
    """Linear warm-up, then a cosine from ``learning_rate`` to ``final_learning_rate``, over iterations or seconds."""
    warm = min(1.0, (iteration + 1) / max(1, phase.warmup))
    progress = max(0, iteration - phase.warmup) / max(1, phase.iterations - phase.warmup)
    if phase.seconds:
        progress = elapsed / phase.seconds
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return warm * (phase.final_learning_rate + (phase.learning_rate - phase.final_learning_rate) * cosine)
