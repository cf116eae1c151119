"""Image quality measures, one value per image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def round_to_8bit(image: NDArray[np.floating]) -> NDArray[np.float64]:
    """Clip an image to [0, 1] and round it to the 256 levels of an 8-bit file.

    Published PSNR values are those of 8-bit pictures, so the protocol of this project applies this to every
    result before it is scored.

    Args:
        image: Any shape, intensities nominally in [0, 1].

    Returns:
        The same shape, in [0, 1], each value a multiple of 1/255.
    """
    return np.rint(np.clip(np.asarray(image, dtype=np.float64), 0.0, 1.0) * 255.0) / 255.0


def psnr(reference: NDArray[np.floating], image: NDArray[np.floating]) -> float:
    """Peak signal-to-noise ratio, 10 log10(1 / mean((reference - image)^2)), in dB.

    Args:
        reference: The clean image, any shape, intensities in [0, 1] (peak value 1).
        image: The image to judge, same shape and range. Neither is clipped or rounded here.

    Returns:
        The PSNR in dB; infinity for identical images.

    Raises:
        ValueError: The shapes differ or the images are empty.
    """
    _require_same_shape(reference, image)
    difference = np.asarray(reference, dtype=np.float64) - np.asarray(image, dtype=np.float64)
    error = float(np.mean(difference**2))
    return float("inf") if error == 0.0 else float(-10.0 * np.log10(error))


def ssim(reference: NDArray[np.floating], image: NDArray[np.floating]) -> float:
    """Structural similarity with the constants of Wang et al., IEEE TIP 13(4), 2004.

    Gaussian window of standard deviation 1.5 cut to 11x11, population covariance, data range 1, as
    ``skimage.metrics.structural_similarity`` computes it; colour images give the mean over channels.

    Args:
        reference: The clean image, (M, N) or (M, N, C), intensities in [0, 1], at least 11 pixels a side.
        image: The image to judge, same shape and range.

    Returns:
        The mean structural similarity, at most 1.

    Raises:
        ValueError: The shapes differ, or the images are smaller than the window.
    """
    from skimage.metrics import structural_similarity

    _require_same_shape(reference, image)
    if min(reference.shape[:2]) < 11:
        raise ValueError(f"ssim needs at least 11 pixels a side for its window, got shape {reference.shape}.")
    value = structural_similarity(  # type: ignore[no-untyped-call]
        np.asarray(reference, dtype=np.float64),
        np.asarray(image, dtype=np.float64),
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=-1 if reference.ndim == 3 else None,
    )
    return float(value)


def _require_same_shape(reference: NDArray[np.floating], image: NDArray[np.floating]) -> None:
    if reference.shape != image.shape:
        raise ValueError(f"The two images must have one shape, got {reference.shape} and {image.shape}.")
    if reference.size == 0:
        raise ValueError("The images are empty.")
