"""The array contract: which arrays are pictures, and their depth to and from the [0, 1] scale."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def as_pixels(image: ArrayLike, channel_axis: int | None) -> NDArray[Any]:
    """The image as finite (M, N) or (M, N, 3)."""
    pixels = np.asarray(image)
    if pixels.dtype.kind not in "biuf":
        raise ValueError(f"The image must hold real numbers, got an array of {pixels.dtype}.")
    if channel_axis is None:
        if pixels.ndim != 2:
            raise ValueError(
                f"A grey image has the shape (M, N), got {pixels.shape}; for colour name its axis, as channel_axis=-1."
            )
    elif pixels.ndim != 3 or not -3 <= channel_axis <= 2:
        raise ValueError(f"A colour image has three axes, one of them channel_axis={channel_axis}, got {pixels.shape}.")
    else:
        pixels = np.moveaxis(pixels, channel_axis, -1)
        if pixels.shape[2] not in (1, 3):
            raise ValueError(
                f"The image must have 1 or 3 channels, got {pixels.shape[2]} along axis {channel_axis}; "
                "an alpha channel is to be left out."
            )
        pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    if pixels.size == 0:
        raise ValueError(f"The image has no pixels: its shape is {pixels.shape}.")
    if pixels.dtype.kind == "f":
        with np.errstate(over="ignore"):
            pixels = pixels.astype(np.float32, copy=False)
        check_finite(pixels)
    return pixels


def with_channels(pixels: NDArray[np.float32], channel_axis: int | None) -> NDArray[np.float32]:
    """(M, N) or (M, N, 3) as the image that :func:`as_pixels` was given: its inverse."""
    if channel_axis is None:
        return pixels
    return np.ascontiguousarray(np.moveaxis(pixels.reshape(*pixels.shape[:2], -1), -1, channel_axis))


def check_finite(pixels: NDArray[Any]) -> None:
    """Raise ValueError if floating-point pixels are NaN or infinite."""
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        count = pixels.size - int(np.isfinite(pixels).sum())
        raise ValueError(f"The image must be finite, got {count} values that are NaN or infinite: fill them first.")


def to_unit(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """A new float32 array on the [0, 1] scale, integers scaled as scikit-image's ``img_as_float`` does."""
    if pixels.dtype.kind not in "iu":
        return pixels.astype(np.float32)
    wide = np.float32 if pixels.dtype.itemsize <= 2 else np.float64
    unit: NDArray[Any] = np.multiply(pixels, unit_of(pixels.dtype), dtype=wide)
    if pixels.dtype.kind == "i":
        np.maximum(unit, -1, out=unit)
    return unit.astype(np.float32, copy=False)


def from_unit(unit: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Pixels of a depth from the [0, 1] scale: integers of at most 16 bits rounded and clipped, floats as they are."""
    if dtype.kind == "f":
        return unit.astype(dtype, copy=False)
    top = np.float32(np.iinfo(dtype).max)
    scaled = unit * top
    return np.clip(np.rint(scaled, out=scaled), np.float32(np.iinfo(dtype).min), top, out=scaled).astype(dtype)


def channels_equal(pixels: NDArray[Any]) -> bool:
    """Whether the three channels of a picture are the same, band by band so that a difference is found early."""
    band = 256
    return all(
        np.array_equal(rows[..., 0], rows[..., c])
        for start in range(0, len(pixels), band)
        for rows in (pixels[start : start + band],)
        for c in (1, 2)
    )


def unit_of(dtype: np.dtype[Any]) -> float:
    """What one step of the stored values is worth on the [0, 1] scale."""
    return 1.0 / float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0


def binned(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of 2 x 2 pixels; an odd last row or column is mirrored."""
    odd = [(0, length % 2) for length in pixels.shape[:2]] + [(0, 0)] * (pixels.ndim - 2)
    even = np.pad(pixels, odd, mode="edge")
    height, width = even.shape[0] // 2, even.shape[1] // 2
    return np.asarray(even.reshape(height, 2, width, 2, *even.shape[2:]).mean(axis=(1, 3)), dtype=np.float32)
