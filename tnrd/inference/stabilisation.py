"""Photon noise made white, pixel by pixel or where light is scarce by 2 x 2 pixels, and the way back.

    forward: the picture is binned 2 x 2, d times;    v = (D(f - o) - D_0)/(D_w - D_0), noise of level 1/(D_w - D_0)
    inverse: the exact unbiased inverse of D, and o;  enlarged d times by cubic interpolation

with D of :mod:`tnrd.anscombe`, o the sensor's offset, D_0 the mean of D for black and D_w that for white. White and d
are the same for all parts of a picture, so that a part gives what the whole gives: forward looks at the pixels of one
cell of 2^d x 2^d alone, and cubic interpolation two pixels of the smaller picture far.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tnrd.anscombe import check_photon_noise, stabilise, stabilised_range, unstabilise
from tnrd.inference.levels import MAX_SIGMA
from tnrd.photon_noise import PhotonNoise
from tnrd.pixels import binned

# Stronger noise is first made weaker by binning pixels 2 x 2: from here on that gains more than it blurs.
_SCARCE = 68 / 255
_LEAST_SIDE = 16
_WHITE_QUANTILE = 0.999
# Of white, a million photons there: nothing that depends on the intensity.
_LEAST_GAIN = 1e-6
# Of D_0: a smaller D_w - D_0 is rounding.
_LEAST_RANGE = 1e-13
_LEAST_WHITE = 1e-5  # less than a step of 16 bits
_CUBIC_REACH = 2
_BAND = 64


@dataclass(frozen=True)
class Stabilisation:
    """How the noise of a picture and of all its parts is made white.

    Attributes:
        noise: Of the picture.
        white: Intensity that is mapped to 1, [0, 1] scale.
        binnings: How often the picture is binned 2 x 2.
    """

    noise: PhotonNoise
    white: float
    binnings: int

    @property
    def level(self) -> float:
        """Standard deviation of the noise after :meth:`forward`."""
        noise = _coarser(self.noise, self.binnings)
        if _is_plain(noise, self.white):
            return min(noise.read_noise, MAX_SIGMA)
        low, high = _ends(noise, self.white)
        return min(1 / (high - low), MAX_SIGMA)

    def forward(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """(M, N) or (M, N, 3) on the [0, 1] scale as a picture with white noise, of sides divided by 2^binnings.

        A part has to begin at multiples of 2^binnings and to end there, or where the picture ends.
        """
        for _ in range(self.binnings):
            pixels = binned(pixels)
        noise = _coarser(self.noise, self.binnings)
        if _is_plain(noise, self.white):
            return pixels
        low, high = _ends(noise, self.white)
        gain, read_noise, offset = noise
        return _by_bands(lambda band: (stabilise(band - offset, gain, read_noise) - low) / (high - low), pixels)

    def inverse(self, clean: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The intensities of what :meth:`forward` gave and a denoiser cleaned; ``shape`` is that of the pixels."""
        noise = _coarser(self.noise, self.binnings)
        if not _is_plain(noise, self.white):
            low, high = _ends(noise, self.white)
            gain, read_noise, offset = noise
            clean = _by_bands(
                lambda band: offset + unstabilise(low + (high - low) * band.astype(np.float64), gain, read_noise), clean
            )
        for binnings in reversed(range(self.binnings)):
            clean = enlarged(clean, _halved(shape, binnings))
        return clean


def stabilisation(
    pixels: NDArray[np.float32], noise: PhotonNoise, white: float | None = None, shape: tuple[int, ...] | None = None
) -> Stabilisation:
    """How the noise of a picture is made white.

    Args:
        pixels: (M, N) or (M, N, 3) on the [0, 1] scale: the picture, or a sample of it.
        noise: Its noise.
        white: Intensity that is mapped to 1; measured when None.
        shape: Of the picture, where the pixels are a sample.
    """
    shape = pixels.shape if shape is None else shape
    white = measured_white(pixels, noise, shape) if white is None else white
    return Stabilisation(noise, white, binnings(noise, white, shape))


def given_photon_noise(gain: float | None, read_noise: float | None, offset: float | None) -> PhotonNoise | None:
    """The noise as it is given, checked; None where the gain is not, and all is to be estimated.

    Raises:
        ValueError: A parameter is out of range, or says nothing without the gain; or no model covers so much noise.
    """
    if gain is None:
        for name, value in (("A read noise", read_noise), ("An offset", offset)):
            if value is not None:
                raise ValueError(f"{name} of {value} says nothing without the gain; give both, or none.")
        return None
    noise = PhotonNoise(float(gain), float(read_noise or 0.0), float(offset or 0.0))
    check_photon_noise(noise.gain, noise.read_noise)
    if not math.isfinite(noise.offset):
        raise ValueError(f"offset must be a finite number, got {offset}.")
    check_covered(noise)
    return noise


