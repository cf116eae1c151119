"""Denoise a stack or a big picture from file to file: :func:`denoise_volume`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tnrd.inference.stacks.errors import VolumeTargetError, about, check_installed

if TYPE_CHECKING:
    from tnrd.inference.stacks.sampling import Sigma
    from tnrd.photon_noise import PhotonNoise

Progress = Callable[[int, int], None]
# With its halo on both sides, the side of a usual tile: larger blocks would be cut up and pay for halos twice.
DEFAULT_SIDE = 768
_TIFF_SUFFIXES, _ZARR_SUFFIX = (".tif", ".tiff"), ".zarr"


@dataclass(frozen=True)
class VolumeReport:
    """What was done.

    Attributes:
        planes: Number of pictures.
        blocks: Number of blocks that were denoised now.
        kept: Number of blocks that an earlier run had written.
        sigma: The level of Gaussian noise of each plane, on the [0, 1] scale (of colour, the quadratic mean of the
            channels); one for all where one was given or estimated; of a resumed run, of the planes that were left.
        sha256: Of the weights.
        photon_noise: Gain, read noise and offset in the same way, where the noise is that of photons.
        channels: Number of channels that are planes, such as a microscope's dyes.
    """

    planes: int
    blocks: int
    kept: int
    sigma: tuple[float, ...]
    sha256: str
    photon_noise: tuple[PhotonNoise, ...] = ()
    channels: int = 1


def denoise_volume(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    sigma: Sigma = None,
    *,
    noise: str = "gaussian",
    gain: float | None = None,
    read_noise: float | None = None,
    offset: float | None = None,
    model: str | Path = "default",
    strength: float = 1.0,
    channel_axis: int | None = None,
    series: int | None = None,
    side: int = DEFAULT_SIDE,
    device: str = "auto",
    engine: str = "auto",
    scheduler: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> VolumeReport:
    """Denoise a stack, or a picture larger than memory, block by block.

    Every plane is denoised as :func:`tnrd.denoise` or :func:`tnrd.denoise_photon_noise` would whole, to float rounding
    (of photon noise, with the same white; see :func:`tnrd.denoise_array`). Integers stay what they
    are, floats become float32. Pixel sizes and units, channel names and the colour profile are kept.

    A TIFF target is complete or absent. A Zarr target grows by whole blocks and becomes a picture (NGFF 0.5, one
    resolution) when the last is written; the same call goes on with one that was interrupted, and refuses one that
    was begun from another source or with other settings.

    Memory: besides the libraries, the blocks at work, (side + 2 halo)^2 pixels of about 30 bytes each, two of them in
    this process or one a thread in a cluster's workers; the band of ``side`` rows that is being read, and for TIFF
    the band being written, over the width of the picture.

    Args:
        source: A TIFF file (multi-page, tiled, BigTIFF, OME, ImageJ), an OME-Zarr picture (NGFF 0.4 or 0.5), or the
            folder of a Zarr array, whose last two axes are the picture's.
        target: A name that ends in .zarr, .tif or .tiff, or .ome.tif for metadata in OME-XML.
        sigma: As in :func:`tnrd.denoise_array`, and so are ``noise``, ``gain``, ``read_noise``
            and ``offset``.
        model: As in :func:`tnrd.denoise_array`.
        strength: As in :func:`tnrd.denoise`.
        channel_axis: The axis of the colours in the source; None for the samples of a TIFF's pixels, or grey.
        series: Which one, where a TIFF holds pictures of different size.
        side: Of a block, rounded up to a multiple of 16 and of the model's cells, of the binned pixels where
            photons are few. Chunks of a Zarr target have it.
        device: As in :func:`tnrd.denoise_array`.
        engine: As in :func:`tnrd.denoise_array`.
        scheduler: None to compute in this process; or the address of a Dask scheduler (tcp://host:8786), whose
            workers have one thread each, and read the source, and write a Zarr target, under the same paths.
        overwrite: Replace an existing target.
        progress: Called after each block with the number of blocks done and their total, kept ones included.

    Returns:
        What was done.

    Raises:
        VolumeError: In one sentence: the source cannot be used, its noise cannot be estimated, or no scheduler answers;
            a :class:`VolumeTargetError` where it is the target.
        ValueError: As from :func:`tnrd.denoise_array`.
    """
    check_installed()
    from tnrd.inference.loading import check_place
    from tnrd.inference.noise_model import NoiseModel
    from tnrd.inference.restore import check_strength
    from tnrd.inference.stacks.reference import refer
    from tnrd.inference.stacks.sampling import StackNoiseModel
    from tnrd.inference.stacks.schedule import runner
    from tnrd.inference.stacks.sources import open_source, release
    from tnrd.inference.stacks.work import Work

    check_strength(strength)
    if side < 1:
        raise ValueError(f"side must be at least 1, got {side}.")
    assumed = StackNoiseModel(sigma, NoiseModel(noise, gain=gain, read_noise=read_noise, offset=offset))
    _check_names(source, target)
    if scheduler is None:
        check_place(device, engine)
    reference, network = refer(model, device, engine)
    found = open_source(source, series=series, channel_axis=channel_axis)
    try:
        if os.path.realpath(target) in found.companions:
            raise VolumeTargetError(f"{os.fspath(target)}: a part of the source {os.fspath(source)} lies there.")
        work = Work(found, reference, network, assumed, strength, side, progress)
        with runner(scheduler) as (run, most), about(os.fspath(source)):
            if Path(target).suffix.lower() == _ZARR_SUFFIX:
                return work.to_zarr(target, run, most, overwrite)
            return work.to_tiff(target, run, most, overwrite)
    finally:
        release(found.array.location)


def _check_names(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    name = os.fspath(target)
    if Path(target).suffix.lower() not in (*_TIFF_SUFFIXES, _ZARR_SUFFIX):
        raise VolumeTargetError(f"{name}: stacks are written as .tif, .tiff, .ome.tif or .zarr.")
    here, there = (Path(os.path.realpath(path)) for path in (source, target))
    if here == there or here in there.parents or there in here.parents:
        raise VolumeTargetError(f"{name}: the target would lie upon the source {os.fspath(source)}.")
