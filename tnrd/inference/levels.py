"""The noise level of a picture: checked when given, estimated when not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tnrd.inference.tiling import Area
from tnrd.pixels import to_unit, unit_of

# The models are trained up to 75/255; a third beyond that still gives sensible pictures.
MAX_SIGMA = 100 / 255
# Levels that differ by no more than this factor count as one. Measured planes of one level differ by up to a fifth,
# since chrominance is flatter than luminance.
_ALIKE, _PLANES_ALIKE = 1.1, 1.3
# Luminance and chrominance are measured on blocks of the picture, spread evenly over at most this side.
_SAMPLE_SIDE = 1024
_SAMPLE_BLOCK = 128
# The darkest and the brightest parts of a picture are quantiles of means over so many pixels a side: a hot pixel or a
# small star says little of the rest.
_PART, _QUANTILE = 4, 0.001
# Photographs, which models are trained on, span most of [0, 1]. Between these bounds a picture is left as it is.
_NARROW, _WIDE = 0.6, 1.5
# The strongest noise that models are trained on.
_STRONGEST = 75 / 255


@dataclass(frozen=True, eq=False)
class NoiseLevel:
    """Standard deviations of the noise, float32 on the [0, 1] scale.

    Attributes:
        levels: (1,), one for each channel (3,), or a map (M, N) for all channels.
        planes: Of luminance and the two chrominances (:func:`tnrd.colour.opponent_matrix`), (3,), where they
            were measured. None for noise that is independent from channel to channel, which ``levels`` tells all of.
        span: Difference between the brightest and the darkest parts of the whole picture (:func:`measured_span`).
    """

    levels: NDArray[np.float32]
    planes: NDArray[np.float32] | None = None
    span: float = 1.0

    @property
    def amplification(self) -> float:
        """The factor on picture and noise before a model sees them, which its result is divided by.

        A model expects the contrast of photographs beside the noise level that it is told. So a picture that spans less
        than 0.6, such as 12 bits in a file of 16, is brought to that, as far as the noise stays within what models are
        trained on; one that spans more than 1.5 is brought to span 1.
        """
        if self.has_own_scale:
            return 1 / self.span
        strongest = float(self.levels.max())
        if strongest == 0 or self.span >= _NARROW:
            return 1.0
        at_most = _STRONGEST / strongest
        return max(1.0, at_most if self.span * at_most <= _NARROW else _NARROW / self.span)

    @property
    def has_own_scale(self) -> bool:
        """Whether the picture lies far beyond [0, 1], so that there is no 8-bit scale of it."""
        return self.span > _WIDE

    @property
    def is_alike(self) -> bool:
        """Whether it is about the same in all channels and independent between them, as models of colour take it."""
        levels, planes = self.levels, self.planes
        if levels.shape == (3,) and levels.max() > _ALIKE * levels.min():
            return False
        return planes is None or bool(planes.max() <= _PLANES_ALIKE * planes.min())

    def at(self, area: Area) -> NoiseLevel:
        """The noise of a part of the picture."""
        return dataclasses.replace(self, levels=self.levels[area]) if self.levels.ndim == 2 else self


def estimate_noise(pixels: NDArray[Any], span: float | None = None) -> NoiseLevel:
    """Blind estimate of the noise level, channel by channel.

    The noise of demosaiced, JPEG or scanned colour pictures is shared by the channels, more in some than in others. So
    the planes are measured too: they divide the power that the channels have together. (The channels alone know its
    amount, since only they show what is clipped.)

    Args:
        pixels: (M, N) or (M, N, 3). A level within the rounding error of its depth counts as none; of integers, one
            beyond what the models cover counts as the most that they do.
        span: As in :func:`given_noise`.

    Raises:
        ValueError: The estimate lies beyond what the models cover, in floating point: it may have another scale.
    """
    from tnrd.noise import estimate_sigma

    levels = np.array(estimate_sigma(pixels, channel_axis=-1 if pixels.ndim == 3 else None), dtype=np.float32, ndmin=1)
    if pixels.dtype.kind in "iu":
        levels = np.minimum(levels, np.float32(MAX_SIGMA))
    span = measured_span(pixels) if span is None else span
    if not np.isfinite(levels).all() or levels.max() > _most(span):
        found = ", ".join(f"{255 * level:.1f}" for level in levels)
        raise ValueError(
            f"The estimated noise level, {found} on the 8-bit scale, exceeds the 100 that the models cover; give "
            "sigma, or scale the image to [0, 1]."
        )
    rounding = unit_of(pixels.dtype) / math.sqrt(12) if pixels.dtype.kind in "iu" else 0.0
    levels = np.where(levels > rounding, levels, np.float32(0.0))
    return NoiseLevel(levels, _divided(levels, pixels) if len(levels) == 3 and levels.any() else None, span)


def estimate_correlated_noise(pixels: NDArray[Any]) -> NoiseLevel:
    """The level, at most what the models cover, of white noise that covers noise correlated from pixel to pixel.

    Args:
        pixels: As in :func:`estimate_noise`.
    """
    from tnrd.correlated_noise import noise_across_scales

    scales = noise_across_scales(pixels, channel_axis=-1 if pixels.ndim == 3 else None)
    span = measured_span(pixels)
    return given_noise(min(max(scales), _most(span)), pixels, span)


def given_noise(
    sigma: float | Sequence[float] | NDArray[Any], pixels: NDArray[Any], span: float | None = None
) -> NoiseLevel:
    """A given noise level, checked: one value, one value a channel, or a map (M, N), a constant one as its value.

    Args:
        sigma: Standard deviation on the [0, 1] scale.
        pixels: (M, N) or (M, N, 3), the whole picture.
        span: Difference between its brightest and darkest parts on that scale; measured when None.

    Raises:
        ValueError: It has another shape, or leaves [0, 100/255], of a picture beyond [0, 1] in units of its span.
    """
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    levels = np.asarray(sigma)
    if levels.dtype.kind not in "fiu":
        raise ValueError(f"sigma must be a number, one a channel, or a map of the image's size, got {sigma!r}.")
    if levels.ndim == 0:
        levels = np.full(channels, levels)
    if levels.shape not in ((channels,), pixels.shape[:2]):
        raise ValueError(
            f"sigma must be one value, one of the image's {channels} channels each, or a map of shape "
            f"{pixels.shape[:2]}, got the shape {levels.shape}."
        )
    span = measured_span(pixels) if span is None else span
    if not np.isfinite(levels).all() or levels.min() < 0 or levels.max() > _most(span) * (1 + 1e-6):
        found = f"{levels.min():g}" if levels.min() == levels.max() else f"{levels.min():g} to {levels.max():g}"
        raise ValueError(f"sigma must lie in [0, 100/255] (intensities in [0, 1], whatever the dtype), got {found}.")
    if levels.ndim == 2 and levels.min() == levels.max():  # a map takes three times as long
        levels = np.full(channels, levels[0, 0])
    return NoiseLevel(levels.astype(np.float32), span=span)


def measured_span(pixels: NDArray[Any]) -> float:
    """Difference between the brightest and the darkest parts of a picture, on the [0, 1] scale.

    Parts are means over 4 x 4 pixels, and brightest and darkest are the quantiles 0.999 and 0.001 of them; of colour,
    the widest channel counts. Of a large picture, blocks spread evenly over it tell.

    Args:
        pixels: (M, N) or (M, N, 3), of any dtype.
    """
    import cv2

    sample = _sample(pixels)
    sample = sample if sample.dtype == np.float32 else to_unit(sample)
    rows, columns = (min(side, _PART) for side in sample.shape[:2])
    height, width = sample.shape[0] // rows, sample.shape[1] // columns
    whole = np.ascontiguousarray(sample[: height * rows, : width * columns])
    parts = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)  # means, for whole factors
    darkest, brightest = np.quantile(parts.reshape(height * width, -1), [_QUANTILE, 1 - _QUANTILE], axis=0)
    return float((brightest - darkest).max())


def _most(span: float) -> float:
    """The strongest noise that the models cover, of a picture of this span."""
    return MAX_SIGMA * (span if span > _WIDE else 1)


def _divided(levels: NDArray[np.float32], pixels: NDArray[Any]) -> NDArray[np.float32] | None:
    """Levels of the planes, of the same power as those of the channels."""
    from tnrd.colour import opponent_matrix
    from tnrd.noise import estimate_sigma_of_planes

    measured = estimate_sigma_of_planes(to_unit(_sample(pixels)), opponent_matrix().numpy()).astype(np.float32)
    if not measured.any():
        return None
    return np.asarray(measured * (np.linalg.norm(levels) / np.linalg.norm(measured)), dtype=np.float32)


def _sample(pixels: NDArray[Any]) -> NDArray[Any]:
    """The picture, or of a large one blocks spread evenly over it."""
    rows, columns = (_spread(length) for length in pixels.shape[:2])
    return pixels if len(rows) * len(columns) == pixels[..., :1].size else pixels[np.ix_(rows, columns)]


def _spread(length: int) -> NDArray[np.intp]:
    """Indices of evenly spread blocks, aligned to JPEG's 8 x 8; all indices where the side is short."""
    if length <= _SAMPLE_SIDE:
        return np.arange(length)
    starts = np.linspace(0, length - _SAMPLE_BLOCK, _SAMPLE_SIDE // _SAMPLE_BLOCK).astype(np.intp) // 8 * 8
    return np.asarray(starts[:, None] + np.arange(_SAMPLE_BLOCK)).ravel()
