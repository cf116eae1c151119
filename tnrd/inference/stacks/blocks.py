"""What :func:`tnrd.denoise_array` and :func:`tnrd.denoise_volume` compute: an array block by block, as if whole.

A pixel of the result depends on pixels at most :attr:`tnrd.model.TNRD.dependence_radius` away. So each block is
computed from a context that reaches this halo beyond it (``dask.array.map_overlap``), or ends at the border of the
picture, where the model mirrors as it would untiled. Blocks begin at multiples of the model's grid. Where photons are
so few that pixels are binned (:mod:`tnrd.inference.stabilisation`), grid and halo are those of the larger pixels.
"""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from tnrd.inference.levels import NoiseLevel, given_noise
from tnrd.inference.restore import check_strength, restore, side_of_tiles
from tnrd.inference.stabilisation import reach
from tnrd.inference.stacks.reference import ModelReference, refer
from tnrd.inference.stacks.sampling import OfPlane, StackNoise, StackNoiseModel, noise_of
from tnrd.model import TNRD
from tnrd.pixels import check_finite, from_unit, to_unit

# Side of the blocks that an array without chunks is cut into.
DEFAULT_CHUNK = 768
# The compiled kernels use all threads that they may; the other threads of a process read and pack meanwhile.
_TURN = threading.Lock()


def lazily(
    array: Any,
    assumed: StackNoiseModel,
    model: str | Path,
    strength: float,
    channel_axis: int | None,
    min_chunk: int,
    device: str,
    engine: str,
) -> da.Array:
    """The result of :func:`tnrd.denoise_array`, which says what the arguments are."""
    check_strength(strength)
    if min_chunk < 1:
        raise ValueError(f"min_chunk must be at least 1, got {min_chunk}.")
    stack = _as_dask(array)
    check_dtype(stack.dtype)
    reference, network = refer(model, device, engine)
    stack, axis = _channels_last(stack, channel_axis)
    coloured = axis is not None and stack.shape[-1] == 3
    if axis is not None and not coloured:
        stack = stack[..., 0]
    if 0 in stack.shape:
        raise ValueError(f"The array has no pixels: its shape is {stack.shape}.")
    check_channels(network, coloured)
    noise = noise_of(stack, assumed, colour=coloured)
    result = restored(stack, noise, reference, network, strength=strength, colour=coloured, min_chunk=min_chunk)
    if axis is None:
        return result
    return da.moveaxis(result if coloured else result[..., None], -1, axis)


def restored(
    stack: da.Array,
    noise: StackNoise,
    reference: ModelReference,
    network: TNRD,
    *,
    strength: float,
    colour: bool,
    min_chunk: int,
) -> da.Array:
    """The lazy result for (..., M, N[, 3]) and its noise (:func:`tnrd.inference.stacks.sampling.noise_of`)."""
    margin = halo(network, noise.binnings)
    rows = stack.ndim - (3 if colour else 2)
    least = max(min_chunk, margin)
    wanted = {axis: aligned(stack.chunks[axis], least, grid(network, noise.binnings)) for axis in (rows, rows + 1)}
    stack = stack.rechunk({**wanted, **({stack.ndim - 1: -1} if colour else {})})
    # One for all is broadcast; else each block of planes gets its own.
    of_planes = noise.array.rechunk({axis: stack.chunks[axis] for axis in range(rows) if noise.array.shape[axis] > 1})
    depth = {axis: margin if axis in wanted and len(wanted[axis]) > 1 else 0 for axis in range(stack.ndim)}
    dtype = stored_dtype(stack.dtype)
    return da.map_overlap(
        _restore_block,
        stack,
        of_planes,
        depth=[depth, dict.fromkeys(range(stack.ndim), 0)],
        boundary="none",
        meta=np.empty((0,) * stack.ndim, dtype),
        reference=reference,
        strength=strength,
        colour=colour,
    )


