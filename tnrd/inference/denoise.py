"""Denoise an array: :func:`denoise`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tnrd.inference.choice import weights_for
from tnrd.inference.levels import estimate_noise, given_noise
from tnrd.inference.loading import configured, load
from tnrd.inference.noise_model import GAUSSIAN, Noise, NoiseModel, restore_noisy
from tnrd.inference.restore import check_strength
from tnrd.model import TNRD
from tnrd.pixels import as_pixels, with_channels


def denoise(
    image: ArrayLike,
    sigma: float | Sequence[float] | NDArray[Any] | None = None,
    *,
    noise: str = GAUSSIAN,
    span: float | None = None,
    model: str | Path | TNRD = "default",
    channel_axis: int | None = None,
    strength: float = 1.0,
    device: str = "auto",
    tile: int | None = None,
    engine: str = "auto",
) -> NDArray[np.float32]:
    """Denoise a picture by trained nonlinear reaction diffusion.

    The same image, weights, engine and tile give the same bytes; other tiles differ by float rounding only. A grey
    model denoises colour in luminance and chrominance (:mod:`tnrd.colour`); "fast", "default" and "best" mean models of
    colour for it, unless its noise is below 10/255, differs between channels or is correlated between them. A picture
    whose channels are all equal is denoised as the grey picture that it is. Boundaries are mirrored. For the model, a
    picture of low contrast, or far beyond [0, 1], is brought to the contrast of photographs
    (:attr:`tnrd.inference.levels.NoiseLevel.amplification`).

    Args:
        image: (M, N), or three channels with ``channel_axis``. Floats are taken as they are, nominally in [0, 1];
            integers are scaled as scikit-image's ``img_as_float`` does.
        sigma: Standard deviation of the noise on the [0, 1] scale, whatever the dtype of the image: 25/255 rather than
            25. One value, one value a channel, or a map (M, N). Estimated from the image when None; for colour also
            how the noise divides among luminance and chrominance (:func:`tnrd.inference.levels.estimate_noise`).
        noise: "gaussian", white noise; "correlated", as in a camera's JPEG or a scan: the level is measured at lower
            resolution (:class:`tnrd.inference.noise_model.NoiseModel`); or "poisson-gaussian", photon and read noise as
            estimated by :func:`tnrd.denoise_photon_noise`, which takes what is known of them. The last two without
            ``sigma``.
        span: Difference between the brightest and the darkest parts on that scale; measured when None
            (:func:`tnrd.inference.levels.measured_span`). Parts of a picture, or frames of a film, that share it and
            ``sigma`` are denoised alike.
        model: "fast", "default" or "best", or another name of shipped weights; path of a .safetensors file; or a loaded
            model.
        channel_axis: The axis of the colour channels; None for a grey picture.
        strength: Where to stop the diffusion, in [0, 1]: the state at time strength * T of the model's T steps, linear
            between steps. 0 returns the image, 1 the full result.
        device: "auto" (the GPU if there is one; of a loaded model, where it lies), "cpu", "cuda" or "mps".
        tile: Largest side of the tiles that bound the memory; chosen by the device when None.
        engine: "auto", "torch", "numba" or "triton", see :mod:`tnrd.kernels.dispatch`.

    Returns:
        The shape of ``image``, float32 on the [0, 1] scale. Not clipped: values may leave [0, 1] a little.

    Raises:
        ValueError: An argument is out of range; the image has the wrong shape, no pixels, or values that are not
            finite; or the weights, device or engine cannot be used.

    Example:
        >>> import numpy as np
        >>> noisy = np.random.default_rng(0).normal(0.5, 0.1, (32, 32))
        >>> bool(denoise(noisy, sigma=0.1).std() < 0.05)
        True
    """
    pixels = as_pixels(image, channel_axis)
    check_strength(strength)
    if span is not None and not (np.isfinite(span) and span > 0):
        raise ValueError(f"span, between the brightest and the darkest parts, must be a positive number, got {span}.")
    if noise == GAUSSIAN:
        found: Noise = estimate_noise(pixels, span) if sigma is None else given_noise(sigma, pixels, span)
    elif sigma is not None or span is not None:
        raise ValueError(f"sigma and span are for the noise {GAUSSIAN!r}, got {noise!r}.")
    else:
        found = NoiseModel(noise).of(pixels)
    if isinstance(model, TNRD):
        network = configured(model, device, engine)
    else:
        network = load(weights_for(model, pixels, found), device, engine)
    return with_channels(restore_noisy(pixels, network, found, strength=strength, tile=tile), channel_axis)
