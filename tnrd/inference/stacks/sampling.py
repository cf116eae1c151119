"""The noise of a stack: of one kind, the same for all planes or one each, as a small Dask array beside it.

The array holds :class:`tnrd.inference.levels.NoiseLevel` objects, or for photon noise
:class:`tnrd.inference.stabilisation.Stabilisation`, and has the axes of the stack, of length 1 where all share one: so
Dask hands each block the noise of its own planes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np
from numpy.typing import NDArray

from tnrd.inference.levels import NoiseLevel, given_noise, measured_span
from tnrd.inference.noise_model import GAUSSIAN, POISSON_GAUSSIAN, NoiseModel
from tnrd.inference.stabilisation import Stabilisation, measured_white, stabilisation
from tnrd.pixels import check_finite, to_unit

PER_PLANE = "per-plane"
Sigma = float | str | Sequence[Any] | NDArray[Any] | None
OfPlane = NoiseLevel | Stabilisation
# Noise is estimated from the whole plane up to this side, beyond it from blocks spread evenly over it.
SAMPLE_SIDE = 1024
SAMPLE_BLOCK = 128
# Of so many planes the brightest tells the white that all share, and the widest the span.
SHARING_PLANES = 8


@dataclass(frozen=True, eq=False)
class StackNoiseModel:
    """What is assumed of the noise of a stack.

    Attributes:
        sigma: Of Gaussian noise: one number, or one a plane. For both kinds: None to estimate the noise once where it
            is not given, "per-plane" to estimate it in each plane.
        of_a_plane: What is known of each plane beside ``sigma``.
        span: Of Gaussian noise: difference between the brightest and the darkest parts, for all planes; None to measure
            it.

    Raises:
        ValueError: The two do not fit together.
    """

    sigma: Sigma
    of_a_plane: NoiseModel
    span: float | None = None

    def __post_init__(self) -> None:
        kind, gain = self.of_a_plane.kind, self.of_a_plane.gain
        if isinstance(self.sigma, str) and self.sigma != PER_PLANE:
            raise ValueError(f'sigma must be None, a number, "{PER_PLANE}" or one number a plane, got {self.sigma!r}.')
        if kind != GAUSSIAN and self.sigma is not None and not self.is_per_plane:
            raise ValueError(f"sigma belongs to Gaussian noise, got {self.sigma!r} for the noise {kind!r}.")
        if self.span is not None and (kind == POISSON_GAUSSIAN or self.is_per_plane):
            raise ValueError(f'span is for Gaussian noise, and not for "{PER_PLANE}", got {self.span}.')
        if self.span is not None and not (math.isfinite(self.span) and self.span > 0):
            raise ValueError(f"span must be a positive number, got {self.span}.")
        if gain is not None and self.is_per_plane:
            raise ValueError(f'"{PER_PLANE}" estimates gain and read noise, but a gain of {gain} is given.')

    @property
    def is_per_plane(self) -> bool:
        """Whether each plane has noise of its own, which is estimated."""
        return isinstance(self.sigma, str)


@dataclass(frozen=True)
class StackNoise:
    """The noise of the planes.

    Attributes:
        array: NoiseLevel or Stabilisation objects, of the stack's dimensions, with lengths 1 for the axes of a picture.
        binnings: How often the picture is binned 2 x 2, of the plane with the scarcest light.
    """

    array: da.Array
    binnings: int = 0


def noise_of(stack: da.Array, assumed: StackNoiseModel, *, colour: bool) -> StackNoise:
    """The noise of a stack.

    Args:
        stack: (..., M, N), or (..., M, N, 3) with ``colour``.
        assumed: What is known. Without ``sigma`` and ``gain``, the noise is estimated once, now, from the plane in the
            middle; white, for photon noise, is that of the brightest of planes spread evenly over the stack, and the
            span of intensities (:class:`tnrd.inference.levels.NoiseLevel`) that of the widest of them.
            "per-plane": Gaussian noise is estimated for each plane when it is denoised; photon noise and white of all
            planes now, since the halo depends on them. An array of the shape of the leading axes: one level for each
            plane; with ``colour`` also of that shape and 3 more, one for each channel.
        colour: Whether the last axis holds channels.

    Raises:
        ValueError: ``sigma`` has another shape or is out of range, or the estimate is.
    """
    picture = 3 if colour else 2
    leading, shape = stack.shape[: stack.ndim - picture], stack.shape[stack.ndim - picture :]
    if assumed.sigma is None:
        return _held([_shared(stack, leading, shape, assumed)], (1,) * len(leading), picture)
    if not assumed.is_per_plane:
        return _given(stack, assumed, leading, colour=colour)
    sample = sampled(stack, colour=colour)
    chunks = (*sample.chunks[: len(leading)], *((1,) for _ in range(picture)))
    meta = np.empty((0,) * stack.ndim, object)
    measured = da.map_blocks(_measure, sample, assumed.of_a_plane, shape, chunks=chunks, meta=meta)
    if assumed.of_a_plane.kind != POISSON_GAUSSIAN:
        return StackNoise(measured)
    return _held(list(measured.compute().ravel()), leading, picture)


def noise_array(noises: Sequence[OfPlane], leading: tuple[int, ...], picture: int) -> da.Array:
    """The noise of planes, in their order, as an array beside a stack whose pictures have ``picture`` axes."""
    shape = (*leading, *(1,) * picture)
    return da.from_array(_as_array(noises, shape), chunks=shape)


def sampled(stack: da.Array, *, colour: bool) -> da.Array:
    """What the noise of each plane is estimated from: the planes, or blocks spread evenly over them."""
    rows = stack.ndim - (3 if colour else 2)
    for axis in (rows, rows + 1):
        length = stack.shape[axis]
        if length > SAMPLE_SIDE:
            # Starts at multiples of 8, since a JPEG's own blocks are to be seen whole.
            starts = np.linspace(0, length - SAMPLE_BLOCK, SAMPLE_SIDE // SAMPLE_BLOCK).astype(int) // 8 * 8
            before = (slice(None),) * axis
            stack = da.concatenate([stack[(*before, slice(at, at + SAMPLE_BLOCK))] for at in starts], axis=axis)
    return stack.rechunk(dict.fromkeys(range(rows, stack.ndim), -1))


def _given(stack: da.Array, assumed: StackNoiseModel, leading: tuple[int, ...], *, colour: bool) -> StackNoise:
    """Given levels, checked; the span is measured when they are asked for."""
    levels = np.asarray(assumed.sigma)
    if levels.ndim and levels.shape not in ({leading, (*leading, 3)} if colour else {leading}):
        raise ValueError(
            f'sigma must be one number, one a plane (the shape {leading}) or "{PER_PLANE}", got the shape '
            f"{levels.shape}; maps are for single pictures (tnrd.denoise)."
        )
    example = np.zeros((1, 1, 3) if colour else (1, 1), np.float32)
    by_plane = levels[None] if levels.ndim == 0 else levels.reshape(math.prod(leading), *levels.shape[len(leading) :])
    noises = [given_noise(level, example, assumed.span or 1.0) for level in by_plane]
    leading_of_noises = (1,) * len(leading) if levels.ndim == 0 else leading
    if assumed.span is not None:
        return _held(noises, leading_of_noises, example.ndim)
    shape = (*leading_of_noises, *(1,) * example.ndim)
    spanning = dask.delayed(_spanning)(noises, shared_span(stack, colour=colour), shape)
    return StackNoise(da.from_delayed(spanning, shape, meta=np.empty((0,) * len(shape), object)))


def shared_span(stack: da.Array, *, colour: bool) -> Any:
    """The largest span of planes spread evenly over the stack, as a task."""
    return dask.delayed(max)([dask.delayed(_span)(sample) for sample in _spread_planes(stack, colour=colour)])


def _span(sample: NDArray[Any]) -> float:
    check_finite(sample)
    return measured_span(sample)


def _spanning(noises: list[NoiseLevel], span: float, shape: tuple[int, ...]) -> NDArray[Any]:
    """The noises with that span, as an array."""
    return _as_array([dataclasses.replace(noise, span=span) for noise in noises], shape)


def _as_array(noises: Sequence[OfPlane], shape: tuple[int, ...]) -> NDArray[Any]:
    held = np.empty(len(noises), object)
    held[:] = noises
    return held.reshape(shape)


def _held(noises: Sequence[OfPlane], leading: tuple[int, ...], picture: int) -> StackNoise:
    binnings = max(noise.binnings if isinstance(noise, Stabilisation) else 0 for noise in noises)
    return StackNoise(noise_array(noises, leading, picture), binnings)


def _measure(planes: NDArray[Any], assumed: NoiseModel, shape: tuple[int, ...]) -> NDArray[Any]:
    """The noise of each plane of a block of samples; ``shape`` is that of a plane."""
    leading = planes.shape[: planes.ndim - len(shape)]
    noises = np.empty((*leading, *(1,) * len(shape)), object)
    for index in np.ndindex(leading):
        noises[(*index, *(0,) * len(shape))] = _measured(planes[index], assumed, shape)
    return noises


def _shared(stack: da.Array, leading: tuple[int, ...], shape: tuple[int, ...], assumed: StackNoiseModel) -> OfPlane:
    """The noise of all planes, from the one in the middle."""
    colour = len(shape) == 3
    middle = sampled(stack[tuple(length // 2 for length in leading)], colour=colour).compute()
    check_finite(middle)
    noise = assumed.of_a_plane.of(middle)
    if isinstance(noise, NoiseLevel):
        span = assumed.span or (shared_span(stack, colour=colour).compute() if leading else noise.span)
        return dataclasses.replace(noise, span=span)
    white = measured_white(to_unit(middle), noise, shape)
    for lazy in _spread_planes(stack, colour=colour) if leading else ():
        sample = lazy.compute()
        check_finite(sample)
        white = max(white, measured_white(to_unit(sample), noise, shape))
    return stabilisation(to_unit(middle), noise, white, shape)


def _spread_planes(stack: da.Array, *, colour: bool) -> list[da.Array]:
    """Samples of a few planes spread evenly over the stack."""
    leading = stack.shape[: stack.ndim - (3 if colour else 2)]
    count = math.prod(leading)
    planes = np.unique(np.linspace(0, count - 1, min(count, SHARING_PLANES)).astype(int))
    places = [np.unravel_index(plane, leading) if leading else () for plane in planes]
    return [sampled(stack[place], colour=colour) for place in places]


def _measured(pixels: NDArray[Any], assumed: NoiseModel, shape: tuple[int, ...]) -> OfPlane:
    check_finite(pixels)
    noise = assumed.of(pixels)
    return noise if isinstance(noise, NoiseLevel) else stabilisation(to_unit(pixels), noise, shape=shape)
