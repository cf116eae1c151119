"""Pixel sizes and what else the metadata of a stack say, between OME-TIFF, ImageJ's TIFF, plain TIFF and OME-Zarr.

Sources: OME-XML 2016-06; NGFF 0.4 and 0.5 (multiscales, axes, coordinateTransformations); TIFF 6.0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tnrd.inference.stacks.layout import Layout

# Names of NGFF and their symbols in OME-XML.
UNITS = {
    "angstrom": "Å",
    "nanometer": "nm",
    "micrometer": "µm",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "inch": "in",
    "microsecond": "µs",
    "millisecond": "ms",
    "second": "s",
    "minute": "min",
    "hour": "h",
}
# How ImageJ spells them.
_IMAGEJ = {"um": "µm", "micron": "µm", "microns": "µm", "\\u00B5m": "µm", "sec": "s"}
_OF_IMAGEJ = ("unit", "spacing", "finterval")
_CENTIMETRES = {"Å": 1e-8, "nm": 1e-7, "µm": 1e-4, "mm": 0.1, "cm": 1.0, "m": 100.0, "in": 2.54}
_INCH, _CENTIMETRE = 2, 3
# Of an OME-XML picture, what tifffile writes anew from the array itself.
_OF_THE_ARRAY = {"ID", "Type", "DimensionOrder", "TiffData", "BinData", "Interleaved", "BigEndian", "Plane"}
_KINDS = {"T": "time", "C": "channel", "S": "channel", "Z": "space", "Y": "space", "X": "space"}


@dataclass(frozen=True)
class Calibration:
    """What is kept of a source's metadata.

    Attributes:
        sizes: Of a step along an axis, by its letter: value and unit, "" where unknown.
        ome: Attributes of the picture in OME-XML: name, channels, pixel sizes.
        multiscale: The NGFF entry, datasets aside, with the transformations of the full resolution.
        omero: NGFF's display settings.
        imagej: What ImageJ's description says of units and distances; None where it did not write the file.
        resolution: Pixels per unit along X and Y, and TIFF's number of the unit.
        icc: Colour profile.
        orientation: TIFF's number of how the picture is to be shown, 1 as it is stored.
    """

    sizes: dict[str, tuple[float, str]] = field(default_factory=dict)
    ome: dict[str, Any] = field(default_factory=dict)
    multiscale: dict[str, Any] = field(default_factory=dict)
    omero: dict[str, Any] | None = None
    imagej: dict[str, Any] | None = None
    resolution: tuple[float, float, int] | None = None
    icc: bytes | None = None
    orientation: int = 1


def from_ome(image: dict[str, Any]) -> Calibration:
    """From the ``Image`` element of OME-XML, as ``tifffile.xml2dict`` gives it."""
    pixels = image.get("Pixels", {})
    kept = {key: value for key, value in pixels.items() if key not in _OF_THE_ARRAY and not key.startswith("Size")}
    ome = {**{key: image[key] for key in ("Name", "Description", "AcquisitionDate") if key in image}, **kept}
    sizes = {}
    for letter, name, unit in (*((a, f"PhysicalSize{a}", "µm") for a in "XYZ"), ("T", "TimeIncrement", "s")):
        if name in pixels:
            sizes[letter] = (float(pixels[name]), str(pixels.get(f"{name}Unit", unit)))
    return Calibration(sizes, ome)


def from_tiff(
    resolution: tuple[float, float, int] | None, imagej: dict[str, Any] | None, icc: bytes | None, orientation: int = 1
) -> Calibration:
    """From TIFF's resolution and, where ImageJ wrote the file, its own words."""
    sizes: dict[str, tuple[float, str]] = {}
    if resolution is not None and min(resolution[:2]) > 0:
        unit = "cm" if resolution[2] == _CENTIMETRE else ""
        if imagej is not None:
            unit = _symbol(str(imagej.get("unit", "")))
        if unit:  # dots per inch are about paper, not about what was seen
            sizes = {axis: (1 / dots, unit) for axis, dots in zip("XY", resolution[:2], strict=True)}
            if imagej is not None and "spacing" in imagej:
                sizes["Z"] = (float(imagej["spacing"]), unit)
    if imagej is not None and imagej.get("finterval"):
        sizes["T"] = (float(imagej["finterval"]), "s")
    said = None if imagej is None else {key: imagej[key] for key in _OF_IMAGEJ if key in imagej}
    return Calibration(sizes, imagej=said, resolution=resolution, icc=icc, orientation=orientation)


