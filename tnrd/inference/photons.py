"""Pictures with photon and read noise: stabilised, denoised as white noise, and brought back without bias."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tnrd.anscombe import check_photon_noise, stabilise, stabilised_range, unstabilise
from tnrd.inference.levels import given_noise
from tnrd.inference.loading import configured, load
from tnrd.inference.restore import Progress, check_strength, restore
from tnrd.model import TNRD
from tnrd.photon_noise import PhotonNoise, estimate_photon_noise
from tnrd.pixels import as_pixels, binned, to_unit
from tnrd.weights import find_weights

# Up to here the models were trained. Stronger noise is first made weaker by adding up pixels, two by two.
_LARGEST_SIGMA = 75 / 255
_LEAST_SIDE = 16
_WHITE_QUANTILE = 0.999


def denoise_photon_noise(
    image: ArrayLike,
    gain: float | None = None,
    read_noise: float | None = None,
    *,
    model: str | Path | TNRD = "default",
    channel_axis: int | None = None,
    strength: float = 1.0,
    device: str = "auto",
    tile: int | None = None,
    engine: str = "auto",
) -> NDArray[np.float32]:
    """Denoise a picture whose noise is that of a sensor, var(f) = gain u + read_noise^2.

    The generalised Anscombe transform (:mod:`tnrd.anscombe`) makes the noise white, of level one; the diffusion takes
    it away; the exact unbiased inverse leads back. Where light is so scarce that the level exceeds 75 on the 8-bit
    scale after the transform, pixels are added up two by two first, which is four times the photons, and the result is
    enlarged by cubic interpolation.

    Args:
        image: (M, N), or three channels with ``channel_axis``; floats nominally in [0, 1], integers are scaled to it.
            Black is 0: an offset of the sensor is to be taken away first.
        gain: Signal of one photon on the [0, 1] scale; estimated together with the read noise when None.
        read_noise: Standard deviation of the noise at black on that scale; 0 when only ``gain`` is given.
        model: As in :func:`tnrd.denoise`, and so are ``strength``, ``device``, ``tile`` and ``engine``.
        channel_axis: The axis of the colour channels, None for grey.

    Returns:
        The shape of ``image``, float32 on the [0, 1] scale, not clipped at 1.

    Raises:
        ValueError: An argument is out of range, or a read noise without a gain.

    Example:
        >>> import numpy as np
        >>> dark = np.random.default_rng(0).poisson(np.full((32, 32), 6.0)) / 20
        >>> abs(denoise_photon_noise(dark, gain=1 / 20).mean() - 0.3) < 0.02
        True
    """
    pixels = to_unit(as_pixels(image, channel_axis))
    check_strength(strength)
    if isinstance(model, TNRD):
        network = configured(model, device, engine)
    else:
        network = load(find_weights(model), device, engine)
    noise = photon_noise(pixels, gain, read_noise)
    out = restore_photon_noise(pixels, network, noise, strength=strength, tile=tile)
    if channel_axis is None:
        return out
    return np.ascontiguousarray(np.moveaxis(out.reshape(*out.shape[:2], -1), -1, channel_axis))


def photon_noise(pixels: NDArray[np.float32], gain: float | None, read_noise: float | None) -> PhotonNoise:
    """The noise as given, checked, or estimated from (M, N) or (M, N, 3) pixels on the [0, 1] scale.

    Raises:
        ValueError: A parameter is out of range, or there is a read noise without a gain.
    """
    if gain is None:
        if read_noise is not None:
            raise ValueError(f"A read noise of {read_noise} says nothing without the gain; give both, or none.")
        return estimate_photon_noise(pixels, channel_axis=None if pixels.ndim == 2 else -1)
    noise = PhotonNoise(float(gain), float(read_noise or 0.0))
    check_photon_noise(*noise)
    return noise


def restore_photon_noise(
    pixels: NDArray[np.float32],
    model: TNRD,
    noise: PhotonNoise,
    *,
    strength: float = 1.0,
    tile: int | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Restore (M, N) or (M, N, 3) pixels on the [0, 1] scale whose noise is known; see :func:`denoise_photon_noise`.

    Takes some 30 bytes a sample beside the picture.
    """
    if noise.gain < 1e-6:  # a million photons at white: nothing that depends on the intensity
        plain = given_noise(noise.read_noise, pixels)
        return restore(pixels, model, plain, strength=strength, tile=tile, progress=progress)
    white = max(float(np.quantile(pixels, _WHITE_QUANTILE)), 10 * noise.gain, 1e-3)
    low, high = stabilised_range(*noise, white)
    sigma = 1 / (high - low)
    if sigma > _LARGEST_SIGMA and min(pixels.shape[:2]) >= 2 * _LEAST_SIDE:
        fewer = PhotonNoise(noise.gain / 4, noise.read_noise / 2)
        small = restore_photon_noise(binned(pixels), model, fewer, strength=strength, tile=tile, progress=progress)
        return enlarged(small, pixels.shape[:2])
    stabilised = ((stabilise(pixels, *noise) - low) / (high - low)).astype(np.float32)
    level = given_noise(min(sigma, 100 / 255), stabilised)
    restored = restore(stabilised, model, level, strength=strength, tile=tile, progress=progress)
    return unstabilise(low + (high - low) * restored.astype(np.float64), *noise).astype(np.float32)


def enlarged(pixels: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Twice as large, by cubic interpolation, cut to ``shape``."""
    import cv2

    height, width = pixels.shape[:2]
    twice = cv2.resize(pixels, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(twice[: shape[0], : shape[1]], dtype=np.float32)
