"""Training losses, one value per batch."""

from __future__ import annotations

from torch import Tensor

SIGMA_OFFSET = 1 / 255


def weighted_mse(u: Tensor, clean: Tensor, sigma: Tensor) -> Tensor:
    """mean_n ||u_n - clean_n||^2 / (P (sigma_n + 1/255)), P the number of samples of an image.

    The error that remains after denoising grows about as sigma (exponent 1.06 to 1.09 for BM3D on natural images), so
    that this weight gives every noise level a like share of the gradient.

    Args:
        u: (..., N, C, H, W) results, intensities in [0, 1].
        clean: (N, C, H, W) ground truth.
        sigma: (N,) noise levels on the same scale.

    Returns:
        The shape of what precedes N, a scalar if nothing does.
    """
    error = ((u - clean) ** 2).flatten(-3).mean(-1)
    return (error / (sigma + SIGMA_OFFSET)).mean(-1)
