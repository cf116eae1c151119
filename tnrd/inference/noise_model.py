"""What is assumed of the noise: white Gaussian, correlated, or that of a sensor; given, or measured in each picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tnrd.inference.levels import MAX_SIGMA, NoiseLevel, estimate_correlated_noise, estimate_noise, given_noise
from tnrd.inference.photons import photon_noise, restore_photon_noise
from tnrd.inference.restore import Progress, check_model, restore
from tnrd.inference.stabilisation import given_photon_noise
from tnrd.model import TNRD
from tnrd.photon_noise import PhotonNoise
from tnrd.pixels import from_unit, to_unit

GAUSSIAN, CORRELATED, POISSON_GAUSSIAN = KINDS = ("gaussian", "correlated", "poisson-gaussian")
Noise = NoiseLevel | PhotonNoise


@dataclass(frozen=True)
class NoiseModel:
    """A kind of noise, with the parameters that are known.

    Attributes:
        kind: "gaussian"; "correlated", which is denoised as white noise of the level that it has at lower resolution
            (:func:`tnrd.correlated_noise.noise_across_scales`), all of its frequencies so being covered; or
            "poisson-gaussian": var(f) = gain (u - offset) + read_noise^2.
        sigma: Standard deviation of Gaussian noise on the [0, 1] scale; None to estimate it in each picture.
        gain: Signal of one photon on that scale; None to estimate it, together with the others.
        read_noise: Standard deviation at black on that scale; 0 where only the gain is given.
        offset: Intensity of black on that scale; 0 where only the gain is given.

    Raises:
        ValueError: A parameter is out of range, or belongs to the other kind; or no model covers so much noise.
    """

    kind: str = GAUSSIAN
    sigma: float | None = None
    gain: float | None = None
    read_noise: float | None = None
    offset: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"noise must be one of {', '.join(KINDS)}, got {self.kind!r}.")
        if self.kind != POISSON_GAUSSIAN and (self.gain, self.read_noise, self.offset) != (None, None, None):
            raise ValueError(f"gain, read_noise and offset belong to the noise {POISSON_GAUSSIAN!r}, got {self}.")
        if self.kind != GAUSSIAN and self.sigma is not None:
            raise ValueError(f"sigma belongs to Gaussian noise, got {self}.")
        if self.sigma is not None and not 0 <= self.sigma <= MAX_SIGMA * (1 + 1e-6):
            raise ValueError(
                f"sigma must lie in [0, 100/255] (intensities in [0, 1], whatever the depth), got {self.sigma}."
            )
        given_photon_noise(self.gain, self.read_noise, self.offset)

    @property
    def is_given(self) -> bool:
        """Whether nothing is left to estimate."""
        return self.sigma is not None or self.gain is not None

    def of(self, pixels: NDArray[Any]) -> Noise:
        """The noise of a picture, (M, N) or (M, N, 3) of any depth: as given, or measured in it.

        Raises:
            ValueError: It cannot be measured, or no model covers it.
        """
        if self.kind == GAUSSIAN:
            return estimate_noise(pixels) if self.sigma is None else given_noise(self.sigma, pixels)
        if self.kind == CORRELATED:
            return estimate_correlated_noise(pixels)
        return given_photon_noise(self.gain, self.read_noise, self.offset) or photon_noise(pixels)

    @property
    def receipt(self) -> dict[str, Any]:
        """What was given, on the 8-bit scale, for a receipt."""
        if self.kind != POISSON_GAUSSIAN:
            return {"noise": self.kind, "given_sigma": _in_8_bit(self.sigma)}
        given = {"gain": self.gain, "read_noise": self.read_noise, "offset": self.offset}
        return {"noise": self.kind, **{f"given_{name}": _in_8_bit(value) for name, value in given.items()}}


def described(noise: Noise) -> dict[str, Any]:
    """The parameters of a picture's noise on the 8-bit scale, for a receipt."""
    if isinstance(noise, PhotonNoise):
        return {name: _in_8_bit(value) for name, value in noise._asdict().items()}
    return {"sigma": [_in_8_bit(float(level)) for level in noise.levels]}


def restore_noisy(
    pixels: NDArray[Any],
    model: TNRD,
    noise: Noise,
    *,
    strength: float = 1.0,
    tile: int | None = None,
    dtype: type[np.generic] | np.dtype[Any] = np.float32,
    progress: Progress | None = None,
) -> NDArray[Any]:
    """Restore pixels of any depth whatever their noise; the arguments are those of :func:`restore`.

    Photon noise takes some 20 bytes a sample beside the picture, plain noise a bounded amount.
    """
    if isinstance(noise, NoiseLevel):
        return restore(pixels, model, noise, strength=strength, tile=tile, dtype=dtype, progress=progress)
    check_model(model, pixels)
    unit = restore_photon_noise(to_unit(pixels), model, noise, strength=strength, tile=tile, progress=progress)
    return from_unit(unit, np.dtype(dtype))


def _in_8_bit(value: float | None) -> float | None:
    """To seven digits, however small: settings that differ are told apart by it."""
    return None if value is None else float(f"{255 * value:.7g}")
