"""Ways to spoil a clean picture, beside the white Gaussian noise of :func:`tnrd.noise.add_noise`.

They follow the same contract: floats are taken as they are, nominally in [0, 1], integers are scaled as
``skimage.util.img_as_float`` does, and the same picture, numbers and seed give the same result on every machine.
"""

from __future__ import annotations

import io
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tnrd.pixels import check_finite, to_unit

# numpy draws Poisson counts as 64-bit integers.
_LARGEST_COUNT = 1e18
_LARGEST_JPEG_SIDE = 65500  # libjpeg's own limit


def add_poisson_gaussian(image: ArrayLike, gain: float, read_noise: float, seed: int) -> NDArray[np.float32]:
    """Noise of a camera's sensor, f = gain Poisson(max(u, 0)/gain) + read_noise n with n ~ N(0, 1), without clipping.

    The mean of f is max(u, 0), its variance gain max(u, 0) + read_noise^2: light comes in photons, 1/gain of them
    where the picture is white, and reading them out adds a noise of its own (Foi, Trimeche, Katkovnik & Egiazarian,
    IEEE TIP 17(10), 2008).

    Args:
        image: Any shape.
        gain: What one photon is worth on the [0, 1] scale, > 0.
        read_noise: Standard deviation of the read-out noise on the [0, 1] scale, at least 0.
        seed: Seed of ``numpy.random.default_rng``.

    Returns:
        The noisy image, same shape; values may leave [0, 1].

    Raises:
        ValueError: ``gain`` or ``read_noise`` is out of range, the gain asks for more than 1e18 photons, or the image
            does not hold finite real numbers.
    """
    if not (np.isfinite(gain) and gain > 0):
        raise ValueError(f"gain must be a finite number above 0, got {gain}.")
    if not (np.isfinite(read_noise) and read_noise >= 0):
        raise ValueError(f"read_noise must be a finite number of at least 0, got {read_noise}.")
    photons = np.maximum(_finite_unit(image).astype(np.float64), 0.0) / gain
    if photons.max(initial=0.0) > _LARGEST_COUNT:
        raise ValueError(f"A gain of {gain} means more than 1e18 photons in a pixel, which cannot be counted.")
    generator = np.random.default_rng(seed)
    counts = generator.poisson(photons)
    return np.asarray(gain * counts + read_noise * generator.standard_normal(counts.shape), dtype=np.float32)


def add_salt_and_pepper(image: ArrayLike, amount: float, seed: int) -> NDArray[np.float32]:
    """Impulse noise: each pixel, independently with probability ``amount``, becomes 0 or 1 with equal chance.

    With the same seed, a larger amount spoils the same pixels in the same way, and more.

    Args:
        image: Any shape. The last axis of three is that of the channels, which are spoilt together.
        amount: Expected share of spoilt pixels, in [0, 1].
        seed: Seed of ``numpy.random.default_rng``.

    Returns:
        The spoilt image, same shape; the other pixels as they were.

    Raises:
        ValueError: ``amount`` is out of range, or the image does not hold finite real numbers.
    """
    if not 0.0 <= amount <= 1.0:
        raise ValueError(f"amount must lie in [0, 1], got {amount}.")
    spoilt = _finite_unit(image)
    pixels = spoilt.shape[:2] if spoilt.ndim == 3 else spoilt.shape
    generator = np.random.default_rng(seed)
    is_hit = generator.random(pixels) < amount
    values = generator.integers(0, 2, pixels).astype(np.float32)
    spoilt[is_hit] = values[is_hit][:, None] if spoilt.ndim == 3 else values[is_hit]
    return spoilt


def compress_jpeg(image: ArrayLike, quality: int) -> NDArray[np.float32]:
    """The picture after a round through a JPEG file, clipped and rounded to 8 bits on the way in.

    Colour goes through YCbCr with Pillow's default for ordinary files, chrominance at half the resolution.

    Args:
        image: (M, N) or (M, N, 3).
        quality: libjpeg's scale of the quantisation tables, 1 (coarsest) to 100.

    Returns:
        The same shape, multiples of 1/255 in [0, 1].

    Raises:
        ValueError: ``quality`` is no integer in that range, or the image has another shape, no pixels, a side above
            65500 or values that are not finite real numbers.
    """
    from PIL import Image

    if isinstance(quality, bool) or not isinstance(quality, Integral) or not 1 <= quality <= 100:
        raise ValueError(f"quality must be a whole number from 1 to 100, got {quality!r}.")
    unit = _finite_unit(image)
    if unit.ndim != 2 and not (unit.ndim == 3 and unit.shape[2] == 3):
        raise ValueError(f"A JPEG file holds (M, N) or (M, N, 3), got shape {unit.shape}.")
    if not 1 <= min(unit.shape[:2]) <= max(unit.shape[:2]) <= _LARGEST_JPEG_SIDE:
        raise ValueError(f"A JPEG file has 1 to {_LARGEST_JPEG_SIDE} pixels a side, got shape {unit.shape}.")
    file = io.BytesIO()
    Image.fromarray(np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8)).save(file, "JPEG", quality=int(quality))
    with Image.open(file) as decoded:
        return to_unit(np.asarray(decoded))


def _finite_unit(image: ArrayLike) -> NDArray[np.float32]:
    """A new float32 array on the [0, 1] scale."""
    pixels = np.asarray(image)
    if pixels.dtype.kind not in "biuf":
        raise ValueError(f"The image must hold real numbers, got an array of {pixels.dtype}.")
    check_finite(pixels)
    return to_unit(pixels)
