"""How far a result is from the clean picture, estimated without the clean picture.

Stein's unbiased risk estimate for f = u + sigma n, n ~ N(0, 1) at each of N samples, and any differentiable F:

    E |F(f) - u|^2/N = E [ |F(f) - f|^2/N - sigma^2 + 2 sigma^2/N div F(f) ],     div F = sum_x d F(f)(x)/d f(x).

The divergence of a denoiser that is known only by its results is probed by a random picture b of independent entries
of mean 0 and variance 1, div F = E b.(F(f + eps b) - F(f))/eps as eps -> 0 (Ramani, Blu & Unser, "Monte-Carlo SURE",
IEEE TIP 17(9), 2008).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The probe's step in noise levels. A denoiser bends on the scale of the noise, and terms of even order in eps cancel
# in the mean over b: what is left is of order eps^2, far under the spread over b.
_STEP = 0.02
# Single precision rounds intensities by up to 6e-8 and a result of several steps by a few times that: with this step
# rounding adds a percent to a difference at one pixel, and nothing that counts to the mean over all.
_LEAST_STEP = 1e-4
_MSE_OF_ROUNDING = 1 / (12 * 255**2)


def monte_carlo_sure(
    denoise: Callable[[NDArray[Any]], NDArray[Any]],
    noisy: NDArray[np.floating],
    sigma: float,
    result: NDArray[np.floating] | None = None,
    seed: int = 0,
) -> float:
    """Estimate the mean squared error of a denoiser's result from the noisy picture alone.

        |F(f) - f|^2/N - sigma^2 + 2 sigma^2/N b.(F(f + eps b) - F(f))/eps,

    with b = +1 or -1, the choice of least variance, and eps = sigma/50, but at least 1e-4, so that float32 resolves
    the difference. It holds for white Gaussian noise of this very level that is not clipped; rounded pictures are near
    enough from about sigma = 1/255 on. The estimate spreads by about sigma^2 sqrt(2/N) around the true error and may
    come out near 0 or negative where the result is better than that; it is not cut off, so that means stay unbiased.

    Args:
        denoise: F, with the noise level fixed: one that measures it in its argument has another divergence. The same
            argument must give the same result.
        noisy: f, any shape that ``denoise`` takes, floats nominally in [0, 1].
        sigma: Standard deviation of the noise on the [0, 1] scale.
        result: F(f), if it is at hand; saves one of two calls.
        seed: Seed of b.

    Returns:
        The estimated mean squared error on the [0, 1] scale. Without noise the plain |F(f) - f|^2/N.

    Raises:
        ValueError: ``sigma`` is negative or not finite, ``noisy`` is empty or does not hold floats, or a result has
            another shape than the picture.

    Example:
        >>> noisy = 0.5 + 0.1 * np.random.default_rng(0).standard_normal((64, 64))
        >>> bool(abs(monte_carlo_sure(lambda f: 0.5 * f + 0.25, noisy, 0.1) - 0.05**2) < 4e-4)
        True
    """
    if not (np.isfinite(sigma) and sigma >= 0):
        raise ValueError(f"sigma must be a finite number of at least 0, got {sigma}.")
    if noisy.dtype.kind != "f" or noisy.size == 0:
        raise ValueError(f"The noisy picture must hold floats, got {noisy.dtype} of shape {noisy.shape}.")
    restored = _same_shape(denoise(noisy) if result is None else result, noisy)
    removed = float(np.mean((restored - noisy.astype(np.float64)) ** 2))
    if sigma == 0:
        return removed
    signs = np.random.default_rng(seed).integers(0, 2, noisy.shape) * 2.0 - 1.0
    step = max(_STEP * sigma, _LEAST_STEP)
    shifted = (noisy + step * signs).astype(noisy.dtype)
    answer = _same_shape(denoise(shifted), noisy) - restored
    divergence = float(np.mean(signs * answer)) / step
    return removed - sigma**2 + 2 * sigma**2 * divergence


def estimated_psnr(mse: float) -> float:
    """The PSNR that an estimated mean squared error means, 10 log10(1/mse) in dB.

    Args:
        mse: On the [0, 1] scale; may be negative, as estimates are.

    Returns:
        At most 58.9 dB, that of rounding to 8 bits: an estimate below it says no more than "better than can be seen".

    Raises:
        ValueError: ``mse`` is NaN.
    """
    if math.isnan(mse):
        raise ValueError("The mean squared error is not a number.")
    return -10 * math.log10(max(mse, _MSE_OF_ROUNDING))


def _same_shape(result: NDArray[Any], noisy: NDArray[Any]) -> NDArray[np.float64]:
    if np.shape(result) != noisy.shape:
        raise ValueError(f"The result must have the shape of the picture, {noisy.shape}, got {np.shape(result)}.")
    return np.asarray(result, dtype=np.float64)
