"""``tnrd.denoise_volume``: stacks from file to file, their metadata, resuming, and what is refused."""

from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import tnrd
from tnrd.config import TNRDConfig
from tnrd.model import TNRD
from tnrd.weights import save_weights

for needed in ("dask", "distributed", "imagecodecs"):
    pytest.importorskip(needed, reason="needs the extra bigimage")
tifffile = pytest.importorskip("tifffile", reason="needs the extra bigimage")
zarr = pytest.importorskip("zarr", reason="needs the extra bigimage")

from tnrd.inference.stacks.errors import VolumeError  # noqa: E402

SIGMA = 25 / 255
SIDE = 32


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of a small random model."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    torch.manual_seed(3)
    save_weights(path, TNRD(TNRDConfig(stages=2, filters=4, kernel_size=3, grid=2)))
    return str(path)


def noisy(*shape: int, dtype: type = np.uint16) -> NDArray[Any]:
    unit = 0.5 + SIGMA * np.random.default_rng(0).standard_normal(shape)
    return np.rint(np.clip(unit, 0, 1) * np.iinfo(dtype).max).astype(dtype)


def expected(stack: NDArray[Any], weights: str, *, colour: bool = False) -> NDArray[Any]:
    """Every picture of (..., M, N[, 3]) whole, in the stack's own depth."""
    picture = stack.shape[-3:] if colour else stack.shape[-2:]
    planes = [
        tnrd.denoise(plane, SIGMA, model=weights, channel_axis=-1 if colour else None)
        for plane in stack.reshape(-1, *picture)
    ]
    clean = np.stack(planes).reshape(stack.shape)
    if stack.dtype.kind == "f":
        return clean
    top = np.iinfo(stack.dtype).max
    return np.rint(np.clip(clean, 0, 1) * top).astype(stack.dtype)


def denoised(source: Path, target: Path, weights: str, **options: Any) -> Any:
    return tnrd.denoise_volume(source, target, **{"sigma": SIGMA, "model": weights, "side": SIDE, **options})


def close(found: NDArray[Any], wanted: NDArray[Any]) -> None:
    """Equal to a rounding."""
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    tolerance = 1e-6 if found.dtype.kind == "f" else 1
    assert np.abs(found.astype(float) - wanted.astype(float)).max() <= tolerance


def read_zarr(path: Path) -> NDArray[Any]:
    return np.asarray(zarr.open_array(str(path), path="0", mode="r")[:])


def write_ngff(path: Path, data: NDArray[Any], axes: str, *, version: str = "0.5", **attributes: Any) -> None:
    """An OME-Zarr picture with pixel sizes of 0.5 (0.25 in the multiscale's own scale)."""
    kinds = {"t": "time", "c": "channel"}
    named = [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes]
    for axis in named:
        if axis["type"] == "space":
            axis["unit"] = "micrometer"
    scale = [{"type": "scale", "scale": [0.5 if axis in "zyx" else 1.0 for axis in axes]}]
    entry = {"axes": named, "datasets": [{"path": "full", "coordinateTransformations": scale}], "name": "cells"}
    ome = {"multiscales": [{**entry, "version": version} if version == "0.4" else entry], **attributes}
    old = version == "0.4"
    group = zarr.open_group(str(path), mode="w", zarr_format=2 if old else 3)
    group.update_attributes(ome if old else {"ome": {"version": version, **ome}})
    group.create_array("full", data=data, chunks=tuple(min(25, length) for length in data.shape))


# --- TIFF -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tile": (16, 32), "compression": "zlib", "predictor": True},
        {"rowsperstrip": 5, "compression": "lzw"},
        {"bigtiff": True},
        {"byteorder": ">"},
    ],
    ids=["pages", "tiles", "strips", "bigtiff", "big-endian"],
)
def test_multi_page_tiff(tmp_path: Path, weights: str, settings: dict[str, Any]) -> None:
    stack = noisy(3, 70, 90)
    tifffile.imwrite(tmp_path / "in.tif", stack, photometric="minisblack", **settings)
    report = denoised(tmp_path / "in.tif", tmp_path / "out.tif", weights)
    close(tifffile.imread(tmp_path / "out.tif"), expected(stack, weights))
    assert (report.planes, report.kept) == (3, 0)
    assert report.sigma == pytest.approx([SIGMA])


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colour_tiff(tmp_path: Path, weights: str, planar: str) -> None:
    stack = noisy(2, 50, 90, 3, dtype=np.uint8)
    stored = stack if planar == "contig" else np.moveaxis(stack, -1, 1)
    tifffile.imwrite(tmp_path / "in.tif", stored, photometric="rgb", planarconfig=planar, iccprofile=b"profile")
    denoised(tmp_path / "in.tif", tmp_path / "out.tif", weights)
    with tifffile.TiffFile(tmp_path / "out.tif") as tif:
        close(tif.asarray(), expected(stack, weights, colour=True))
        assert tif.series[0].axes[-3:] == "YXS"
        assert tif.pages[0].iccprofile == b"profile"


