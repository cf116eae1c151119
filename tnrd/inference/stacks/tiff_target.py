"""A stack as a TIFF file that is complete or absent, written band by band."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from tnrd.image_io import ImageError
from tnrd.image_io.completion import completed, remove_leftovers
from tnrd.image_io.files import check_target
from tnrd.inference.stacks.calibration import Calibration, to_ome, to_resolution
from tnrd.inference.stacks.errors import VolumeTargetError, reported
from tnrd.inference.stacks.layout import Layout

UNWRITABLE = "the stack cannot be written"
_TILES = (512, 256, 128, 64, 32, 16)
# Above this many bytes of samples the 32-bit offsets of a classic TIFF may not reach.
_CLASSIC_LIMIT = 4_000_000_000
# Denoised pictures are hardly ever deflated to less than this share.
_DEFLATED_SHARE = 0.05
_IMAGEJ_AXES = "TZCYXS"
_TIFF_AXES = "TZCYXSAPRHEQ"


def is_ome(target: str | os.PathLike[str]) -> bool:
    """Whether a name asks for OME-TIFF."""
    return Path(target).name.lower().endswith((".ome.tif", ".ome.tiff"))


def tiff_layout(layout: Layout) -> Layout:
    """The order of axes in a TIFF: planes as they are counted, rows, columns, colours."""
    channel = () if layout.channel is None else (layout.channel,)
    moved = layout.permuted([*layout.leading, layout.rows, layout.columns, *channel])
    names = ["S" if axis == moved.channel else name for axis, name in enumerate(moved.names)]
    names = [name if name in _TIFF_AXES else "Q" for name in names]
    return Layout("".join(names), moved.shape, moved.rows, moved.columns, moved.channel, moved.leading)


def check_tiff_target(target: str | os.PathLike[str], layout: Layout, dtype: np.dtype[Any], overwrite: bool) -> None:
    """Raise before the work if the file cannot be written.

    Raises:
        VolumeTargetError: The folder is missing or read-only, the target exists, the disk is certainly too small, or
            OME-TIFF has no place for these axes.
    """
    try:
        check_target(target, overwrite=overwrite)
    except ImageError as error:
        raise VolumeTargetError(str(error)) from error
    size = int(np.prod(layout.shape, dtype=object)) * dtype.itemsize
    free = shutil.disk_usage(os.path.dirname(os.path.realpath(target))).free
    if size * _DEFLATED_SHARE > free:
        raise VolumeTargetError(
            f"{os.fspath(target)}: {free / 1e9:.2f} GB are free on its disk, the stack holds {size / 1e9:.2f} GB of "
            "samples, and is hardly ever deflated to a twentieth."
        )
    names = tiff_layout(layout).names
    if is_ome(target) and (set(names) - set("TZCYXS") or len(set(names)) != len(names)):
        raise VolumeTargetError(
            f"{os.fspath(target)}: OME-TIFF knows the axes TZCYXS once each, the stack has {names!r}."
        )


def tile_side(side: int) -> int:
    """The largest usual side of a tile that divides the side of the blocks."""
    return next(tile for tile in _TILES if side % tile == 0)


def write_tiff(
    target: str | os.PathLike[str],
    layout: Layout,
    dtype: np.dtype[Any],
    calibration: Calibration,
    bands: Iterator[NDArray[Any]],
    *,
    tile: int,
    identity: str,
    overwrite: bool,
) -> None:
    """Write bands, (m, N[, 3]) from top to bottom of plane after plane, deflated; BigTIFF above 4 GB.

    The bytes go to a temporary file beside the target, are synced to disk, and only then take the target's name. What
    runs that were killed have left beside the target is removed.

    Args:
        target: Ending in .tif or .tiff; in .ome.tif for OME-XML.
        layout: Of the source.
        dtype: Of the samples.
        calibration: Of the source.
        bands: The rows of a band are a multiple of ``tile``, but for the last of a plane.
        tile: Side of the tiles; planes that fit in one are written as they are.
        identity: What the UUID of an OME-TIFF is made from: the same gives the same bytes.
        overwrite: Replace an existing file.

    Raises:
        VolumeTargetError: The file cannot be written.
        Exception: Whatever ``bands`` raises.
    """
    stored = tiff_layout(layout)
    whole = max(layout.picture[:2]) <= tile
    pieces = bands if whole else _tiles(bands, tile)
    failure: list[Exception] = []
    remove_leftovers([os.path.dirname(os.path.realpath(target))])
    try:
        with (
            reported(os.fspath(target), UNWRITABLE, VolumeTargetError),
            completed(target, overwrite=overwrite) as temporary,
            tifffile.TiffWriter(temporary, bigtiff=_is_big(stored, dtype), ome=is_ome(target)) as writer,
        ):
            settings = _settings(target, stored, dtype, calibration, identity)
            if not whole:
                settings["tile"] = (tile, tile)
            settings["predictor"] = dtype.kind in "iu"
            writer.write(_remembering(pieces, failure), shape=stored.shape, dtype=dtype, **settings)
    except Exception:
        if failure:
            raise failure[0] from None
        raise


def _settings(
    target: str | os.PathLike[str], stored: Layout, dtype: np.dtype[Any], calibration: Calibration, identity: str
) -> dict[str, Any]:
    # A plain TIFF has them as JSON in its description: it has tags for the sizes along X and Y alone.
    metadata: dict[str, Any] = {"axes": stored.names, **to_ome(calibration)}
    description = None
    if is_ome(target):
        metadata["UUID"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, identity)}"
    elif calibration.imagej is not None and _is_of_imagej(stored, dtype):
        said: dict[str, Any] = {key: _escaped(str(value)) for key, value in calibration.imagej.items()}
        description = tifffile.imagej_description(stored.shape, axes=stored.names, **said)
    settings: dict[str, Any] = {
        "photometric": "minisblack" if stored.channel is None or stored.shape[-1] == 1 else "rgb",
        "compression": "zlib",
        "metadata": metadata if description is None else None,
        "description": description,
        "iccprofile": calibration.icc,
    }
    resolution = to_resolution(calibration)
    if resolution is not None:
        settings |= {"resolution": resolution[:2], "resolutionunit": resolution[2]}
    if calibration.orientation != 1:
        settings["extratags"] = [(274, "H", 1, calibration.orientation, False)]
    return settings


def _is_of_imagej(layout: Layout, dtype: np.dtype[Any]) -> bool:
    """Whether ImageJ knows a file of these axes and samples."""
    axes = [axis for axis in _IMAGEJ_AXES if axis in layout.names]
    colours = layout.channel is not None
    samples = dtype == np.uint8 if colours else dtype in (np.uint8, np.uint16, np.float32)
    return list(layout.names) == axes and samples and not _is_big(layout, dtype)


def _escaped(text: str) -> str:
    """In ASCII, which TIFF's descriptions are in, as Java's properties have it."""
    return "".join(letter if letter.isascii() else f"\\u{ord(letter):04X}" for letter in text)


def _is_big(layout: Layout, dtype: np.dtype[Any]) -> bool:
    return int(np.prod(layout.shape, dtype=object)) * dtype.itemsize > _CLASSIC_LIMIT


def _tiles(bands: Iterator[NDArray[Any]], tile: int) -> Iterator[NDArray[Any]]:
    for band in bands:
        for y in range(0, band.shape[0], tile):
            for x in range(0, band.shape[1], tile):
                yield np.ascontiguousarray(band[y : y + tile, x : x + tile])


def _remembering(pieces: Iterator[NDArray[Any]], failure: list[Exception]) -> Iterator[NDArray[Any]]:
    """The pieces; what fails in making them is kept, since the writer's own complaint would hide it."""
    try:
        yield from pieces
    except Exception as error:
        failure.append(error)
        raise
