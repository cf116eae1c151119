"""Photon and read noise measured in the picture: how the variance of the noise rises with the intensity.

    var(f) = a (u - o) + s^2,    a the signal of one photon, s the read noise, o what the sensor adds to every pixel.

Overlapping blocks are sorted by their mean into groups of like intensity; in each, the estimator of :mod:`tnrd.noise`
finds the flat blocks and the variance of the noise in them; a line through the groups, weighted by what each of them
knows, gives a and s^2 - a o (Foi et al., IEEE TIP 17(10), 2008, fit the same line to wavelet coefficients). Where that
is negative there is an offset: the noise ends at an intensity above zero. The two cannot be told apart, and need not
be: the offset is taken for the least that explains the line, s = 0, and otherwise for none, o = 0.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tnrd.noise import MAX_CLIPPED
from tnrd.noise_blocks import (
    flat_noise_variance,
    least_flat,
    measure_blocks,
    stride_of,
    without_frame,
)
from tnrd.pixels import as_pixels, to_unit

_GROUPS = 24
_LEAST_BLOCKS = 150  # of a group whose variance is believed
_BLOCK = 8
_ROUNDS = 10  # of re-weighting
_LEAST_OFFSET = 2  # photons: less is not told from what the estimate is off by
_LEAST_CONTRAST = 1.5  # noise levels between the darkest and the brightest group; noise alone makes 0.5
_LEAST_SHARE = 1e-6  # of the largest variance: weaker noise does not count for more
_ONE_INTENSITY = 1e-3  # of the largest mean: groups that are no farther apart tell nothing about the gain


class PhotonNoise(NamedTuple):
    """The noise of a sensor.

    Attributes:
        gain: Signal of one photon, [0, 1] scale; 0 for noise that does not depend on the intensity.
        read_noise: Standard deviation at black, [0, 1] scale.
        offset: Intensity of black, [0, 1] scale, of a sensor that adds something to every pixel.
    """

    gain: float
    read_noise: float
    offset: float = 0.0


def estimate_photon_noise(image: ArrayLike, *, channel_axis: int | None = None) -> PhotonNoise:
    """Gain, read noise and offset from the noisy picture alone.

    Args:
        image: (M, N), or three channels with ``channel_axis``, which are taken to have the same noise; integers are
            scaled to [0, 1].
        channel_axis: The axis of the channels, None for grey.

    Returns:
        The parameters. A picture of one intensity cannot tell them apart: its noise counts as read noise.

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


def growth_with_brightness(noise: PhotonNoise, pixels: NDArray[np.float32]) -> float:
    """How many times as strong the noise is in the brightest parts of a picture as in the darkest."""
    dark, bright = np.quantile(pixels, [0.02, 0.98])
    variances = [noise.gain * max(0.0, float(u) - noise.offset) + noise.read_noise**2 for u in (dark, bright)]
    least = _LEAST_SHARE * variances[1]
    return math.sqrt(variances[1] / max(variances[0], least)) if least > 0 else 1.0


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
    channel = channel[without_frame(channel)]
    texture, squares, extremes = measure_blocks(channel, low, high)
    stride = stride_of(channel.shape)
    # Means of the same blocks, from running sums over the picture.
    running = cv2.blur(channel.astype(np.float64), (_BLOCK, _BLOCK), anchor=(0, 0))
    means = running[: channel.shape[0] - _BLOCK + 1, : channel.shape[1] - _BLOCK + 1]
    means = means[::stride, ::stride].ravel()
    usable = extremes <= MAX_CLIPPED  # clipped blocks would tell of too little noise at the ends
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
    """var = a u + b by least squares with a >= 0, each group weighted by its own certainty and agreement."""
    means = np.maximum(means, 0)
    if np.ptp(means) <= _ONE_INTENSITY * means.max() or not variances.any():
        return PhotonNoise(0.0, float(np.sqrt(np.average(variances, weights=counts))))
    unit = float(means.max())  # pictures of any scale are fitted alike
    means, variances = means / unit, variances / unit**2
    weights = np.sqrt(counts) / np.maximum(variances, _LEAST_SHARE * variances.max())
    slope = intercept = 0.0
    for _ in range(_ROUNDS):
        slope, intercept = _weighted_line(means, variances, weights)
        fitted = slope * means + intercept
        if not fitted.any():  # no noise at all
            return PhotonNoise(0.0, 0.0)
        fitted = np.maximum(fitted, _LEAST_SHARE * fitted.max())
        # The certainty of a variance is a share of it; groups far off the line, textured throughout, count less.
        excess = (variances - fitted) / fitted
        weights = np.sqrt(counts) / fitted / (1 + (excess / 0.15) ** 2)
    offset = max(0.0, -intercept) / slope if slope else 0.0
    contrast = np.ptp(means) / np.sqrt(np.average(variances, weights=counts))
    if offset <= _LEAST_OFFSET * slope or contrast < _LEAST_CONTRAST:
        slope, intercept = _weighted_line(means, variances, weights, rises_from_0=intercept < 0)
        offset = 0.0
    return PhotonNoise(unit * slope, unit * math.sqrt(max(0.0, intercept)), unit * offset)


def _weighted_line(
    x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64], rises_from_0: bool = False
) -> tuple[float, float]:
    """Slope a >= 0 and intercept b of least squares, a x + b >= 0 for all x; b = 0 where it rises from 0."""
    squares = weights**2
    if rises_from_0:
        return float(np.sum(squares * x * y) / np.sum(squares * x**2)), 0.0
    mean_x, mean_y = np.average(x, weights=squares), np.average(y, weights=squares)
    slope = float(np.average((x - mean_x) * (y - mean_y), weights=squares))
    slope /= max(float(np.average((x - mean_x) ** 2, weights=squares)), 1e-300)
    if slope <= 0:
        return 0.0, float(mean_y)
    intercept = float(mean_y - slope * mean_x)
    if slope * x.min() + intercept >= 0:
        return slope, intercept
    beyond = x - x.min()
    slope = float(np.sum(squares * beyond * y) / np.sum(squares * beyond**2))
    return slope, -slope * float(x.min())
