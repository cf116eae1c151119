"""Pictures with photon and read noise: stabilised, denoised as white noise, and brought back without bias."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tnrd.inference.choice import weights_for
from tnrd.inference.levels import given_noise
from tnrd.inference.loading import configured, load
from tnrd.inference.restore import Progress, check_strength, restore
from tnrd.inference.stabilisation import check_covered, given_photon_noise, stabilisation
from tnrd.model import TNRD
from tnrd.photon_noise import PhotonNoise, estimate_photon_noise
from tnrd.pixels import as_pixels, to_unit, with_channels


def denoise_photon_noise(
    image: ArrayLike,
    gain: float | None = None,
    read_noise: float | None = None,
    offset: float | None = None,
    *,
    white: float | None = None,
    model: str | Path | TNRD = "default",
    channel_axis: int | None = None,
    strength: float = 1.0,
    device: str = "auto",
    tile: int | None = None,
    engine: str = "auto",
) -> NDArray[np.float32]:
    """Denoise a picture whose noise is that of a sensor, var(f) = gain (u - offset) + read_noise^2.

    The generalised Anscombe transform (:mod:`tnrd.anscombe`) makes the noise white, of level one; the diffusion takes
    it away; the exact unbiased inverse leads back. Where light is so scarce that this noise is more than 68/255
    of what is white (some three photons there), the picture is binned 2 x 2 first, which is four times the photons,
    and the result is enlarged by cubic interpolation.

    Args:
        image: (M, N), or three channels with ``channel_axis``; floats nominally in [0, 1], integers are scaled to it.
        gain: Signal of one photon on the [0, 1] scale; estimated together with the read noise and the offset when None.
        read_noise: Standard deviation of the noise at black on that scale; 0 when only ``gain`` is given.
        offset: Intensity of black on that scale, which sensors add; 0 when only ``gain`` is given. It stays in the
            result.
        white: Intensity of the brightest parts, which the transform maps to 1, and by which it is decided whether
            light is scarce; the 0.999 quantile when None. Parts of a picture that share it are denoised alike.
        model: As in :func:`tnrd.denoise`, and so are ``strength``, ``device``, ``tile`` and ``engine``. The inverse
            is unbiased for what has no noise any more: with ``strength`` between 0 and 1, up to a quarter of a photon
            too bright.
        channel_axis: The axis of the colour channels, None for grey.

    Returns:
        The shape of ``image``, float32 on the [0, 1] scale, not clipped at 1; the image itself with ``strength`` 0.

    Raises:
        ValueError: An argument is out of range, or there is a read noise or an offset without a gain.

    Example:
        >>> import numpy as np
        >>> dark = np.random.default_rng(0).poisson(np.full((32, 32), 6.0)) / 20
        >>> bool(abs(denoise_photon_noise(dark, gain=1 / 20).mean() - 0.3) < 0.02)
        True
    """
    pixels = to_unit(as_pixels(image, channel_axis))
    check_strength(strength)
    if white is not None and not (np.isfinite(white) and white > 0):
        raise ValueError(f"white, the intensity of the brightest parts, must be a positive number, got {white}.")
    noise = given_photon_noise(gain, read_noise, offset) or photon_noise(pixels)
    if isinstance(model, TNRD):
        network = configured(model, device, engine)
    else:
        network = load(weights_for(model, pixels, noise), device, engine)
    out = restore_photon_noise(pixels, network, noise, white=white, strength=strength, tile=tile)
    return with_channels(out, channel_axis)


def photon_noise(pixels: NDArray[Any]) -> PhotonNoise:
    """The noise as estimated from (M, N) or (M, N, 3) pixels of any depth.

    Raises:
        ValueError: It cannot be measured, or no model covers it.
    """
    noise = estimate_photon_noise(pixels, channel_axis=None if pixels.ndim == 2 else -1)
    check_covered(noise)
    return noise


def restore_photon_noise(
    pixels: NDArray[np.float32],
    model: TNRD,
    noise: PhotonNoise,
    *,
    white: float | None = None,
    strength: float = 1.0,
    tile: int | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Restore (M, N) or (M, N, 3) pixels on the [0, 1] scale whose noise is known; see :func:`denoise_photon_noise`.

    Takes some 20 bytes a sample beside the picture.
    """
    if strength == 0:
        return pixels.copy()
    made = stabilisation(pixels, noise, white)
    unit = made.forward(pixels)
    clean = restore(
        unit, model, given_noise(made.level, unit, span=1.0), strength=strength, tile=tile, progress=progress
    )
    return made.inverse(clean, pixels.shape)
