"""A stack as OME-Zarr, written block by block and resumed after a crash.

A block is whole chunks of the array "0", and Zarr gives a chunk its name when it is complete: the chunks that are there
are the journal. The group's attribute ``tnrd`` says of what and how it was made; ``multiscales``, which makes it a
picture for other programs, is written when nothing is missing.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from tnrd.inference.stacks.calibration import Calibration, to_ome_zarr
from tnrd.inference.stacks.errors import VolumeTargetError, reported
from tnrd.inference.stacks.layout import Layout

UNWRITABLE = "the store cannot be written; what is complete is kept, and the same call goes on from there"
ARRAY = "0"
# The order of axes that NGFF asks for; others take the place of the channels, of which it knows one axis.
_ORDER = {"T": 0, "C": 1, "S": 1, "Z": 2, "Y": 3, "X": 4}


@dataclass(frozen=True)
class ZarrTarget:
    """A store that was begun; it travels to the workers as its path.

    Attributes:
        path: A folder that every process can write to.
        layout: Of the array.
        chunks: Lengths of its chunks.
    """

    path: str
    layout: Layout
    chunks: tuple[int, ...]

    def missing(self, plane: int, rows: slice, columns: slice) -> bool:
        """Whether any chunk of a block is still to be written."""
        place, spans = self.layout.place(plane, rows, columns), []
        for index, chunk, length in zip(place, self.chunks, self.layout.shape, strict=True):
            first, last = (index, index + 1) if isinstance(index, int) else index.indices(length)[:2]
            spans.append(range(first // chunk, -(-last // chunk)))
        keys = itertools.product(*spans)
        return not all(os.path.exists(os.path.join(self.path, ARRAY, "c", *map(str, key))) for key in keys)

    def write(self, plane: int, rows: slice, columns: slice, picture: NDArray[Any]) -> None:
        """Write a block.

        Raises:
            VolumeTargetError: The store cannot be written to.
        """
        with reported(self.path, UNWRITABLE, VolumeTargetError):
            self._open()[self.layout.place(plane, rows, columns)] = self.layout.from_picture(picture)

    def finish(self, calibration: Calibration) -> None:
        """Say that nothing is missing.

        Raises:
            VolumeTargetError: The store cannot be written to.
        """
        with reported(self.path, UNWRITABLE, VolumeTargetError):
            group = zarr.open_group(self.path, mode="r+")
            made = {**group.attrs["tnrd"], "complete": True}
            group.update_attributes({"tnrd": made, "ome": to_ome_zarr(calibration, self.layout, self._open().dtype)})

    def _open(self) -> Any:
        # Chunks without any light are written too: one that is absent is not done.
        return zarr.open_array(self.path, path=ARRAY, mode="r+").with_config({"write_empty_chunks": True})


def begin(
    target: str | os.PathLike[str],
    layout: Layout,
    dtype: np.dtype[Any],
    side: int,
    settings: Mapping[str, Any],
    *,
    overwrite: bool,
    ordered: bool,
) -> ZarrTarget:
    """Create a store, or go on with one that was begun with the same settings.

    Args:
        target: The folder.
        layout: Of the source.
        dtype: Of the samples.
        side: Of the chunks in a picture.
        settings: What decides the samples; plain JSON values.
        overwrite: Replace an existing Zarr folder. Another kind of folder is never replaced.
        ordered: Whether the source's axes are in NGFF's order already.

    Raises:
        VolumeTargetError: The store exists and is complete, was begun with other settings or by another program; the
            axes have no place in NGFF; or it cannot be written to.
    """
    path, name = Path(target), os.fspath(target)
    stored = layout if ordered else _ngff_layout(layout, name)
    chunks = tuple(_chunk(stored, axis, side) for axis in range(len(stored.shape)))
    with reported(name, UNWRITABLE, VolumeTargetError):
        fresh = overwrite or not os.path.lexists(path)
        if os.path.lexists(path):
            found = _attributes(path, name)
            if not overwrite:
                _check_resumable(found, settings, name)
        if fresh:
            made = {"tnrd": {**settings, "complete": False}}
            zarr.create_group(str(path), zarr_format=3, overwrite=overwrite, attributes=made)
        elif not os.access(path, os.W_OK):
            raise VolumeTargetError(f"{name}: the store is read-only.")
        if not (path / ARRAY / "zarr.json").exists():
            zarr.create_array(
                str(path),
                name=ARRAY,
                shape=stored.shape,
                chunks=chunks,
                dtype=dtype,
                dimension_names=["c" if letter == "S" else letter.lower() for letter in stored.names],
            )
    return ZarrTarget(str(path.resolve()), stored, chunks)


def _attributes(path: Path, name: str) -> dict[str, Any]:
    try:
        found = zarr.open(str(path), mode="r")
    except (FileNotFoundError, KeyError) as error:
        raise VolumeTargetError(f"{name}: it exists and is no Zarr folder; it is never replaced.") from error
    return dict(found.attrs)


def _check_resumable(found: Mapping[str, Any], settings: Mapping[str, Any], name: str) -> None:
    begun = found.get("tnrd")
    if not isinstance(begun, Mapping):
        raise VolumeTargetError(
            f"{name}: the store exists and is another program's; it is replaced only with overwrite."
        )
    for key, value in settings.items():
        if begun.get(key) != value:
            raise VolumeTargetError(
                f"{name}: the store was begun with {key} = {begun.get(key)!r}, now it is {value!r}; go on with the "
                "former, or replace the store with overwrite."
            )
    if begun.get("complete"):
        raise VolumeTargetError(f"{name}: the store exists and is complete; it is replaced only with overwrite.")


def _ngff_layout(layout: Layout, name: str) -> Layout:
    order = sorted(range(len(layout.shape)), key=lambda axis: _ORDER.get(layout.names[axis], 1))
    stored = layout.permuted(order)
    if len(set(stored.names) - set("TZYX")) > 1 or len(set(stored.names)) < len(stored.names):
        raise VolumeTargetError(f"{name}: OME-Zarr knows T, Z, Y, X and one axis more, the stack has {layout.names!r}.")
    return stored


def _chunk(layout: Layout, axis: int, side: int) -> int:
    if axis in (layout.rows, layout.columns):
        return min(side, layout.shape[axis])
    return layout.shape[axis] if axis == layout.channel else 1