def check_covered(noise: PhotonNoise) -> None:
    """Raise ValueError where the noise is read noise alone, and more than the models cover."""
    if noise.gain < _LEAST_GAIN and noise.read_noise > MAX_SIGMA * (1 + 1e-6):
        raise ValueError(
            f"A read noise of {255 * noise.read_noise:.4g} on the 8-bit scale, with hardly any photon noise beside it, "
            "exceeds the 100 that the models cover; scale the image to [0, 1]."
        )


def binnings(noise: PhotonNoise, white: float, shape: tuple[int, ...]) -> int:
    """How often pixels are binned: until their noise is no longer the most of them, or the picture is small.

    Args:
        noise: Gain and read noise, which a halving makes gain/4 and read noise/2.
        white: Intensity that is mapped to 1; the darker, the more binnings.
        shape: (M, N, ...) of the whole picture.

    Raises:
        ValueError: The read noise is so large that white cannot be told from black.
    """
    for count in itertools.count():
        coarse = _coarser(noise, count)
        if _is_plain(coarse, white):
            break
        low, high = stabilised_range(coarse.gain, coarse.read_noise, max(white - noise.offset, _LEAST_WHITE))
        if high - low < _LEAST_RANGE * low:
            raise ValueError(
                f"A read noise of {noise.read_noise} leaves nothing of a picture whose white is {white:g}."
            )
        if (high - low) * _SCARCE >= 1 or min(_halved(shape, count)) < 2 * _LEAST_SIDE:
            break
    return count


def measured_white(pixels: NDArray[np.float32], noise: PhotonNoise, shape: tuple[int, ...]) -> float:
    """The 0.999 quantile of the intensities, of the picture as far as it is binned: noise raises it."""
    white = math.inf
    for count in itertools.count():
        white = min(white, float(np.quantile(pixels, _WHITE_QUANTILE)))
        if binnings(noise, white, shape) == count:
            break
        pixels = binned(pixels)
    return white


def reach(radius: int, binnings: int) -> int:
    """Pixels by which a result depends on its surroundings, for a model that sees ``radius`` pixels far.

    Let it be h pixels in the picture of half the size. Pixel 2 i is interpolated from pixels i - 2 ... i + 1 there,
    these depend on i - 2 - h ... i + 1 + h, which are made of 2 i - 4 - 2 h ... 2 i + 3 + 2 h; for 2 i + 1 it is the
    other way round. So h becomes 2 h + 4.
    """
    for _ in range(binnings):
        radius = 2 * (radius + _CUBIC_REACH)
    return radius


def enlarged(pixels: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Twice as large, by cubic interpolation with the border repeated, cut to ``shape``."""
    import cv2

    height, width = pixels.shape[:2]
    twice = cv2.resize(pixels, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(twice[: shape[0], : shape[1]], dtype=np.float32)


def _by_bands(
    change: Callable[[NDArray[np.float32]], NDArray[np.float64]], pixels: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Pixels changed one by one; double precision holds a few rows at a time."""
    changed = np.empty(pixels.shape, np.float32)
    for start in range(0, len(pixels), _BAND):
        changed[start : start + _BAND] = change(pixels[start : start + _BAND])
    return changed


def _coarser(noise: PhotonNoise, binnings: int) -> PhotonNoise:
    """Of means of 2^binnings x 2^binnings pixels."""
    return PhotonNoise(noise.gain / 4**binnings, noise.read_noise / 2**binnings, noise.offset)


def _is_plain(noise: PhotonNoise, white: float) -> bool:
    """Whether the noise of a picture of this white hardly depends on the intensity."""
    return noise.gain < _LEAST_GAIN * max(white, _LEAST_WHITE)


def _halved(shape: tuple[int, ...], binnings: int) -> tuple[int, int]:
    """Sides after ``binnings``, each of which rounds up."""
    return -(-shape[0] // 2**binnings), -(-shape[1] // 2**binnings)


@lru_cache(maxsize=256)
def _ends(noise: PhotonNoise, white: float) -> tuple[float, float]:
    """D_0 and D_w; a range of less than ten photons would be all noise."""
    return stabilised_range(noise.gain, noise.read_noise, max(white - noise.offset, 10 * noise.gain, _LEAST_WHITE))
