"""A model by name and hash: what travels to the workers in place of its weights."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from pathlib import Path

from tnrd.inference.loading import load
from tnrd.model import TNRD
from tnrd.weights import SUFFIX, WeightsError, find_weights

# Two threads of a worker would otherwise both load the model that neither has yet.
_LOADING = threading.Lock()


@dataclass(frozen=True)
class ModelReference:
    """Which weights, and where they are to run.

    Attributes:
        name: Of shipped weights, or the absolute path of a file that every worker can read.
        sha256: Of the file's content, checked wherever it is loaded.
        device: As in :func:`tnrd.denoise`; "auto" is decided by each worker.
        engine: Likewise.
    """

    name: str
    sha256: str
    device: str = "auto"
    engine: str = "auto"

    def network(self) -> TNRD:
        """The model, loaded once in every process.

        Raises:
            WeightsError: The file is missing here, or is another one.
            ValueError: The device or the engine cannot be used here.
        """
        with _LOADING:
            return _load(self)


@functools.lru_cache(maxsize=4)
def _load(reference: ModelReference) -> TNRD:
    file = find_weights(reference.name)
    if file.sha256 != reference.sha256:
        raise WeightsError(
            f"{file.path} is not the file that the work began with: its SHA-256 is {file.sha256}, "
            f"not {reference.sha256}."
        )
    return load(file, reference.device, reference.engine)


def refer(model: str | Path, device: str, engine: str) -> tuple[ModelReference, TNRD]:
    """The reference to a model, and the model itself on the CPU, to ask for its shape.

    Raises:
        TypeError: ``model`` is a loaded model.
        WeightsError: There is no such model.
    """
    if not isinstance(model, str | Path):
        raise TypeError(
            f"model must be a name or the path of a {SUFFIX} file, which every worker loads once, got a "
            f"{type(model).__name__}; tnrd.weights.save_weights writes a loaded model."
        )
    file = find_weights(model)
    name = str(file.path.resolve()) if str(model).endswith(SUFFIX) else file.name
    return ModelReference(name, file.sha256, device, engine), load(file, "cpu")