def test_floats_and_single_pictures(tmp_path: Path, weights: str) -> None:
    picture = (noisy(70, 90) / 65535).astype(np.float64)
    tifffile.imwrite(tmp_path / "in.tif", picture)
    denoised(tmp_path / "in.tif", tmp_path / "out.tiff", weights)
    close(tifffile.imread(tmp_path / "out.tiff"), expected(picture, weights))


def test_ome_tiff_keeps_its_metadata(tmp_path: Path, weights: str) -> None:
    stack = noisy(2, 3, 40, 50)
    metadata = {
        "axes": "TCYX",
        "PhysicalSizeX": 0.2,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.3,
        "PhysicalSizeYUnit": "nm",
        "TimeIncrement": 0.5,
        "TimeIncrementUnit": "s",
        "Channel": {"Name": ["DAPI", "GFP", "Cy5"], "EmissionWavelength": [450, 510, 670]},
    }
    tifffile.imwrite(tmp_path / "in.ome.tif", stack, ome=True, metadata=metadata)
    denoised(tmp_path / "in.ome.tif", tmp_path / "out.ome.tif", weights)
    pixels = []
    for name in ("in.ome.tif", "out.ome.tif"):
        with tifffile.TiffFile(tmp_path / name) as tif:
            assert tif.series[0].axes == "TCYX"
            pixels.append(tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"])
    assert pixels[0] == pixels[1]
    close(tifffile.imread(tmp_path / "out.ome.tif"), expected(stack, weights))
    first = (tmp_path / "out.ome.tif").read_bytes()
    denoised(tmp_path / "in.ome.tif", tmp_path / "out.ome.tif", weights, overwrite=True)
    assert (tmp_path / "out.ome.tif").read_bytes() == first


def test_imagej_pixel_sizes_reach_other_formats(tmp_path: Path, weights: str) -> None:
    metadata = {"axes": "ZYX", "spacing": 1.5, "unit": "um"}
    tifffile.imwrite(tmp_path / "in.tif", noisy(2, 40, 40), imagej=True, resolution=(4, 5), metadata=metadata)
    for name in ("out.ome.tif", "out.zarr"):
        denoised(tmp_path / "in.tif", tmp_path / name, weights)
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as tif:
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
    assert [(pixels[f"PhysicalSize{a}"], pixels[f"PhysicalSize{a}Unit"]) for a in "XYZ"] == [
        (0.25, "µm"),
        (0.2, "µm"),
        (1.5, "µm"),
    ]
    entry = zarr.open_group(str(tmp_path / "out.zarr"), mode="r").attrs["ome"]["multiscales"][0]
    assert [(axis["name"], axis["unit"]) for axis in entry["axes"]] == [(a, "micrometer") for a in "zyx"]
    assert entry["datasets"][0]["coordinateTransformations"] == [{"type": "scale", "scale": [1.5, 0.2, 0.25]}]


@pytest.mark.parametrize(
    ("axes", "leading", "said"),
    [("ZYX", (2,), {"spacing": 1.5, "unit": "um"}), ("TZCYX", (2, 3, 2), {"finterval": 0.5, "unit": "\\u00B5m"})],
)
def test_an_imagej_stack_stays_one(
    axes: str, leading: tuple[int, ...], said: dict[str, Any], tmp_path: Path, weights: str
) -> None:
    stack = noisy(math.prod(leading), 40, 50).reshape(*leading, 40, 50)
    tifffile.imwrite(tmp_path / "in.tif", stack, imagej=True, resolution=(4, 5), metadata={"axes": axes, **said})
    denoised(tmp_path / "in.tif", tmp_path / "out.tif", weights)
    found = []
    for name in ("in.tif", "out.tif"):
        with tifffile.TiffFile(tmp_path / name) as tif:
            (series,) = tif.series
            tags = [tif.pages[0].tags[tag].value for tag in (282, 283, 296)]
            found.append((tif.is_imagej, tif.imagej_metadata, series.axes, series.shape, tags))
    assert found[0] == found[1]
    assert said.items() <= found[1][1].items()


def test_names_of_channels_reach_a_zarr(tmp_path: Path, weights: str) -> None:
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(tmp_path / "in.ome.tif", noisy(2, 40, 50), ome=True, metadata=metadata)
    denoised(tmp_path / "in.ome.tif", tmp_path / "out.zarr", weights)
    channels = zarr.open_group(str(tmp_path / "out.zarr"), mode="r").attrs["ome"]["omero"]["channels"]
    assert [channel["label"] for channel in channels] == ["DAPI", "GFP"]
    assert channels[0]["window"] == {"min": 0.0, "max": 65535.0, "start": 0.0, "end": 65535.0}


def test_a_scan_that_is_shown_turned_stays_so(tmp_path: Path, weights: str) -> None:
    tifffile.imwrite(tmp_path / "in.tif", noisy(2, 40, 50), extratags=[(274, "H", 1, 6, False)])
    denoised(tmp_path / "in.tif", tmp_path / "out.tif", weights)
    with tifffile.TiffFile(tmp_path / "out.tif") as tif:
        assert [page.tags[274].value for page in tif.pages] == [6, 6]


def ome_of_two_files(folder: Path, stack: NDArray[Any]) -> list[Path]:
    """An OME-TIFF whose second plane lies in a file of its own."""
    ids = [f"urn:uuid:00000000-0000-0000-0000-00000000000{i}" for i in range(2)]
    paths = [folder / f"m{i}.ome.tif" for i in range(2)]
    planes = "".join(
        f'<TiffData FirstT="{i}" IFD="0" PlaneCount="1"><UUID FileName="{paths[i].name}">{ids[i]}</UUID></TiffData>'
        for i in range(2)
    )
    for own, path, plane in zip(ids, paths, stack, strict=True):
        xml = (
            f'<?xml version="1.0" encoding="UTF-8"?>'
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{own}"><Image ID="Image:0">'
            f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="{plane.shape[1]}" '
            f'SizeY="{plane.shape[0]}" SizeC="1" SizeZ="1" SizeT="2"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
            f"{planes}</Pixels></Image></OME>"
        )
        tifffile.imwrite(path, plane, description=xml, metadata=None)
    return paths


def test_an_ome_tiff_of_several_files(tmp_path: Path, weights: str, caplog: pytest.LogCaptureFixture) -> None:
    """tifffile fills in black for what is missing, and a result could be written onto one of the files."""
    stack = noisy(2, 40, 50)
    first, second = ome_of_two_files(tmp_path, stack)
    denoised(first, tmp_path / "out.tif", weights)
    close(tifffile.imread(tmp_path / "out.tif"), expected(stack, weights))
    before = second.read_bytes()
    with pytest.raises(VolumeError, match=r"m1\.ome\.tif: a part of the source .* lies there"):
        denoised(first, second, weights, overwrite=True)
    assert second.read_bytes() == before
    second.unlink()
    with pytest.raises(VolumeError, match=r"m0\.ome\.tif: 1 of its 2 planes are missing; an OME-TIFF of several files"):
        denoised(first, tmp_path / "other.tif", weights)
    assert not (tmp_path / "other.tif").exists()


def test_one_of_several_sizes(tmp_path: Path, weights: str) -> None:
    pictures = [noisy(40, 50), noisy(20, 30)]
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        for picture in pictures:
            writer.write(picture, metadata=None)
    with pytest.raises(VolumeError, match=r"in\.tif: it holds 2 pictures of different size .*\(40x50, 20x30\)"):
        denoised(tmp_path / "in.tif", tmp_path / "out.tif", weights)
    denoised(tmp_path / "in.tif", tmp_path / "out.tif", weights, series=1)
    close(tifffile.imread(tmp_path / "out.tif"), expected(pictures[1], weights))
    with pytest.raises(VolumeError, match="no series=2 among its 2"):
        denoised(tmp_path / "in.tif", tmp_path / "more.tif", weights, series=2)


def test_an_interrupted_tiff_leaves_nothing(tmp_path: Path, weights: str) -> None:
    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    tifffile.imwrite(tmp_path / "in.tif", noisy(3, 70, 90), photometric="minisblack")
    with pytest.raises(KeyboardInterrupt):
        denoised(tmp_path / "in.tif", tmp_path / "out.tif", weights, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]


# --- Zarr -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_to_ome_zarr(tmp_path: Path, weights: str, version: str) -> None:
    stack = noisy(2, 3, 70, 90)
    omero = {"channels": [{"label": "a", "color": "FF0000"}, {"label": "b", "color": "00FF00"}]}
    write_ngff(tmp_path / "in.zarr", stack, "czyx", version=version, omero=omero)
    denoised(tmp_path / "in.zarr", tmp_path / "out.zarr", weights)
    close(read_zarr(tmp_path / "out.zarr"), expected(stack, weights))
    before, after = (dict(zarr.open_group(str(tmp_path / name), mode="r").attrs) for name in ("in.zarr", "out.zarr"))
    old, new = before.get("ome", before), after["ome"]
    assert new["version"] == "0.5"
    assert new["omero"] == omero
    assert new["multiscales"][0]["axes"] == old["multiscales"][0]["axes"]
    key = "coordinateTransformations"
    assert new["multiscales"][0]["datasets"][0][key] == old["multiscales"][0]["datasets"][0][key]
    assert after["tnrd"]["complete"] is True
    assert after["tnrd"]["weights"] == tnrd.weights.find_weights(weights).sha256


def test_ome_zarr_to_ome_tiff(tmp_path: Path, weights: str) -> None:
    stack = noisy(2, 3, 40, 50)
    omero = {"channels": [{"label": "a"}, {"label": "b"}, {"label": "c"}]}
    write_ngff(tmp_path / "in.zarr", stack, "tcyx", omero=omero)
    denoised(tmp_path / "in.zarr", tmp_path / "out.ome.tif", weights)
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as tif:
        close(tif.asarray(), expected(stack, weights))
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"]) == (0.5, "µm")
    assert [channel["Name"] for channel in pixels["Channel"]] == ["a", "b", "c"]


def test_colour_zarr(tmp_path: Path, weights: str) -> None:
    stack = noisy(60, 70, 3, dtype=np.uint8)
    write_ngff(tmp_path / "in.zarr", np.moveaxis(stack, -1, 0), "cyx")
    wanted = expected(stack, weights, colour=True)
    for name in ("out.zarr", "out.tif"):
        denoised(tmp_path / "in.zarr", tmp_path / name, weights, channel_axis=0)
    close(np.moveaxis(read_zarr(tmp_path / "out.zarr"), 0, -1), wanted)
    close(tifffile.imread(tmp_path / "out.tif"), wanted)


def test_colour_tiff_to_zarr_puts_the_channels_first(tmp_path: Path, weights: str) -> None:
    stack = noisy(2, 50, 40, 3, dtype=np.uint8)
    tifffile.imwrite(tmp_path / "in.tif", stack, photometric="rgb", metadata={"axes": "ZYXS"})
    denoised(tmp_path / "in.tif", tmp_path / "out.zarr", weights)
    close(np.moveaxis(read_zarr(tmp_path / "out.zarr"), 0, -1), expected(stack, weights, colour=True))
    entry = zarr.open_group(str(tmp_path / "out.zarr"), mode="r").attrs["ome"]["multiscales"][0]
    assert [axis["name"] for axis in entry["axes"]] == ["c", "z", "y", "x"]


def test_a_plain_zarr_array(tmp_path: Path, weights: str) -> None:
    stack = noisy(2, 70, 90)
    zarr.create_array(str(tmp_path / "in.zarr"), data=stack, chunks=(2, 25, 90))
    denoised(tmp_path / "in.zarr", tmp_path / "out.zarr", weights)
    close(read_zarr(tmp_path / "out.zarr"), expected(stack, weights))


@pytest.mark.parametrize("sides", [(32, 48), (64, 16), (32, 512)])
def test_blocks_of_any_side_give_the_same(tmp_path: Path, weights: str, sides: tuple[int, int]) -> None:
    zarr.create_array(str(tmp_path / "in.zarr"), data=noisy(100, 130), chunks=(40, 40))
    for side in sides:
        denoised(tmp_path / "in.zarr", tmp_path / f"{side}.zarr", weights, side=side)
    close(*(read_zarr(tmp_path / f"{side}.zarr") for side in sides))


def test_levels_of_planes(tmp_path: Path, weights: str) -> None:
    stack = noisy(3, 64, 64)
    stack[2] = 30000
    tifffile.imwrite(tmp_path / "in.tif", stack, photometric="minisblack")
    report = denoised(tmp_path / "in.tif", tmp_path / "out.tif", weights, sigma="per-plane")
    estimates = [tnrd.estimate_sigma(plane) for plane in stack]
    np.testing.assert_allclose(report.sigma, estimates, rtol=1e-5)
    given = denoised(tmp_path / "in.tif", tmp_path / "given.tif", weights, sigma=estimates)
    assert given.sigma == report.sigma
    close(tifffile.imread(tmp_path / "given.tif"), tifffile.imread(tmp_path / "out.tif"))


# --- Resuming ---------------------------------------------------------------------------------------------------------


def stamps(store: Path) -> dict[Path, int]:
    """When each chunk was written."""
    return {path: path.stat().st_mtime_ns for path in (store / "0" / "c").rglob("*") if path.is_file()}


def interrupted(tmp_path: Path, weights: str, **options: Any) -> tuple[Path, Path]:
    """A source, and a store whose run was stopped midway."""
    source, target = tmp_path / "in.zarr", tmp_path / "out.zarr"
    stack = noisy(3, 64, 96)
    stack[0] = 0  # chunks without light are done as well
    zarr.create_array(str(source), data=stack, chunks=(1, 40, 40))

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        denoised(source, target, weights, progress=stop, **options)
    return source, target


def test_what_is_written_is_not_done_again(tmp_path: Path, weights: str) -> None:
    source, target = interrupted(tmp_path, weights)
    before = stamps(target)
    assert before
    assert "ome" not in zarr.open_group(str(target), mode="r").attrs
    seen: list[tuple[int, int]] = []
    report = denoised(source, target, weights, progress=lambda done, total: seen.append((done, total)))
    after = stamps(target)
    assert {path: after[path] for path in before} == before
    assert report.kept == len(before)
    assert report.blocks == len(after) - len(before) > 0
    assert seen[-1] == (len(after), len(after))
    close(read_zarr(target), expected(zarr.open_array(str(source), mode="r")[:], weights))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"strength": 0.5}, "was begun with strength = 1.0, now it is 0.5"),
        ({"side": 64}, "was begun with side = 32, now it is 64"),
        ({"sigma": "per-plane"}, "was begun with sigma = 0.098.*, now it is 'per-plane'"),
        ({"model": "fast"}, "was begun with weights = "),
    ],
)
def test_other_settings_do_not_mix(tmp_path: Path, weights: str, options: dict[str, Any], sentence: str) -> None:
    source, target = interrupted(tmp_path, weights)
    before = stamps(target)
    with pytest.raises(VolumeError, match=sentence):
        denoised(source, target, weights, **options)
    assert stamps(target) == before


