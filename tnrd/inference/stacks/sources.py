"""Stacks as they lie in files: TIFF of any kind and Zarr, read part by part wherever the part is needed."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from tnrd.image_io import directory as tags
from tnrd.inference.stacks.calibration import Calibration, from_multiscale, from_ome, from_tiff
from tnrd.inference.stacks.errors import VolumeError, reported
from tnrd.inference.stacks.layout import Layout, layout_of

UNREADABLE = "the stack cannot be read; it is truncated, damaged or of an unsupported kind"
_BLACK_IS_ZERO, _RGB, _YCBCR, _JPEG = 1, 2, 6, 7
_RESOLUTION, _ICC, _ORIENTATION = (282, 283, 296), 34675, 274


@dataclass(frozen=True)
class Location:
    """Where an array lies, and which state of it is meant.

    Attributes:
        path: A TIFF file or a Zarr folder that every process can read.
        inner: The number of a TIFF's series, or the path of an array within the folder.
        stamp: Size and time of change of the file (of an OME-TIFF of several, the sum and the latest), or of the
            array's metadata.
    """

    path: str
    inner: int | str
    stamp: tuple[int, int]


@dataclass(frozen=True)
class PlaneArray:
    """The stack as an array (planes, M, N[, 3]) that reads what is asked for; it travels as its location."""

    location: Location
    layout: Layout
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """(planes, M, N), or with channels."""
        return (self.layout.planes, *self.layout.picture)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return 1 + len(self.layout.picture)

    def __getitem__(
        self, index: tuple[slice | int, slice, slice] | tuple[slice | int, slice, slice, Any]
    ) -> NDArray[Any]:
        """The part that basic indices name; Dask asks for slices of rows and columns only.

        Raises:
            VolumeError: The file is damaged.
        """
        planes, rows, columns = index[:3]
        chosen = [planes] if isinstance(planes, int) else range(self.shape[0])[planes]
        with reported(self.location.path, UNREADABLE):
            array = _opened(self.location)
            places = [self.layout.place(plane, rows, columns) for plane in chosen]
            stack = np.stack([self.layout.to_picture(np.asarray(array[place])) for place in places])
        stack = stack[..., index[3]] if len(index) > 3 else stack
        return stack[0] if isinstance(planes, int) else stack


@dataclass(frozen=True)
class Source:
    """A stack to be denoised.

    Attributes:
        array: Its samples.
        chunk: Rows and columns of the pieces that the file stores.
        calibration: Its metadata.
        companions: The other files of an OME-TIFF of several, with the links in their paths resolved.
    """

    array: PlaneArray
    chunk: tuple[int, int]
    calibration: Calibration
    companions: frozenset[str] = frozenset()


def open_source(path: str | os.PathLike[str], *, series: int | None = None, channel_axis: int | None = None) -> Source:
    """Look at a TIFF file or a Zarr folder, without reading samples.

    Args:
        path: A TIFF (multi-page, tiled, BigTIFF, OME, ImageJ), an OME-Zarr picture or a Zarr array.
        series: Which of a TIFF's pictures or stacks of different size; None where there is one.
        channel_axis: The axis of the colours; None for the samples of a TIFF's pixels, or grey.

    Raises:
        VolumeError: In one sentence: nothing there, not a stack, truncated, a part of it in a file that is missing,
            pages of different size, no such series or axis, or a kind that is not supported.
    """
    name = os.fspath(path)
    with reported(name, UNREADABLE):
        if not os.path.exists(path):
            raise VolumeError(f"{name}: there is no such file or folder.")
        try:
            return (
                _open_zarr(Path(path), channel_axis)
                if os.path.isdir(path)
                else _open_tiff(Path(path), series, channel_axis)
            )
        except VolumeError as error:
            raise VolumeError(f"{name}: {error}") from error


def release(location: Location) -> None:
    """Close what this process has open of a source."""
    with _LOCK:
        held = _OPEN.pop(location, None)
    if held is not None:
        held[1].close()


def _open_tiff(path: Path, series: int | None, channel_axis: int | None) -> Source:
    import tifffile

    _check_pages(path)
    with tifffile.TiffFile(path) as tif:
        found = tif.series
        if series is None and len(found) > 1:
            sizes = ", ".join("x".join(map(str, one.shape)) for one in found[:5])
            raise VolumeError(
                f"it holds {len(found)} pictures of different size or kind, which are no stack ({sizes}"
                f"{', ...' if len(found) > 5 else ''}); choose one by its number, as series=0."
            )
        number = series or 0
        if not 0 <= number < len(found):
            raise VolumeError(f"there is no series={number} among its {len(found)}.")
        chosen, page = found[number], found[number].keyframe
        if page.photometric not in (_BLACK_IS_ZERO, _RGB) and (page.photometric, page.compression) != (_YCBCR, _JPEG):
            raise VolumeError(
                f"its photometric interpretation is {page.photometric}; grey pictures with black at zero, RGB and "
                "JPEG's colours can be denoised."
            )
        layout = layout_of(chosen.axes, tuple(chosen.shape), channel_axis)
        files = _files_of(chosen, path)
        stamps = [os.stat(file) for file in files]
        stamp = sum(one.st_size for one in stamps), max(one.st_mtime_ns for one in stamps)
        location = Location(str(path.resolve()), number, stamp)
        calibration = _tiff_calibration(tif, number)
        array = PlaneArray(location, layout, np.dtype(chosen.dtype).newbyteorder("="))
    shape = _opened(location).chunks
    return Source(array, (shape[layout.rows], shape[layout.columns]), calibration, files - {str(path.resolve())})


def _files_of(series: Any, path: Path) -> frozenset[str]:
    """All files that a series lies in.

    Raises:
        VolumeError: Planes are missing; they would be black.
    """
    pages = list(series)
    missing = sum(page is None for page in pages)
    if missing:
        raise VolumeError(
            f"{missing} of its {len(pages)} planes are missing; an OME-TIFF of several files needs all of them beside "
            "each other, under the names that they had."
        )
    parents = {id(page.parent): page.parent for page in pages}.values()
    return frozenset({str(path.resolve())} | {os.path.realpath(parent.filehandle.path) for parent in parents})


def _check_pages(path: Path) -> None:
    """Raise ImageError if a page's directory lies beyond the end: the pages before it would pass for the whole."""
    with path.open("rb") as stream:
        header = tags.read_header(stream)
        if header is None:
            raise VolumeError("it is neither a TIFF file nor a Zarr folder.")
        seen, offset = set(), header.first
        while offset and offset not in seen:
            seen.add(offset)
            offset = tags.read_directory(stream, header, offset)[1]


