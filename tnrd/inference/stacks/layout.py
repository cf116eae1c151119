"""Which axes of a stored array are a picture, and which count its planes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tnrd.inference.stacks.errors import VolumeError

Place = tuple[int | slice, ...]


@dataclass(frozen=True)
class Layout:
    """The axes of a stored array.

    Attributes:
        names: A letter an axis, as OME and tifffile name them: T, Z, C, Y, X, S for samples (colour), others.
        shape: Their lengths.
        rows: The position of the axis Y.
        columns: The position of the axis X.
        channel: The position of the colours, or None.
        leading: The positions of the others in the order in which they count the planes.
    """

    names: str
    shape: tuple[int, ...]
    rows: int
    columns: int
    channel: int | None
    leading: tuple[int, ...]

    @property
    def planes(self) -> int:
        """Number of pictures."""
        return math.prod(self.shape[axis] for axis in self.leading)

    @property
    def dyes(self) -> int:
        """Number of channels that are planes of their own."""
        return self.shape[self.names.index("C")] if "C" in self.names and self.names.index("C") != self.channel else 1

    @property
    def leading_shape(self) -> tuple[int, ...]:
        """Lengths of the axes that count the planes."""
        return tuple(self.shape[axis] for axis in self.leading)

    @property
    def picture(self) -> tuple[int, ...]:
        """(M, N) or (M, N, channels)."""
        return tuple(self.shape[axis] for axis in self._wanted)

    @property
    def _wanted(self) -> tuple[int, ...]:
        return (self.rows, self.columns) if self.channel is None else (self.rows, self.columns, self.channel)

    def place(self, plane: int, rows: slice, columns: slice) -> Place:
        """Where a part of a plane lies in the array."""
        index: list[int | slice] = [slice(None)] * len(self.shape)
        for axis, at in zip(self.leading, np.unravel_index(plane, self.leading_shape), strict=True):
            index[axis] = int(at)
        index[self.rows], index[self.columns] = rows, columns
        return tuple(index)

    def to_picture(self, part: NDArray[Any]) -> NDArray[Any]:
        """What lies at a place, as (m, n[, channels])."""
        kept = sorted(self._wanted)
        return part.transpose([kept.index(axis) for axis in self._wanted])

    def from_picture(self, picture: NDArray[Any]) -> NDArray[Any]:
        """The inverse of :meth:`to_picture`."""
        return picture.transpose([self._wanted.index(axis) for axis in sorted(self._wanted)])

    def permuted(self, order: Sequence[int]) -> Layout:
        """The same planes in an array whose axes are those of this one in another order."""
        position = {axis: at for at, axis in enumerate(order)}
        return Layout(
            "".join(self.names[axis] for axis in order),
            tuple(self.shape[axis] for axis in order),
            position[self.rows],
            position[self.columns],
            None if self.channel is None else position[self.channel],
            tuple(position[axis] for axis in self.leading),
        )


def layout_of(names: str, shape: tuple[int, ...], channel_axis: int | None) -> Layout:
    """The layout of named axes; the samples S are colours unless another axis is said to hold them.

    Raises:
        VolumeError: There are no axes Y and X, no such ``channel_axis``, no pixels, or neither 1 nor 3 colours.
    """
    if names.count("Y") != 1 or names.count("X") != 1:
        raise VolumeError(f"the axes {names!r} of shape {shape} hold no pictures: one Y and one X are needed.")
    if channel_axis is None:
        channel = names.index("S") if "S" in names else None
    elif not -len(shape) <= channel_axis < len(shape) or names[channel_axis] in "YX":
        raise VolumeError(f"there is no channel_axis={channel_axis} beside Y and X among the axes {names!r}.")
    else:
        channel = channel_axis % len(shape)
    if 0 in shape:
        raise VolumeError(f"it has no pixels: its shape is {shape}.")
    if channel is not None and shape[channel] not in (1, 3):
        raise VolumeError(f"colour has 3 channels, got {shape[channel]} along the axis {names[channel]} of {names!r}.")
    rows, columns = names.index("Y"), names.index("X")
    leading = tuple(axis for axis in range(len(shape)) if axis not in (rows, columns, channel))
    return Layout(names, shape, rows, columns, channel, leading)
