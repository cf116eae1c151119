"""Photon and read noise measured in the picture: how the variance of the noise rises with the intensity.

    var(f) = a u + s^2,    a the signal of one photon, s the read noise.

Overlapping blocks are sorted by their mean into groups of like intensity; in each, the estimator of :mod:`tnrd.noise`
finds the flat blocks and the variance of the noise in them; a line through the groups, weighted by what each of them
knows, gives a and s^2, none of them negative (Foi et al., IEEE TIP 17(10), 2008, fit the same line to wavelet
coefficients).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import uniform_filter
from scipy.optimize import nnls

from tnrd.noise import flat_noise_variance, least_flat, measure_blocks, stride_of
from tnrd.pixels import as_pixels, to_unit

_GROUPS = 24
_LEAST_BLOCKS = 150  # of a group whose variance is believed
_BLOCK = 8
_ROUNDS = 10  # of re-weighting


class PhotonNoise(NamedTuple):
    """The noise of a sensor.

    Attributes:
        gain: Signal of one photon, [0, 1] scale; 0 for noise that does not depend on the intensity.
        read_noise: Standard deviation at black, [0, 1] scale.
    """

    gain: float
    read_noise: float


def estimate_photon_noise(image: ArrayLike, *, channel_axis: int | None = None) -> PhotonNoise:
    """Gain and read noise from the noisy picture alone.

    Args:
        image: (M, N), or three channels with ``channel_axis``, which are taken to have the same noise; integers are
            scaled to [0, 1].
        channel_axis: The axis of the channels, None for grey.

    Returns:
        The two parameters. A picture of one intensity cannot tell them apart: its noise counts as read noise.

    Raises:
        ValueError: The image is smaller than 16 x 16, or no picture.
    """
    pixels = to_unit(as_pixels(image, channel_axis))
    if min(pixels.shape[:2]) < 2 * _BLOCK:
        raise ValueError(f"Photon noise needs a picture of at least 16 x 16 pixels, got {pixels.shape[:2]}.")
    channels = [pixels] if pixels.ndim == 2 else [pixels[..., c] for c in range(3)]
    curves = [noise_curve(channel) for channel in channels]
    means, variances, counts = (np.concatenate(parts) for parts in zip(*curves, strict=True))
    return _line(means, variances, counts)


def noise_curve(
    channel: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Variance of the noise by intensity.

    Args:
        channel: (M, N) on the [0, 1] scale.

    Returns:
        Mean intensity, variance of the noise and number of blocks of each group, (G,) each.
    """
    low, high = float(channel.min()), float(channel.max())
    if high - low < 1e-12:
        return np.array([low]), np.array([0.0]), np.array([1.0])
    texture, squares, extremes = measure_blocks(channel, low, high)
    stride = stride_of(channel.shape)
    # Means of the same blocks, from running sums over the picture.
    centre = _BLOCK // 2
    running = uniform_filter(channel.astype(np.float64), _BLOCK, mode="nearest")
    means = running[centre:, centre:][: channel.shape[0] - _BLOCK + 1, : channel.shape[1] - _BLOCK + 1]
    means = means[::stride, ::stride].ravel()
    usable = extremes <= 2  # clipped blocks would tell of too little noise at the ends
    if usable.sum() >= _LEAST_BLOCKS:
        texture, squares, means = texture[usable], squares[:, usable], means[usable]
    edges = np.quantile(means, np.linspace(0, 1, min(_GROUPS, max(1, means.size // _LEAST_BLOCKS)) + 1))
    group = np.clip(np.searchsorted(edges, means, side="right") - 1, 0, len(edges) - 2)
    found = []
    for g in range(len(edges) - 1):
        members = group == g
        if members.any():
            variance, flat = flat_noise_variance(texture[members], squares[:, members], least_flat(channel.shape))
            found.append((float(means[members][flat].mean()), variance * (high - low) ** 2, float(flat.sum())))
    levels, variances, counts = (np.array(column) for column in zip(*found, strict=True))
    return levels, variances, counts


def _line(means: NDArray[np.float64], variances: NDArray[np.float64], counts: NDArray[np.float64]) -> PhotonNoise:
    """var = a u + b by least squares with a, b >= 0, each group weighted by its own certainty and agreement."""
    means = np.maximum(means, 0)
    design = np.stack([means, np.ones_like(means)], axis=1)
    if np.ptp(means) < 1e-3:
        return PhotonNoise(0.0, float(np.sqrt(np.average(variances, weights=counts))))
    doubt = np.maximum(variances, 1e-12)
    weights = np.sqrt(counts) / doubt
    solution = np.zeros(2)
    for _ in range(_ROUNDS):
        solution, _ = nnls(design * weights[:, None], variances * weights)
        fitted = np.maximum(design @ solution, 1e-12)
        # The certainty of a variance is a share of it; groups far off the line, textured throughout, count less.
        excess = (variances - fitted) / fitted
        weights = np.sqrt(counts) / fitted / (1 + (excess / 0.15) ** 2)
    return PhotonNoise(float(solution[0]), float(np.sqrt(solution[1])))
