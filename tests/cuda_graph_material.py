"""A small model, pictures and a fake recorder for the tests of what is recorded."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tnrd.config import TNRDConfig
from tnrd.model import TNRD

GREY = TNRDConfig(stages=2, filters=4, kernel_size=3)


def network(config: TNRDConfig = GREY, device: str = "cpu") -> TNRD:
    torch.manual_seed(0)
    model = TNRD(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.requires_grad_(False).to(device)


def picture(*shape: int, seed: int = 0, device: str = "cpu") -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).to(device)


class Log:
    """Makes passes that are numbers, and fails where it is told to."""

    def __init__(self) -> None:
        self.made: list[weakref.ref[Any]] = []
        self.failure: Exception | None = None

    def __call__(self, model: TNRD, x: Tensor, level: Tensor, strength: float) -> Callable[[Tensor, Tensor], Tensor]:
        if self.failure is not None:
            raise self.failure

        def run(x: Tensor, level: Tensor) -> Tensor:
            return x

        self.made.append(weakref.ref(run))
        return run

    @property
    def alive(self) -> list[bool]:
        return [made() is not None for made in self.made]


LEVEL = torch.full((1, 1, 1, 1), 0.1)