def from_multiscale(entry: dict[str, Any], names: str, omero: dict[str, Any] | None) -> Calibration:
    """From an entry of NGFF's ``multiscales``."""
    kept = {key: value for key, value in entry.items() if key not in ("datasets", "version", "type", "metadata")}
    transformations = entry["datasets"][0].get("coordinateTransformations", [])
    scale = [1.0] * len(names)
    for transformation in (*transformations, *entry.get("coordinateTransformations", [])):
        if transformation.get("type") == "scale":
            scale = [a * float(b) for a, b in zip(scale, transformation["scale"], strict=True)]
    units = [axis.get("unit", "") if isinstance(axis, dict) else "" for axis in entry.get("axes", names)]
    sizes = {
        name: (value, UNITS.get(unit, unit))
        for name, value, unit in zip(names, scale, units, strict=True)
        if name in "TZYX" and unit
    }
    return Calibration(sizes, multiscale={**kept, "transformations": transformations}, omero=omero)


def to_ome(calibration: Calibration) -> dict[str, Any]:
    """Metadata for ``tifffile.TiffWriter.write``."""
    if calibration.ome:
        return calibration.ome
    metadata: dict[str, Any] = {}
    for letter, (value, unit) in calibration.sizes.items():
        name = "TimeIncrement" if letter == "T" else f"PhysicalSize{letter}"
        metadata |= {name: value, f"{name}Unit": unit}
    labels = [channel.get("label") for channel in (calibration.omero or {}).get("channels", [])]
    if labels and all(labels):
        metadata["Channel"] = {"Name": labels}
    return metadata


def to_resolution(calibration: Calibration) -> tuple[float, float, int] | None:
    """TIFF's resolution: the source's own, or pixels per centimetre."""
    if calibration.resolution is not None:
        return calibration.resolution
    found = [calibration.sizes.get(axis, (0.0, "")) for axis in "XY"]
    dots = [1 / (value * _CENTIMETRES[unit]) for value, unit in found if value > 0 and unit in _CENTIMETRES]
    return (dots[0], dots[1], _CENTIMETRE) if len(dots) == 2 else None


def to_ome_zarr(calibration: Calibration, layout: Layout, dtype: np.dtype[Any]) -> dict[str, Any]:
    """NGFF 0.5 attributes of a picture of one resolution, which lies at "0" with samples of ``dtype``."""
    if calibration.multiscale:
        entry = dict(calibration.multiscale)
        transformations = entry.pop("transformations")
    else:
        names = {unit: name for name, unit in UNITS.items()}
        entry, axes = {}, []
        for letter in layout.names:
            axis = {"name": "c" if letter == "S" else letter.lower()}
            if letter in _KINDS:
                axis["type"] = _KINDS[letter]
            unit = calibration.sizes.get(letter, (1.0, ""))[1]
            if unit:
                axis["unit"] = names.get(unit, unit)
            axes.append(axis)
        entry["axes"] = axes
        transformations = []
    if not transformations:
        scale = [calibration.sizes.get(letter, (1.0, ""))[0] for letter in layout.names]
        transformations = [{"type": "scale", "scale": scale}]
    entry["datasets"] = [{"path": "0", "coordinateTransformations": transformations}]
    ome: dict[str, Any] = {"version": "0.5", "multiscales": [entry]}
    omero = calibration.omero or _omero(calibration, layout, dtype)
    if omero is not None:
        ome["omero"] = omero
    return ome


def _omero(calibration: Calibration, layout: Layout, dtype: np.dtype[Any]) -> dict[str, Any] | None:
    """The names of OME-XML's channels; NGFF has them as display settings, here white over the range of the depth."""
    channels = calibration.ome.get("Channel", [])
    names = [channel.get("Name") for channel in (channels if isinstance(channels, list) else [channels])]
    if not all(names) or "C" not in layout.names or len(names) != layout.shape[layout.names.index("C")]:
        return None
    low, top = (float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)) if dtype.kind in "iu" else (0.0, 1.0)
    window = {"min": low, "max": top, "start": low, "end": top}
    return {"channels": [{"label": name, "color": "FFFFFF", "active": True, "window": window} for name in names]}


def _symbol(unit: str) -> str:
    unit = _IMAGEJ.get(unit, unit)
    return unit if unit in _CENTIMETRES else UNITS.get(unit, "")
