"""The denoisers on offer: one table, their run, and an honest guess of how long they take."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tnrd.baselines import BASELINES
from tnrd.inference.choice import weights_for
from tnrd.inference.levels import NoiseLevel, given_noise
from tnrd.inference.loading import load
from tnrd.inference.restore import restore
from tnrd.model import TNRD
from tnrd.weights import ALIASES, WeightsFile, available_models, find_weights

from .session import single_level

Unit = NDArray[np.float32]
Progress = Callable[[int, int], None]

# First guesses, seconds a megapixel of grey on two cores of a Zen 4, which own runs correct; colour takes three planes.
SECONDS = {
    "gray-fast": 0.21, "gray": 0.30, "gray-best": 1.4, "perona_malik": 2.5, "perona_malik_1990": 0.36, "srcnn": 0.25,
    "epll": 14.6, "wnnm": 47.0, "bm3d": 25.0, "heat": 0.02, "tv": 0.26, "nlm": 1.5, "nlm_opencv": 0.23, "wavelet": 0.45,
    "bilateral": 0.02, "median": 0.19, "guided": 0.06, "wiener": 0.05,
}  # fmt: skip
DEFAULT = "gray"
LEAST_SECONDS = 0.02  # of a run that says something about the machine
QUICK = 1.0  # seconds a megapixel from which a method has to be asked for

_WARMING = threading.Lock()

LABELS = {
    "perona_malik": "Perona-Malik", "perona_malik_1990": "Perona-Malik (1990)", "srcnn": "SRCNN network",
    "epll": "EPLL", "wnnm": "WNNM", "bm3d": "BM3D", "heat": "Heat equation", "tv": "Total variation",
    "nlm": "Non-local means", "nlm_opencv": "Non-local means (OpenCV)", "wavelet": "Wavelet shrinkage",
    "bilateral": "Bilateral filter", "median": "Median filter", "guided": "Guided filter", "wiener": "Wiener filter",
}  # fmt: skip


@dataclass(frozen=True)
class Method:
    """A denoiser of the page.

    Attributes:
        key: Of the learned ones the name of the weights for grey pictures, of the others the name in ``BASELINES``.
        label: For people.
        description: A plain line about it.
        licence: Of what computes it.
        learned: One of this project's models.
    """

    key: str
    label: str
    description: str
    licence: str
    learned: bool

    @property
    def quick(self) -> bool:
        """Whether it may run unasked."""
        return SECONDS.get(self.key, QUICK) < QUICK


@cache
def methods() -> dict[str, Method]:
    """Everything that can run here, the learned ones first."""
    models = available_models()
    table = {
        key: Method(key, f"TNRD {alias}".removesuffix(" default"), models[key], "Apache-2.0, this project", True)
        for alias, key in sorted(ALIASES.items(), key=lambda item: SECONDS.get(item[1], QUICK))
    }
    for key, baseline in BASELINES.items():
        if key != "bm3d" or find_spec("bm3d") is not None:
            table[key] = Method(key, LABELS.get(key, key), baseline.description, baseline.licence, False)
    return table


def learned() -> list[Method]:
    """The project's models."""
    return [method for method in methods().values() if method.learned]


def network(key: str) -> TNRD:
    """The model of grey pictures behind a learned method, loaded once."""
    return load(find_weights(key), "cpu")


def network_for(key: str, noisy: NDArray[Any], noise: NoiseLevel) -> TNRD:
    """The model that a learned method takes for a picture, loaded once."""
    return load(weights_of(key, noisy, noise), "cpu")


def weights_of(key: str, noisy: NDArray[Any], noise: NoiseLevel) -> WeightsFile:
    """The weights that a learned method takes for a picture: "gray" is "default", whatever that means in colour."""
    return weights_for(next(alias for alias, name in ALIASES.items() if name == key), noisy, noise)


def run(method: Method, noisy: Unit, noise: NoiseLevel, strength: float, progress: Progress) -> Unit:
    """The denoised picture, (M, N) or (M, N, 3) float32 on the [0, 1] scale, not clipped.

    The learned models take the noise level as ``tnrd-denoise`` does, plane by plane where it was measured so; the
    others take one number, its root mean square over the channels.
    """
    with _WARMING:  # let it finish, so that the time of a run is its own
        pass
    if method.learned:
        model = network_for(method.key, noisy, noise)
        return restore(noisy, model, noise, strength=strength, progress=progress)
    axis = None if noisy.ndim == 2 else -1
    return BASELINES[method.key].denoise(noisy, single_level(noise), channel_axis=axis, progress=progress)


class Stopwatch:
    """How this machine compares with the one of :data:`SECONDS`, from the latest runs of the learned models."""

    def __init__(self) -> None:
        self.ratios: deque[float] = deque(maxlen=8)

    def estimate(self, method: Method, shape: tuple[int, ...]) -> float:
        """Seconds that a method will take for a picture of this shape, about."""
        planes = 3 if len(shape) == 3 else 1
        seconds = SECONDS.get(method.key, QUICK) * planes * shape[0] * shape[1] / 1e6
        # The least: a run that compiled, or shared its cores, says nothing about the next one.
        return seconds * min(self.ratios, default=1.0)

    def learn(self, method: Method, shape: tuple[int, ...], seconds: float) -> None:
        """Take a run of a learned model into account, if it was long enough to be measured."""
        expected = self.estimate(method, shape) / min(self.ratios, default=1.0)
        if method.learned and seconds > LEAST_SECONDS:
            self.ratios.append(seconds / expected)


STOPWATCH = Stopwatch()


def warm_up() -> None:
    """Run the learned models once: their loops are compiled, or loaded, and no visitor's time is that of this."""
    grey, coloured = np.zeros((64, 64), np.float32), np.eye(64, dtype=np.float32)[..., None] * [1, 0, 0.5]
    with _WARMING:
        for method in learned():
            for picture in (grey, coloured.astype(np.float32)):
                noise = given_noise(0.1, picture)
                restore(picture, load(weights_of(method.key, picture, noise), "cpu"), noise)


def duration(seconds: float) -> str:
    """A time for people."""
    if seconds < 1:
        return "under a second"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min"