def halo(network: TNRD, binnings: int) -> int:
    """Pixels that a context reaches beyond its block: what a result depends on, in whole cells of the grid."""
    side = grid(network, binnings)
    return -(-reach(network.dependence_radius, binnings) // side) * side


def grid(network: TNRD, binnings: int) -> int:
    """Blocks and contexts begin at its multiples: the model's cell, of pixels that were binned ``binnings`` times."""
    return int(network.config.cell * 2**binnings)


def aligned(chunks: tuple[int, ...], least: int, grid: int) -> tuple[int, ...]:
    """Chunks along an axis merged to at least ``least``, their borders moved down to multiples of ``grid``."""
    length = sum(chunks)
    cuts = [0]
    for border in itertools.accumulate(chunks):
        cut = border // grid * grid
        if cut - cuts[-1] >= max(least, 1) and length - cut >= least and cut < length:
            cuts.append(cut)
    return tuple(stop - start for start, stop in itertools.pairwise([*cuts, length]))


def check_dtype(dtype: np.dtype[Any]) -> None:
    """Raise ValueError unless samples of this dtype can be denoised and given back."""
    if dtype.newbyteorder("=") not in (np.uint8, np.uint16, np.int16) and dtype.kind != "f":
        raise ValueError(
            f"The array must hold uint8, uint16, int16 or floating-point numbers, got {dtype}: convert it to float32."
        )


def check_channels(network: TNRD, colour: bool) -> None:
    """Raise ValueError unless the model takes such pictures."""
    if network.config.channels not in (1, 3 if colour else 1):
        raise ValueError(f"The model takes {network.config.channels} channels, the pictures have {3 if colour else 1}.")


def stored_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of the result."""
    return np.dtype(np.float32) if dtype.kind == "f" else dtype.newbyteorder("=")


def _as_dask(array: Any) -> da.Array:
    if isinstance(array, da.Array):
        return array
    if not hasattr(array, "shape") or not hasattr(array, "dtype"):
        array = np.asarray(array)
    stored = getattr(array, "shards", None) or getattr(array, "chunks", None)
    if stored is None:
        stored = tuple(1 if axis < array.ndim - 3 else DEFAULT_CHUNK for axis in range(array.ndim))
    return da.from_array(array, chunks=stored)


def _channels_last(stack: da.Array, channel_axis: int | None) -> tuple[da.Array, int | None]:
    if channel_axis is None:
        if stack.ndim < 2:
            raise ValueError(f"A picture has two axes, got an array of shape {stack.shape}.")
        return stack, None
    if stack.ndim < 3 or not -stack.ndim <= channel_axis < stack.ndim:
        raise ValueError(f"There is no channel_axis={channel_axis} beside those of a picture in {stack.shape}.")
    if stack.shape[channel_axis] not in (1, 3):
        raise ValueError(
            f"Colour has 3 channels, got {stack.shape[channel_axis]} along axis {channel_axis}; an alpha channel is "
            "to be left out, and channels that are no colours are planes (channel_axis=None)."
        )
    return da.moveaxis(stack, channel_axis, -1), channel_axis % stack.ndim


def _restore_block(
    block: NDArray[Any], noise: NDArray[Any], *, reference: ModelReference, strength: float, colour: bool
) -> NDArray[Any]:
    """Each picture of a block, (..., h, w[, 3]), with its noise."""
    network = reference.network()
    picture = 3 if colour else 2
    leading = block.shape[: block.ndim - picture]
    noises: NDArray[Any] = np.broadcast_to(noise.reshape(noise.shape[: noise.ndim - picture]), leading)
    result = np.empty(block.shape, stored_dtype(block.dtype))
    for index in np.ndindex(leading):
        of_plane: OfPlane = noises[index]  # type: ignore[assignment]
        with _TURN:
            result[index] = _restore_picture(block[index], network, of_plane, strength, result.dtype)
    return result


def _restore_picture(
    pixels: NDArray[Any], network: TNRD, noise: OfPlane, strength: float, dtype: np.dtype[Any]
) -> NDArray[Any]:
    if pixels.dtype.kind == "f":
        pixels = pixels.astype(np.float32, copy=False)
        check_finite(pixels)
    if isinstance(noise, NoiseLevel):
        return _restore_white(pixels, network, noise, strength, dtype)
    unit = to_unit(pixels)
    if strength == 0:
        return from_unit(unit, dtype)
    unit = noise.forward(unit)
    clean = _restore_white(unit, network, given_noise(noise.level, unit, span=1.0), strength, unit.dtype)
    return from_unit(noise.inverse(clean, pixels.shape), dtype)


def _restore_white(
    pixels: NDArray[Any], network: TNRD, noise: NoiseLevel, strength: float, dtype: np.dtype[Any]
) -> NDArray[Any]:
    # A block of the usual size is one tile, context and all: its halo is paid for already.
    tile = side_of_tiles(network, None) + 2 * halo(network, 0)
    # What a block shows must not decide whether the picture is grey.
    return restore(pixels, network, noise, strength=strength, tile=tile, dtype=dtype, find_grey=False)
