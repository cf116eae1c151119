"""White Gaussian noise: adding it reproducibly, and estimating its level from the noisy image alone.

The estimator goes back to Ponomarenko et al. (2007), in the form of Colom & Buades, "Analysis and extension of the
Ponomarenko et al. method", IPOL 3, 2013. An orthonormal transform turns white noise into independent coefficients of
one variance, sigma^2, while a picture lives in its low frequencies. So the low frequencies of a block tell whether the
block is flat and the high ones measure the noise; as the two are independent, choosing the quiet blocks does not bias
what is measured in them. Two things differ from the published method: the share of blocks that count as flat adapts
to the picture, and blocks with clipped pixels are left out.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tnrd.noise_blocks import (
    constant_parts,
    constant_squares,
    flat_noise_variance,
    least_flat,
    measure_blocks,
    pixels_in_blocks,
    without_frame,
)
from tnrd.pixels import unit_of

# A block counts as clipped with more than this many pixels at the channel's extremes (tolerating none would pick out
# blocks whose noise happens to be weak), and clipped blocks are left out when this share of all blocks remains.
MAX_CLIPPED = 2
_MIN_USABLE_SHARE = 0.01
# What is left between areas of one value is noise if of its blocks this share is flat (noise of 2 to 50 on the 8-bit
# scale on photographs: 0.001 to 0.5, most above 0.01; drawings, screenshots and JPEG without noise: at most 0.0001),
# and if their high frequencies vary by no more than this from their mean (most 0.02 to 0.2; 0.2 to 1.8).
_LEAST_FLAT_SHARE = 0.003
_MOST_UNEVEN = 0.2
# So much of the range of intensities would be plain to see on the areas of one value that a drawing has.
_STRONG = 3 / 255
# Within these bounds single precision neither overflows nor loses digits.
_LARGEST_VALUE = 1e30
_SMALLEST_RANGE = 1e-30


def add_noise(image: ArrayLike, sigma: float, seed: int) -> NDArray[np.float32]:
    """Add white Gaussian noise, f = u + sigma n with n ~ N(0, 1) at each sample, without clipping.

    The same image, sigma and seed give the same noise on every machine. The project's measurements draw it with
    ``seed = 1000 * s + index``, s the level on the 8-bit scale (``sigma = s / 255``) and index the image's place
    among the sorted file names of its folder.

    Args:
        image: Any shape. Floats are taken as they are (nominally in [0, 1]), integers are scaled as
            ``skimage.util.img_as_float`` does.
        sigma: Standard deviation of the noise on the [0, 1] scale.
        seed: Seed of ``numpy.random.default_rng``.

    Returns:
        The noisy image, same shape; values may leave [0, 1].

    Raises:
        ValueError: ``sigma`` is negative or not finite.
        TypeError: ``image`` does not hold real numbers.
    """
    if not (np.isfinite(sigma) and sigma >= 0):
        raise ValueError(f"sigma must be a finite number of at least 0, got {sigma}.")
    clean = _as_real_array(image)
    scaled = np.maximum(clean * unit_of(clean.dtype), -1.0) if clean.dtype.kind in "iu" else clean
    return np.asarray(scaled + sigma * np.random.default_rng(seed).standard_normal(clean.shape), dtype=np.float32)


def estimate_sigma(
    image: ArrayLike, *, channel_axis: int | None = None, average_sigmas: bool = False
) -> float | NDArray[np.float64]:
    """Estimate the standard deviation of white Gaussian noise from the noisy image alone.

    With c_k(b) the orthonormal 8x8 DCT coefficients of block b, L its low and H its high frequencies,

        sigma^2 = median over k in H of  mean over b in F of  c_k(b)^2,
        F       = {b : mean over k in L of c_k(b)^2 <= sigma^2},

    solved by iterating from the flattest blocks, the least that F may hold: 25, or 100 of a picture so small that all
    its overlapping blocks are taken. F is about half of the flat blocks; the median over frequencies ignores the few
    that a regular texture occupies. Of pictures above 256 x 256 pixels an even sub-sample of at most 2^16 blocks is
    taken, which bounds time and memory.

    Pixels equal to the smallest or largest value of their channel may have been clipped, as the noise of 8-bit
    pictures is at black and white. Blocks that hold more than two are left out if enough others remain. Noise
    clipped at both ends (above about 50 on the 8-bit scale) is underestimated.

    Pictures with a side below 8 pixels use blocks of that side. Below 16 pixels a side the estimate tends to be too
    low, by a third in the mean for 8x8; that of a single pixel is 0. A frame of one value, or two
    such frames one in the other, is left out. Noise that differs from place to place is measured where the picture is
    flattest: another area free of noise, unless it is the darkest or brightest, makes the picture count as free of it.

    Args:
        image: (M, N), or 3-D with ``channel_axis``. Floats are taken as they are, integers are scaled as
            ``skimage.util.img_as_float`` does.
        channel_axis: The axis of the channels, each of which is measured on its own; None for a grey image.
        average_sigmas: Give one number for all channels, their quadratic mean sqrt(mean(sigma_c^2)): the level of
            equal noise of the same energy. (scikit-image takes the plain mean, which is the same for equal noise.)

    Returns:
        Sigma on the [0, 1] scale: a float, or for colour without ``average_sigmas`` an array of shape (C,).

    Raises:
        ValueError: The image has no pixels, values that are not finite or beyond 1e30, or not the dimensions above.
        TypeError: ``image`` does not hold real numbers.
    """
    channels = _channels(_as_real_array(image), channel_axis)
    sigmas = np.array([_estimate_channel(channel) for channel in channels])
    if channel_axis is None:
        return float(sigmas[0])
    return float(np.sqrt(np.mean(sigmas**2))) if average_sigmas else sigmas


def estimate_sigma_of_planes(rgb: NDArray[Any], matrix: NDArray[Any]) -> NDArray[np.float64]:
    """As :func:`estimate_sigma`, of linear combinations of the channels.

    What is clipped, or has one value, is seen in the channels: it lies anywhere between the extremes of their
    combinations.

    Args:
        rgb: (M, N, C), floats.
        matrix: (P, C), a plane a row.

    Returns:
        Of the planes, (P,).
    """
    channels = np.ascontiguousarray(np.moveaxis(rgb, 2, 0))
    ignored = np.zeros(rgb.shape[:2], dtype=bool)
    for channel in channels:
        ignored |= (channel == channel.min()) | (channel == channel.max())
    if min(rgb.shape[:2]) >= 3:
        constant = np.logical_and.reduce([constant_squares(channel) for channel in channels])
        for row, column in itertools.product(range(3), range(3)):
            ignored[row : row + constant.shape[0], column : column + constant.shape[1]] |= constant
    planes = np.moveaxis(rgb @ matrix.T.astype(rgb.dtype), 2, 0)
    return np.array([_estimate_channel(plane, ignored) for plane in planes])


def _as_real_array(image: ArrayLike) -> NDArray[Any]:
    array = np.asarray(image)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"The image must hold integers or real floats, got dtype {array.dtype}.")
    return array.astype(np.float32) if array.dtype.kind == "b" else array


def _channels(image: NDArray[Any], channel_axis: int | None) -> NDArray[Any]:
    """The image as (C, M, N), without a copy."""
    dimensions = 2 if channel_axis is None else 3
    if image.ndim != dimensions:
        kind = "A grey image (channel_axis=None)" if channel_axis is None else "An image with a channel axis"
        raise ValueError(f"{kind} must have {dimensions} dimensions, got shape {image.shape}.")
    if image.size == 0:
        raise ValueError(f"The image has no pixels, got shape {image.shape}.")
    if channel_axis is None:
        return image[np.newaxis]
    if not -3 <= channel_axis < 3:
        raise ValueError(f"channel_axis must lie in [-3, 2] for an image of 3 dimensions, got {channel_axis}.")
    return np.moveaxis(image, channel_axis, 0)


def _estimate_channel(channel: NDArray[Any], ignored: NDArray[np.bool_] | None = None) -> float:
    """Sigma of one (M, N) channel on the [0, 1] scale; ``ignored`` pixels count as clipped."""
    low, high = float(channel.min()), float(channel.max())  # NaN if the channel holds one
    if not max(-low, high) < _LARGEST_VALUE:
        raise ValueError(f"The image must hold finite values below 1e30, got values from {low} to {high}.")
    if high - low < _SMALLEST_RANGE:
        return 0.0
    inside = without_frame(channel)
    channel = channel[inside]
    texture, squares, extremes = measure_blocks(channel, low, high)
    if ignored is not None:
        extremes = pixels_in_blocks(ignored[inside])
    blocks = _Blocks(texture, squares, least_flat(channel.shape))
    usable = blocks.usable(extremes <= MAX_CLIPPED)
    variance, is_noise = blocks.variance(usable)
    if not is_noise:
        # Areas of one value may be all that counts as flat; or what they leave is no noise, but a drawing.
        live = usable & ~constant_parts(channel)
        found, is_noise = blocks.variance(live) if np.count_nonzero(live) >= blocks.least else (0.0, False)
        if is_noise:
            variance = max(variance, found)
        elif math.sqrt(variance) > _STRONG and not usable.all():
            variance = min(variance, blocks.variance(np.ones_like(usable))[0])
    return math.sqrt(variance) * (high - low) * unit_of(channel.dtype)


class _Blocks(NamedTuple):
    """Of B blocks the texture (B,) and the squares of the high frequencies (K, B), and how many are flat at least."""

    texture: NDArray[np.float32]
    squares: NDArray[np.float32]
    least: int

    def usable(self, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Those that are wanted, if enough of them are; else all."""
        enough = np.count_nonzero(wanted) >= max(self.least, _MIN_USABLE_SHARE * wanted.size)
        return wanted if enough else np.ones_like(wanted)

    def variance(self, chosen: NDArray[np.bool_]) -> tuple[float, bool]:
        """The variance of the noise in chosen blocks, and whether it looks like white noise at all.

        Then many blocks have no more in the low frequencies than in the high ones, and those as much in each of these.
        Edges and letters, all that there is in a drawing between areas of one value, have neither.
        """
        texture, squares = self.texture, self.squares
        if not chosen.all():
            texture, squares = texture[chosen], squares[:, chosen]
        variance, flat = flat_noise_variance(texture, squares, self.least)
        by_frequency = squares[:, flat].mean(axis=1)
        is_even = by_frequency.std() <= _MOST_UNEVEN * by_frequency.mean()
        are_flat = np.count_nonzero(texture <= variance) >= _LEAST_FLAT_SHARE * texture.size
        return variance, bool(variance > 0 and is_even and are_flat)
