"""A model's pass over pictures of one shape as a CUDA graph: one launch instead of hundreds, for which a GPU waits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from tnrd.inference.graph_cache import Passes
from tnrd.inference.loading import device_of
from tnrd.kernels.capture_lock import CAPTURE_LOCK
from tnrd.model import TNRD

Network = Callable[[Tensor, Tensor | float, float], Tensor]  # a model, or what stands for it


class RecordedModel:
    """A model on an NVIDIA GPU that is called without gradients; arguments, result and errors are those of the model.

    The first call of a kind (:func:`tnrd.inference.graph_cache.kind_of`) runs as it is, the second records, and from
    then on the recording is replayed. Where other kinds are at work, memory is short or CUDA refuses, the model is
    called.
    """

    def __init__(self, model: TNRD) -> None:
        self.model = model
        with CAPTURE_LOCK:
            self._passes = _PASSES.setdefault(model, Passes(Recording))

    @torch.no_grad()
    def __call__(self, x: Tensor, sigma: Tensor | float, strength: float = 1.0) -> Tensor:
        """Denoise, as :meth:`tnrd.model.TNRD.forward`."""
        level = self.model.check(x, sigma, strength)  # of a pass that is replayed, nobody else looks at the values
        try:
            result = self._replayed(x, level, strength)
            return self.model(x, sigma, strength) if result is None else result
        except torch.OutOfMemoryError:
            if not _give_way():
                raise
        return self.model(x, sigma, strength)  # type: ignore[no-any-return]

    def _replayed(self, x: Tensor, level: Tensor, strength: float) -> Tensor | None:
        # Autocast keeps copies of the weights, which a pass must not remember.
        if not x.is_cuda or torch.is_autocast_enabled("cuda") or torch.cuda.is_current_stream_capturing():
            return None
        # Tensors of the inference mode could not be written to outside of it.
        with CAPTURE_LOCK, torch.cuda.device(x.device), torch.inference_mode(False), torch.no_grad():
            found = self._passes.find(self.model, x, level, strength)
            return None if found is None else found(x, level)


class Recording:
    """One pass. It runs on the stream on which it was recorded, where nothing overtakes anything."""

    def __init__(self, model: TNRD, x: Tensor, level: Tensor, strength: float) -> None:
        self._stream = _stream(x.device)
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._x, self._level = x.clone(), level.clone(memory_format=torch.contiguous_format)
            model(self._x, self._level, strength)  # libraries start for each thread and each stream
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
                self._result = model(self._x, self._level, strength)

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """The result for other pictures, in memory of its own."""
        result = torch.empty_like(self._result)  # before the stream changes: its memory is to return to the caller's
        caller = torch.cuda.current_stream()
        self._stream.wait_stream(caller)
        with torch.cuda.stream(self._stream):
            self._x.copy_(x)
            self._level.copy_(level)
            self._graph.replay()
            result.copy_(self._result)
        caller.wait_stream(self._stream)
        return result


_PASSES: WeakKeyDictionary[TNRD, Passes] = WeakKeyDictionary()


def recorded(model: TNRD) -> Network:
    """The model, replaying its passes if it lies on an NVIDIA GPU."""
    return RecordedModel(model) if device_of(model).type == "cuda" and torch.version.hip is None else model


def _give_way() -> int:
    with CAPTURE_LOCK:
        return sum([passes.give_way() for passes in list(_PASSES.values())])


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
