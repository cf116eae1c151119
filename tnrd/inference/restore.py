"""Restore pixels of any depth tile by tile, one picture or several of one shape."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tnrd.inference.cuda_graph import recorded
from tnrd.inference.determinism import ordered_convolutions
from tnrd.inference.levels import NoiseLevel
from tnrd.inference.loading import device_of
from tnrd.inference.planes import picture_of, planes_of
from tnrd.inference.tiling import split
from tnrd.model import TNRD
from tnrd.pixels import channels_equal, from_unit, to_unit

# Largest side of a tile. On the CPU, time per pixel hardly varies between 384 and 768, what this leads to: below,
# the halo costs more, above, the states fall out of the cache. A GPU takes as much as fills it.
DEFAULT_TILE = {"cpu": 768, "cuda": 2048, "mps": 1024}

Progress = Callable[[int, int], None]


class NumericalError(ValueError):
    """A computation left the range of floating point; nothing of its result is kept."""


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
        pixels: (M, N) or (M, N, 3) of any dtype that :func:`tnrd.denoise` takes, finite.
        model: A grey model, or a colour model for (M, N, 3).
        noise: Its level.
        strength: As in :func:`tnrd.denoise`.
        tile: As in :func:`tnrd.denoise`.
        dtype: Of the result: float32 on the [0, 1] scale, or uint8, uint16 or int16, rounded and clipped.
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