def test_another_source_does_not_mix(tmp_path: Path, weights: str) -> None:
    source, target = interrupted(tmp_path, weights)
    zarr.create_array(str(source), data=noisy(3, 70, 90), chunks=(1, 50, 50), overwrite=True)
    with pytest.raises(VolumeError, match="was begun with source = "):
        denoised(source, target, weights)


def test_what_exists_is_replaced_only_when_asked(tmp_path: Path, weights: str) -> None:
    source = tmp_path / "in.zarr"
    zarr.create_array(str(source), data=noisy(40, 40))
    for name, sentence in (("out.zarr", "exists and is complete"), ("out.tif", "exists already")):
        denoised(source, tmp_path / name, weights)
        with pytest.raises(ValueError, match=sentence):
            denoised(source, tmp_path / name, weights)
        denoised(source, tmp_path / name, weights, overwrite=True)
    zarr.create_array(str(tmp_path / "foreign.zarr"), data=noisy(4, 4))
    with pytest.raises(VolumeError, match="is another program's"):
        denoised(source, tmp_path / "foreign.zarr", weights)
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "folder.zarr" / "precious").touch()
    with pytest.raises(VolumeError, match="is no Zarr folder; it is never replaced"):
        denoised(source, tmp_path / "folder.zarr", weights, overwrite=True)
    assert (tmp_path / "folder.zarr" / "precious").exists()


