"""White Gaussian noise: adding it reproducibly, and estimating its level from the noisy image alone.

The estimator goes back to Ponomarenko et al. (2007), in the form of Colom & Buades, "Analysis and extension of the
Ponomarenko et al. method", IPOL 3, 2013. An orthonormal transform turns white noise into independent coefficients of
one variance, sigma^2, while a picture lives in its low frequencies. So the low frequencies of a block tell whether the
block is flat and the high ones measure the noise; as the two are independent, choosing the quiet blocks does not bias
what is measured in them. Two things differ from the published method: the share of blocks that count as flat adapts
to the picture, and blocks with clipped pixels are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from tnrd.moments import dct_basis
from tnrd.pixels import unit_of

_BLOCK = 8
# Below this many blocks the variance of a frequency is itself too uncertain; above it, only flat blocks are taken. With
# a stride of one, neighbours tell nearly the same, and more of them are needed.
_MIN_FLAT = 25
_MIN_FLAT_NEIGHBOURS = 100
# Bounds time and memory: 2^16 overlapping blocks are all of a 256 x 256 picture.
_MAX_BLOCKS = 1 << 16
_CHUNK = 1 << 13
# A block counts as clipped with more than this many pixels at the channel's extremes (tolerating none would pick out
# blocks whose noise happens to be weak), and clipped blocks are left out when this share of all blocks remains.
_MAX_EXTREME_PIXELS = 2
_MIN_USABLE_SHARE = 0.01
_FRAMES = 2
_MAX_ITERATIONS = 20
_TOLERANCE = 1e-4
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


def _estimate_channel(channel: NDArray[Any]) -> float:
    """Sigma of one (M, N) channel on the [0, 1] scale."""
    low, high = float(channel.min()), float(channel.max())  # NaN if the channel holds one
    if not max(-low, high) < _LARGEST_VALUE:
        raise ValueError(f"The image must hold finite values below 1e30, got values from {low} to {high}.")
    if high - low < _SMALLEST_RANGE:
        return 0.0
    channel = without_frame(channel)
    texture, squares, extremes = measure_blocks(channel, low, high)
    usable, least = extremes <= _MAX_EXTREME_PIXELS, least_flat(channel.shape)
    if not usable.all() and usable.sum() >= max(least, _MIN_USABLE_SHARE * usable.size):
        texture, squares = texture[usable], squares[:, usable]
    return float(np.sqrt(flat_noise_variance(texture, squares, least)[0])) * (high - low) * unit_of(channel.dtype)


def without_frame(channel: NDArray[Any]) -> NDArray[Any]:
    """The channel without rows and columns of one value at its sides, and once more without those that follow.

    A frame holds no noise, and would be all that counts as flat. At least 16 rows and columns stay, or all do.
    """
    inside = channel
    for _ in range(_FRAMES):
        for _ in range(4):  # the upper side, which turns
            differs = (inside != inside[0, 0]).any(axis=1)
            inside = np.rot90(inside[int(np.argmax(differs)) :])
    return inside if min(inside.shape) >= 2 * _BLOCK else channel


def measure_blocks(
    channel: NDArray[Any], low: float, high: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """Texture, squared high-frequency coefficients and number of extreme pixels of B blocks.

    Intensities are divided by ``high - low``, so that the estimate follows any scaling of the picture.

    Returns:
        The mean square of the low-frequency coefficients (B,), the squares of the high-frequency ones (K, B) and the
        count of pixels equal to ``low`` or ``high`` (B,).
    """
    shape = (min(_BLOCK, channel.shape[0]), min(_BLOCK, channel.shape[1]))
    stride = stride_of(channel.shape)
    fine, low_count = _high_frequencies(shape)
    windows = sliding_window_view(channel, shape)[::stride, ::stride]
    rows_at_once = max(1, _CHUNK // windows.shape[1])
    textures, squares, extremes = [], [], []
    for start in range(0, windows.shape[0], rows_at_once):
        # (pixel row, pixel column, block row, block column): copies then run along the rows of the picture.
        blocks = windows[start : start + rows_at_once].transpose(2, 3, 0, 1)
        steps = _steps_within(blocks, high - low)
        noisy = (fine @ steps) ** 2
        # Parseval: the low frequencies hold what is left of the block's variance.
        energy = np.einsum("pb,pb->b", steps, steps) - steps.sum(axis=0) ** 2 / len(steps)
        textures.append(np.maximum(energy - noisy.sum(axis=0), 0) / max(1, low_count))
        squares.append(noisy)
        extremes.append(_count_extremes(blocks, low, high))
    return np.concatenate(textures), np.concatenate(squares, axis=1), np.concatenate(extremes)


def _steps_within(blocks: NDArray[Any], scale: float) -> NDArray[np.float32]:
    """Differences from each block's first pixel, over ``scale``, as (pixels, blocks).

    The DCT without its constant does not see the subtraction, but it keeps weak noise on a bright picture exact in
    float32, and a constant block exactly zero.
    """
    steps = np.empty(blocks.shape, dtype=np.float32)
    wide = np.promote_types(blocks.dtype, np.float32)
    np.subtract(blocks, blocks[:1, :1], out=steps, dtype=wide, casting="same_kind")
    steps *= np.float32(1.0 / scale)
    return steps.reshape(blocks.shape[0] * blocks.shape[1], -1)


def _count_extremes(blocks: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    is_extreme = (blocks == low) | (blocks == high)
    counts: NDArray[np.uint8] = is_extreme.reshape(blocks.shape[0] * blocks.shape[1], -1).sum(axis=0, dtype=np.uint8)
    return counts


def stride_of(shape: tuple[int, ...]) -> int:
    """The stride of the blocks of a channel, (M, N)."""
    return block_stride(*(side - min(_BLOCK, side) + 1 for side in shape))


def least_flat(shape: tuple[int, ...]) -> int:
    """How many blocks of a channel, (M, N), are measured at least."""
    return _MIN_FLAT_NEIGHBOURS if stride_of(shape) == 1 else _MIN_FLAT


def block_stride(rows: int, columns: int) -> int:
    """The smallest odd stride of blocks that leaves at most ``_MAX_BLOCKS`` blocks.

    Odd, so that all positions relative to the 8x8 grid of a JPEG file occur equally often.
    """
    stride = 1
    while -(-rows // stride) * -(-columns // stride) > _MAX_BLOCKS:
        stride += 2
    return stride


def _high_frequencies(shape: tuple[int, int]) -> tuple[NDArray[np.float32], int]:
    """High frequencies of the orthonormal 2-D DCT, as rows over the block's pixels, and the number of low ones.

    High means (i + 1/2)/rows + (j + 1/2)/columns >= 5/4 for the frequency (i, j), for 8x8 the 21 with i + j >= 9. The
    constant is neither.
    """
    basis = np.kron(dct_basis(shape[0]), dct_basis(shape[1])).astype(np.float32)
    i, j = np.indices(shape)
    high = ((i + 0.5) / shape[0] + (j + 0.5) / shape[1] >= 1.25).ravel()
    return basis[high], int(np.count_nonzero(~high)) - 1


def flat_noise_variance(
    texture: NDArray[np.float32], squares: NDArray[np.float32], least: int
) -> tuple[float, NDArray[np.bool_]]:
    """Iterate variance -> flat blocks -> variance, from the flattest blocks, to the fixed point.

    Args:
        texture: Mean square of the low frequencies of B blocks, (B,).
        squares: Squares of their high frequencies, (K, B).
        least: That many count as flat at least.

    Returns:
        The variance of the noise, and which blocks counted as flat, (B,).
    """
    least = min(least, texture.size)
    flattest = np.zeros(texture.size, dtype=bool)
    flattest[np.argpartition(texture, least - 1)[:least]] = True
    flat, variance = flattest, _median_of_means(squares, flattest)
    for _ in range(_MAX_ITERATIONS):
        flat = texture <= variance
        if np.count_nonzero(flat) < least:
            flat = flattest
        previous, variance = variance, _median_of_means(squares, flat)
        if abs(variance - previous) <= _TOLERANCE * variance:
            break
    return variance, flat


def _median_of_means(squares: NDArray[np.float32], chosen: NDArray[np.bool_]) -> float:
    # A product with 0 and 1 is ten times faster than copying the chosen columns.
    return float(np.median(squares @ chosen.astype(np.float32))) / np.count_nonzero(chosen)