def _tiff_calibration(tif: Any, number: int) -> Calibration:
    import tifffile

    if tif.is_ome:
        images = tifffile.xml2dict(tif.ome_metadata).get("OME", {}).get("Image", [])
        images = images if isinstance(images, list) else [images]
        if number < len(images):
            return from_ome(images[number])
    page = tif.series[number].keyframe
    found = page.tags
    resolution = None
    if all(tag in found for tag in _RESOLUTION[:2]):
        unit = int(found[_RESOLUTION[2]].value) if _RESOLUTION[2] in found else 2
        resolution = (
            *(numerator / max(denominator, 1) for numerator, denominator in (found[t].value for t in _RESOLUTION[:2])),
            unit,
        )
    icc, orientation = (found[tag].value if tag in found else None for tag in (_ICC, _ORIENTATION))
    return from_tiff(resolution, tif.imagej_metadata, icc, int(orientation or 1))


def _open_zarr(path: Path, channel_axis: int | None) -> Source:
    try:
        root = zarr.open(str(path), mode="r")
    except (FileNotFoundError, KeyError) as error:
        raise VolumeError("the folder is no Zarr array or group.") from error
    if isinstance(root, zarr.Array):
        inner, array, calibration = "", root, Calibration()
        names = _plain_names(array, channel_axis)
    else:
        attributes = dict(root.attrs)
        attributes = attributes.get("ome", attributes)
        if not attributes.get("multiscales"):
            raise VolumeError("the group describes no picture (no multiscales); give the path of one within it.")
        entry = attributes["multiscales"][0]
        inner = str(entry["datasets"][0]["path"])
        found = root[inner]
        if not isinstance(found, zarr.Array):
            raise VolumeError(f"its full resolution {inner!r} is no array.")
        array = found
        axes = entry.get("axes") or "tczyx"[-array.ndim :]
        names = "".join(str(axis["name"] if isinstance(axis, dict) else axis)[:1].upper() for axis in axes)
        calibration = from_multiscale(entry, names, attributes.get("omero"))
    layout = layout_of(names, tuple(array.shape), channel_axis)
    metadata = next(file for file in (path / inner / "zarr.json", path / inner / ".zarray") if file.exists()).stat()
    location = Location(str(path.resolve()), inner, (metadata.st_size, metadata.st_mtime_ns))
    stored = array.shards or array.chunks
    dtype = np.dtype(array.dtype).newbyteorder("=")
    return Source(PlaneArray(location, layout, dtype), (stored[layout.rows], stored[layout.columns]), calibration)


def _plain_names(array: Any, channel_axis: int | None) -> str:
    """Letters for an array whose axes may be nameless: the last two, the colours left aside, are Y and X."""
    given = getattr(array.metadata, "dimension_names", None)
    if given and all(given) and {"y", "x"} <= {name.lower() for name in given}:
        return "".join(name[:1].upper() for name in given)
    if array.ndim < 2:
        raise VolumeError(f"a picture has two axes, the array has the shape {array.shape}.")
    names = ["Q"] * array.ndim
    inside = [axis for axis in range(array.ndim) if channel_axis is None or axis != channel_axis % array.ndim]
    for axis, letter in zip(inside[-2:], "YX", strict=True):
        names[axis] = letter
    return "".join(names)


_OPEN: dict[Location, tuple[Any, contextlib.ExitStack]] = {}
_LOCK = threading.Lock()


def _opened(location: Location) -> Any:
    """The Zarr array of a location, opened once in every process."""
    with _LOCK:
        if location not in _OPEN:
            _OPEN[location] = _open(location)
        return _OPEN[location][0]


def _open(location: Location) -> tuple[Any, contextlib.ExitStack]:
    stack = contextlib.ExitStack()
    if isinstance(location.inner, str):
        return zarr.open_array(location.path, path=location.inner, mode="r"), stack
    import tifffile

    tif = stack.enter_context(tifffile.TiffFile(location.path))
    store = stack.enter_context(tif.series[location.inner].aszarr(level=0))
    return zarr.open_array(store, mode="r"), stack