@pytest.mark.slow
def test_a_killed_process_is_resumed(tmp_path: Path, weights: str) -> None:
    source, target = tmp_path / "in.zarr", tmp_path / "out.zarr"
    stack = noisy(20, 64, 64)
    zarr.create_array(str(source), data=stack, chunks=(1, 64, 64))
    program = (
        "import sys, time, tnrd\n"
        "tnrd.denoise_volume(*sys.argv[1:3], float(sys.argv[3]), model=sys.argv[4], side=32,\n"
        "                    progress=lambda done, total: (print(done, flush=True), time.sleep(0.02)))"
    )
    command = [sys.executable, "-c", program, str(source), str(target), str(SIGMA), weights]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    before = stamps(target)
    report = denoised(source, target, weights)
    assert report.kept >= len([path for path in before if path.suffix == ""]) - 1 > 0
    assert report.blocks > 0
    close(read_zarr(target), expected(stack, weights))


# --- What cannot be done ----------------------------------------------------------------------------------------------


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """A stack that could be denoised."""
    tifffile.imwrite(tmp_path / "in.tif", noisy(2, 40, 40))
    return tmp_path / "in.tif"


@pytest.mark.parametrize("name", ["out.tif", "out.zarr"])
def test_pixels_that_cannot_be_denoised_are_the_fault_of_the_source(tmp_path: Path, weights: str, name: str) -> None:
    planes = noisy(2, 40, 40).astype(np.float32) / 65535
    planes[1, 0, 0] = np.nan
    tifffile.imwrite(tmp_path / "in.tif", planes)
    with pytest.raises(VolumeError, match=r"in\.tif: The image must be finite") as found:
        denoised(tmp_path / "in.tif", tmp_path / name, weights)
    assert type(found.value) is VolumeError
    tifffile.imwrite(tmp_path / "strong.tif", np.nan_to_num(planes) * 1000)
    for sigma in (None, "per-plane"):
        with pytest.raises(VolumeError, match=r"strong\.tif: The estimated noise level"):
            denoised(tmp_path / "strong.tif", tmp_path / f"strong-{name}", weights, sigma=sigma)


