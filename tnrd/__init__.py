"""Image denoising by trained nonlinear reaction diffusion.

``import tnrd`` is cheap: the public names below are imported at their first use (PEP 562), and torch, numpy and the
image libraries with them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tnrd.config import TNRDConfig
    from tnrd.inference.batch.run import denoise_files
    from tnrd.inference.denoise import denoise
    from tnrd.inference.photons import denoise_photon_noise
    from tnrd.inference.stacks.arrays import denoise_array
    from tnrd.inference.stacks.volume import denoise_volume
    from tnrd.model import TNRD
    from tnrd.noise import estimate_sigma
    from tnrd.weights import load_model

__version__ = "0.1.0"

__all__ = [
    "TNRD",
    "TNRDConfig",
    "__version__",
    "denoise",
    "denoise_array",
    "denoise_files",
    "denoise_photon_noise",
    "denoise_volume",
    "estimate_sigma",
    "load_model",
]

_HOME_OF_NAME = {
    "TNRD": "tnrd.model",
    "TNRDConfig": "tnrd.config",
    "denoise": "tnrd.inference.denoise",
    "denoise_array": "tnrd.inference.stacks.arrays",
    "denoise_files": "tnrd.inference.batch.run",
    "denoise_photon_noise": "tnrd.inference.photons",
    "denoise_volume": "tnrd.inference.stacks.volume",
    "estimate_sigma": "tnrd.noise",
    "load_model": "tnrd.weights",
}


if not TYPE_CHECKING:  # a type checker that saw __getattr__ would accept any misspelt name

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF_NAME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOME_OF_NAME[name]), name)
        globals()[name] = value  # from now on an ordinary attribute: this function is not asked again
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
