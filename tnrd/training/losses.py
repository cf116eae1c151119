"""Training losses, one value per batch."""

from __future__ import annotations

from torch import Tensor

SIGMA_OFFSET = 1 / 255
ERROR_OFFSET = 2e-4  # a fiftieth of what a mean crop has left; bounds the weight of crops without any structure


def weighted_mse(u: Tensor, clean: Tensor, sigma: Tensor, power: float = 1.0) -> Tensor:
    """mean_n ||u_n - clean_n||^2 / (P (sigma_n + 1/255)), P the number of samples of an image.

    The error that remains after denoising grows about as sigma (exponent 1.06 to 1.09 for BM3D on natural images), so
    that this weight gives every noise level a like share of the gradient.

    With a power p < 1 it is the mean of (that error + 2e-4)^p. PSNR being a logarithm, a decibel is worth as much in a
    flat crop as in one full of texture, where the error is ten times as large and would rule the gradient: with p = 1/2
    an error counts relative to its root, and as p -> 0 the gradient turns to that of the mean logarithm.

    Args:
        u: (..., N, C, H, W) results, intensities in [0, 1].
        clean: (N, C, H, W) ground truth.
        sigma: (N,) noise levels on the same scale.
        power: p.

    Returns:
        The shape of what precedes N, a scalar if nothing does.
    """
    error = ((u - clean) ** 2).flatten(-3).mean(-1)
    share = error / (sigma + SIGMA_OFFSET)
    return (share if power == 1 else (share + ERROR_OFFSET) ** power).mean(-1)
