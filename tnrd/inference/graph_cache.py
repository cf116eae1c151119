"""Which passes of a model are worth recording, and which are kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tnrd.filters import FilterBank
from tnrd.model import TNRD
from tnrd.preparation import tensors_of

Pass = Callable[[Tensor, Tensor], Tensor]  # from pictures and noise level to the result
MOST_PASSES = 2  # of a model: each holds the memory of a whole pass
MOST_KINDS = 64  # of calls that are remembered
PATIENCE = 32  # calls that a pass is kept for unused: to record another takes as long as several calls


class Passes:
    """The passes of a model that are kept, of the kinds of calls that come again.

    Args:
        record: Makes one from the arguments of a call.
    """

    def __init__(self, record: Callable[[TNRD, Tensor, Tensor, float], Pass]) -> None:
        self._record = record
        self._kept: OrderedDict[tuple[Any, ...], tuple[Pass, int]] = OrderedDict()  # and its last call; oldest first
        self._seen: OrderedDict[tuple[Any, ...], bool] = OrderedDict()  # and whether it may be recorded
        self._weights: tuple[Any, ...] | None = None
        self._calls = 0

    def find(self, model: TNRD, x: Tensor, level: Tensor, strength: float) -> Pass | None:
        """The pass for a call, recorded now if need be; None if the model is to be called."""
        self._calls += 1
        weights, kind = weights_of(model), kind_of(model, x, level, strength)
        if weights != self._weights:
            self._kept.clear()
            self._seen.clear()
            self._weights = weights
        if weights is None:
            return None
        if kind in self._kept:
            found, _ = self._kept.pop(kind)
        elif not self._comes_again(kind) or not self._make_room():
            return None
        else:
            try:
                found = self._record(model, x, level, strength)
            except RuntimeError:  # of CUDA; the call itself gives the same result, or the reason
                self._seen[kind] = False
                return None
        self._kept[kind] = found, self._calls
        return found

    def give_way(self) -> int:
        """Drop all passes and record none of their kinds again; how many there were."""
        count = len(self._kept)
        self._seen.update(dict.fromkeys(self._kept, False))
        self._kept.clear()
        return count

    def _comes_again(self, kind: tuple[Any, ...]) -> bool:
        if kind in self._seen:
            return self._seen[kind]
        self._seen[kind] = True
        if len(self._seen) > MOST_KINDS:
            self._seen.popitem(last=False)
        return False

    def _make_room(self) -> bool:
        if len(self._kept) < MOST_PASSES:
            return True
        oldest, (_, last_call) = next(iter(self._kept.items()))
        if self._calls - last_call <= PATIENCE:
            return False
        del self._kept[oldest]
        return True


def kind_of(model: TNRD, x: Tensor, level: Tensor, strength: float) -> tuple[Any, ...]:
    """What a pass is recorded for: calls of one kind differ in the values of pictures and noise levels only."""
    try:
        products: tuple[Any, ...] = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError:  # somebody set the newer of torch's two settings
        products = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    cudnn = torch.backends.cudnn
    switches = cudnn.enabled, cudnn.benchmark, cudnn.deterministic, torch.are_deterministic_algorithms_enabled()
    picture = tuple(x.shape), x.stride(), x.dtype, x.device
    return *picture, tuple(level.shape), strength, model.engine, *products, *switches


def weights_of(model: TNRD) -> tuple[Any, ...] | None:
    """Where the weights lie, how often they were changed, and the norms; None for a model that cannot be recorded."""
    tensors = tensors_of(model)
    if tensors is None:  # the host has to take part in every call
        return None
    norms = tuple(part.norm for part in model.modules() if isinstance(part, FilterBank))
    return norms, *((tensor.data_ptr(), None if tensor.is_inference() else tensor._version) for tensor in tensors)
