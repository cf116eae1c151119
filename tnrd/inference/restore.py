"""Restore one picture: :func:`denoise` for arrays, :func:`restore` tile by tile for pixels of any depth."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from tnrd.inference.choice import weights_for
from tnrd.inference.cuda_graph import recorded
from tnrd.inference.determinism import ordered_convolutions
from tnrd.inference.levels import NoiseLevel, estimate_noise, given_noise
from tnrd.inference.loading import configured, device_of, load
from tnrd.inference.planes import picture_of, planes_of
from tnrd.inference.tiling import split
from tnrd.model import TNRD
from tnrd.pixels import as_pixels, channels_equal, from_unit, to_unit

# Largest side of a tile. On the CPU, time per pixel hardly varies between 384 and 768, what this leads to: below,
# the halo costs more, above, the states fall out of the cache. A GPU takes as much as fills it.
DEFAULT_TILE = {"cpu": 768, "cuda": 2048, "mps": 1024}

Progress = Callable[[int, int], None]


class NumericalError(ValueError):
    """A computation left the range of floating point; nothing of its result is kept."""


def denoise(
    image: ArrayLike,
    sigma: float | Sequence[float] | NDArray[Any] | None = None,
    *,
    span: float | None = None,
    model: str | Path | TNRD = "default",
    channel_axis: int | None = None,
    strength: float = 1.0,
    device: str = "auto",
    tile: int | None = None,
    engine: str = "auto",
) -> NDArray[np.float32]:
    """Denoise a picture by trained nonlinear reaction diffusion.

    The same image, weights, engine and tile give the same bytes; other tiles differ by float rounding only. A grey
    model denoises colour in luminance and chrominance (:mod:`tnrd.colour`); "fast", "default" and "best" mean models of
    colour for it, unless its noise is below 10/255, differs between channels or is correlated between them. A picture
    whose channels are all equal is denoised as the grey picture that it is. Boundaries are mirrored. For the model, a
    picture of low contrast, or far beyond [0, 1], is brought to the contrast of photographs
    (:attr:`tnrd.inference.levels.NoiseLevel.amplification`).

    Args:
        image: (M, N), or three channels with ``channel_axis``. Floats are taken as they are, nominally in [0, 1];
            integers are scaled as scikit-image's ``img_as_float`` does.
        sigma: Standard deviation of the noise on the [0, 1] scale, whatever the dtype of the image: 25/255 rather than
            25. One value, one value a channel, or a map (M, N). Estimated from the image when None; for colour also
            how the noise divides among luminance and chrominance (:func:`tnrd.inference.levels.estimate_noise`).
        span: Difference between the brightest and the darkest parts on that scale; measured when None
            (:func:`tnrd.inference.levels.measured_span`). Parts of a picture, or frames of a film, that share it and
            ``sigma`` are denoised alike.
        model: "fast", "default" or "best", or another name of shipped weights; path of a .safetensors file; or a loaded
            model.
        channel_axis: The axis of the colour channels; None for a grey picture.
        strength: Where to stop the diffusion, in [0, 1]: the state at time strength * T of the model's T steps, linear
            between steps. 0 returns the image, 1 the full result.
        device: "auto" (the GPU if there is one; of a loaded model, where it lies), "cpu", "cuda" or "mps".
        tile: Largest side of the tiles that bound the memory; chosen by the device when None.
        engine: "auto", "torch", "numba" or "triton", see :mod:`tnrd.kernels.dispatch`.

    Returns:
        The shape of ``image``, float32 on the [0, 1] scale. Not clipped: values may leave [0, 1] a little.

    Raises:
        ValueError: An argument is out of range; the image has the wrong shape, no pixels, or values that are not
            finite; or the weights, device or engine cannot be used.

    Example:
        >>> import numpy as np
        >>> noisy = np.random.default_rng(0).normal(0.5, 0.1, (32, 32))
        >>> bool(denoise(noisy, sigma=0.1).std() < 0.05)
        True
    """
    pixels = as_pixels(image, channel_axis)
    check_strength(strength)
    if span is not None and not (np.isfinite(span) and span > 0):
        raise ValueError(f"span, between the brightest and the darkest parts, must be a positive number, got {span}.")
    noise = estimate_noise(pixels, span) if sigma is None else given_noise(sigma, pixels, span)
    if isinstance(model, TNRD):
        network = configured(model, device, engine)
    else:
        network = load(weights_for(model, pixels, noise), device, engine)
    out = restore(pixels, network, noise, strength=strength, tile=tile)
    if channel_axis is None:
        return out
    return np.ascontiguousarray(np.moveaxis(out.reshape(*out.shape[:2], -1), -1, channel_axis))


def restore(
    pixels: NDArray[Any],
    model: TNRD,
    noise: NoiseLevel,
    *,
    strength: float = 1.0,
    tile: int | None = None,
    dtype: type[np.generic] | np.dtype[Any] = np.float32,
    progress: Progress | None = None,
    find_grey: bool = True,
) -> NDArray[Any]:
    """Denoise pixels of any depth tile by tile, converting the depth of one tile at a time.

    Args:
        pixels: (M, N) or (M, N, 3) of any dtype that :func:`denoise` takes, finite.
        model: A grey model, or a colour model for (M, N, 3).
        noise: Its level.
        strength: As in :func:`denoise`.
        tile: As in :func:`denoise`.
        dtype: Of the result: float32 on the [0, 1] scale, or uint8 or uint16, rounded and clipped.
        progress: Called after each tile with the number of tiles done and their total.
        find_grey: Restore a picture whose channels are all equal as the grey picture that it is, if the model is grey.

    Returns:
        The shape of ``pixels``.

    Raises:
        ValueError: The model takes other channels, or ``strength`` or ``tile`` is out of range.
        NumericalError: The result is not finite.
    """
    (restored,) = restore_together(
        [pixels],
        model,
        [noise],
        strength=strength,
        tile=tile,
        dtype=dtype,
        progress=progress,
        find_grey=find_grey,
    )
    return restored


def restore_together(
    pictures: Sequence[NDArray[Any]],
    model: TNRD,
    noises: Sequence[NoiseLevel],
    *,
    strength: float = 1.0,
    tile: int | None = None,
    dtype: type[np.generic] | np.dtype[Any] = np.float32,
    progress: Progress | None = None,
    find_grey: bool = True,
) -> list[NDArray[Any]]:
    """Denoise pictures of one shape as one batch, which fills a GPU where they are small.

    Args:
        pictures: Like the pixels of :func:`restore`.
        noises: The level of each.

    Other arguments, results and errors are those of :func:`restore`.

    Raises:
        ValueError: The pictures differ in shape.
    """
    shapes = sorted({pixels.shape for pixels in pictures})
    if len(shapes) > 1:
        raise ValueError(f"Pictures that are restored together must have one shape, got {shapes}.")
    check_strength(strength)
    groups: dict[tuple[Any, ...], list[_Canvas]] = {}
    canvases = []
    for pixels, noise in zip(pictures, noises, strict=True):
        check_model(model, pixels)
        canvas = _canvas(pixels, noise, model, np.empty(pixels.shape, dtype), find_grey)
        canvases.append(canvas)
        groups.setdefault(canvas.kind, []).append(canvas)
    side, (height, width) = side_of_tiles(model, tile), shapes[0][:2]
    tiles = split(height, width, side, halo=model.dependence_radius, grid=model.config.cell)
    steps = itertools.product(groups.values(), tiles)
    with torch.inference_mode(), _reproducible(model):
        for done, (alike, part) in enumerate(steps, start=1):
            units = [to_unit(canvas.pixels[part.context]) for canvas in alike]
            if strength > 0 and alike[0].noise.levels.any():
                units = _restore_tiles(model, units, [canvas.noise.at(part.context) for canvas in alike], strength)
            for canvas, unit in zip(alike, units, strict=True):
                canvas.target[part.core] = from_unit(unit[part.inside], canvas.out.dtype)
            if progress is not None:
                progress(done, len(groups) * len(tiles))
    for canvas in canvases:
        if canvas.target is not canvas.out:
            canvas.out[..., 1:] = canvas.target[..., None]
    return [canvas.out for canvas in canvases]


@dataclass(frozen=True, eq=False)
class _Canvas:
    """A picture at work: of one with equal channels, only the first."""

    pixels: NDArray[Any]
    noise: NoiseLevel
    target: NDArray[Any]
    out: NDArray[Any]

    @property
    def kind(self) -> tuple[Any, ...]:
        """Pictures of one kind can share a batch."""
        noise = self.noise
        return self.pixels.ndim, noise.levels.shape, noise.planes is None, bool(noise.levels.any())


def _canvas(pixels: NDArray[Any], noise: NoiseLevel, model: TNRD, out: NDArray[Any], find_grey: bool) -> _Canvas:
    if not find_grey or pixels.ndim == 2 or model.config.channels > 1 or not channels_equal(pixels):
        return _Canvas(pixels, noise, out, out)
    # The noise of equal channels is one and the same: luminance and chrominance would see a third of its power.
    level = noise if noise.levels.ndim == 2 else NoiseLevel(noise.levels.mean(keepdims=True), span=noise.span)
    return _Canvas(pixels[..., 0], level, out[..., 0], out)


def check_strength(strength: float) -> None:
    """Raise ValueError unless ``strength`` lies in [0, 1]."""
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"strength must lie in [0, 1], got {strength}.")


def check_model(model: TNRD, pixels: NDArray[Any]) -> None:
    """Raise ValueError unless the model can restore these pixels."""
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if model.config.channels not in (1, channels):
        raise ValueError(f"The model takes {model.config.channels} channels, the image has {channels}.")


def side_of_tiles(model: TNRD, tile: int | None) -> int:
    """The side that ``tile`` means for a model; None takes the default of its device.

    Raises:
        ValueError: It is smaller than the model's cell.
    """
    if tile is None:
        return DEFAULT_TILE[device_of(model).type]
    if tile < model.config.cell:
        raise ValueError(f"tile must be at least {model.config.cell}, the side of the model's cells, got {tile}.")
    return tile


def _restore_tiles(
    model: TNRD, units: list[NDArray[np.float32]], noises: list[NoiseLevel], strength: float
) -> list[NDArray[np.float32]]:
    """Contexts of pictures of one kind on the [0, 1] scale, (h, w) or (h, w, 3) each."""
    parameter, network = next(model.parameters()), recorded(model)
    pictures = torch.from_numpy(np.stack(units)).to(parameter)
    parts = [planes_of(*pair, model.config.channels) for pair in zip(pictures, noises, strict=True)]
    # One plane after the other: together they would fall out of the cache, and need three times the memory.
    restored = [
        network(torch.stack([part.image for part in alike]), torch.stack([part.sigma for part in alike]), strength)
        for alike in zip(*parts, strict=True)
    ]
    together = [picture_of([plane[n] for plane in restored], noise) for n, noise in enumerate(noises)]
    array: NDArray[np.float32] = torch.stack(together).to("cpu", torch.float32).numpy()
    if not np.isfinite(array).all():
        raise NumericalError(
            "The result is not finite: the weights or the intensities are beyond what can be computed."
        )
    return list(array)


def _reproducible(model: TNRD) -> AbstractContextManager[Any]:
    """On an NVIDIA GPU, :func:`ordered_convolutions`."""
    return ordered_convolutions() if device_of(model).type == "cuda" else contextlib.nullcontext()
