"""A model on the device and with the engine that a restoration runs on."""

from __future__ import annotations

import copy
import functools
from weakref import WeakKeyDictionary

import torch

from tnrd.kernels.dispatch import resolve_engine
from tnrd.model import TNRD
from tnrd.weights import WeightsFile, read_weights

DEVICES = ("auto", "cpu", "cuda", "mps")
_TWINS: WeakKeyDictionary[TNRD, dict[str, TNRD]] = WeakKeyDictionary()  # of loaded models, by engine


@functools.lru_cache(maxsize=4)
def load(file: WeightsFile, device: str = "auto", engine: str = "auto") -> TNRD:
    """A model ready to restore; the last few are kept, by the hash of their weights.

    Raises:
        WeightsError: The weights are not usable.
        ValueError: The device or the engine is unknown or cannot be used here.
    """
    return read_weights(file, device=str(check_place(device, engine)), engine=engine)


def check_place(device: str, engine: str) -> torch.device:
    """The torch device that a name means, on which the engine can run.

    Raises:
        ValueError: One of them is unknown or cannot be used here.
    """
    place = resolve_device(device)
    resolve_engine(engine, place)
    return place


def resolve_device(device: str) -> torch.device:
    """The torch device that a name means; "auto" is the GPU if there is one.

    Raises:
        ValueError: The name is unknown, or there is no such device.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, is_present in present.items() if is_present))
    kind, _, index = str(device).partition(":")
    if kind not in DEVICES[1:] or (index and not index.isdecimal()):
        raise ValueError(f"device must be one of {', '.join(DEVICES)}, got {device!r}.")
    if not present[kind]:
        raise ValueError(f"Device {device!r} was asked for, but torch finds none here.")
    return torch.device(device)


def configured(model: TNRD, device: str, engine: str) -> TNRD:
    """A loaded model under another engine; it is never moved, since others may hold it."""
    place = device_of(model)
    if device != "auto" and resolve_device(device).type != place.type:
        raise ValueError(f"The model lies on {place}, not on {device!r}: move it there, or leave device='auto'.")
    resolve_engine(engine, place, next(model.parameters()).dtype)
    if engine in ("auto", model.engine):
        return model
    # Kept, for what is recorded of it; it shares the weights, and does not hold the model.
    twins = _TWINS.setdefault(model, {})
    if engine not in twins:
        twin = copy.copy(model)
        twin.engine = engine
        twins[engine] = twin
    return twins[engine]


def device_of(model: TNRD) -> torch.device:
    """Where its weights lie."""
    return next(model.parameters()).device