def test_what_a_killed_process_left_beside_the_target_is_removed(stack: Path, weights: str) -> None:
    (stack.parent / f".tnrd-{'0' * 16}.tmp").write_bytes(b"x")
    denoised(stack, stack.with_name("out.tif"), weights)
    assert sorted(path.name for path in stack.parent.iterdir()) == ["in.tif", "out.tif"]


@pytest.mark.parametrize("cut", [5, 3000, None])
def test_a_truncated_tiff(tmp_path: Path, weights: str, cut: int | None) -> None:
    with tifffile.TiffWriter(tmp_path / "whole.tif") as writer:
        for page in noisy(4, 40, 40):
            writer.write(page, metadata=None)
    whole = (tmp_path / "whole.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "whole.tif") as tif:
        last = tif.pages[3].offset  # cut here, three pages are whole, and the fourth is only missed
    (tmp_path / "cut.tif").write_bytes(whole[:last] if cut is None else whole[:-cut])
    with pytest.raises(VolumeError, match=r"cut\.tif: the stack cannot be read; it is truncated"):
        denoised(tmp_path / "cut.tif", tmp_path / "out.tif", weights)
    assert not (tmp_path / "out.tif").exists()


def test_a_damaged_chunk(tmp_path: Path, weights: str) -> None:
    zarr.create_array(str(tmp_path / "in.zarr"), data=noisy(2, 70, 90), chunks=(1, 70, 90))
    chunk = tmp_path / "in.zarr" / "c" / "1" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:100])
    for name in ("out.tif", "out.zarr"):
        with pytest.raises(VolumeError, match=r"in\.zarr: the stack cannot be read; it is truncated"):
            denoised(tmp_path / "in.zarr", tmp_path / name, weights)
    assert not (tmp_path / "out.tif").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"channel_axis": 5}, "no channel_axis=5 beside Y and X among the axes"),
        ({"channel_axis": 1}, "no channel_axis=1 beside Y and X among the axes"),
        ({"channel_axis": 0}, "colour has 3 channels, got 2 along the axis"),
        ({"side": 0}, "side must be at least 1, got 0"),
        ({"strength": -1.0}, "strength must lie in"),
        ({"sigma": [0.1, 0.2, 0.3]}, r"the shape \(2,\)"),
        ({"scheduler": "tcp://127.0.0.1:1"}, "No Dask scheduler answers at 'tcp://127.0.0.1:1'"),
    ],
)
def test_options_that_do_not_fit(
    stack: Path, weights: str, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], sentence: str
) -> None:
    monkeypatch.setattr("tnrd.inference.stacks.schedule.PATIENCE", "0.3s")
    with pytest.raises(ValueError, match=sentence):
        denoised(stack, stack.with_name("out.zarr"), weights, **options)
    assert not stack.with_name("out.zarr").exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("out.png", r"stacks are written as \.tif"),
        ("in.tif", "would lie upon the source"),
        ("missing/out.tif", "does not exist"),
        ("in.tif/out.zarr", "would lie upon the source"),
    ],
)
def test_targets_that_do_not_fit(stack: Path, weights: str, name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        denoised(stack, stack.parent / name, weights)


def test_sources_that_are_no_stack(tmp_path: Path, weights: str) -> None:
    (tmp_path / "text.tif").write_text("not a picture")
    (tmp_path / "empty.zarr").mkdir()
    zarr.create_group(str(tmp_path / "group.zarr"))
    zarr.create_array(str(tmp_path / "line.zarr"), data=np.zeros(8, np.uint8))
    zarr.create_array(str(tmp_path / "signed.zarr"), data=np.zeros((8, 8), np.int32))
    tifffile.imwrite(tmp_path / "inverted.tif", noisy(8, 8), photometric="miniswhite")
    tifffile.imwrite(tmp_path / "alpha.tif", noisy(8, 8, 4), photometric="rgb", extrasamples=["unassalpha"])
    for name, sentence in {
        "absent.tif": "there is no such file",
        "text.tif": "neither a TIFF file nor a Zarr folder",
        "empty.zarr": "the folder is no Zarr array or group",
        "group.zarr": "describes no picture",
        "line.zarr": r"two axes, the array has the shape \(8,\)",
        "signed.zarr": "got int32",
        "inverted.tif": "photometric interpretation",
        "alpha.tif": "colour has 3 channels, got 4",
    }.items():
        with pytest.raises(ValueError, match=sentence):
            denoised(tmp_path / name, tmp_path / "out.tif", weights)


def test_axes_that_a_format_does_not_know(tmp_path: Path, weights: str) -> None:
    tifffile.imwrite(tmp_path / "in.tif", noisy(2, 2, 8, 8), metadata={"axes": "QCYX"})
    with pytest.raises(VolumeError, match="OME-TIFF knows the axes TZCYXS once each, the stack has 'QCYX'"):
        denoised(tmp_path / "in.tif", tmp_path / "out.ome.tif", weights)
    with pytest.raises(VolumeError, match="OME-Zarr knows T, Z, Y, X and one axis more, the stack has 'QCYX'"):
        denoised(tmp_path / "in.tif", tmp_path / "out.zarr", weights)


@pytest.mark.parametrize("name", ["out.tif", "out.zarr"])
def test_a_full_disk(stack: Path, weights: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tifffile.TiffWriter, "write", fail)
    monkeypatch.setattr("zarr.storage._local._put", fail)
    with pytest.raises(VolumeError, match=rf"{name}: the st(ack|ore) cannot be written.*\(the disk is full\)"):
        denoised(stack, stack.with_name(name), weights)
    assert not list(stack.parent.glob(".tnrd-*"))


def test_a_disk_that_is_certainly_too_small(stack: Path, weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(VolumeError, match=r"0\.00 GB are free on its disk, the stack holds 0\.00 GB of samples"):
        denoised(stack, stack.with_name("out.tif"), weights)


def test_a_read_only_store(tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = interrupted(tmp_path, weights)
    monkeypatch.setattr("os.access", lambda path, mode: False)  # to root, nothing is read-only
    with pytest.raises(VolumeError, match=r"out\.zarr: the store is read-only"):
        denoised(source, target, weights)
