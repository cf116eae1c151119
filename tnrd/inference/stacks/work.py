"""A stack cut into blocks: what is computed in which order, and where it goes."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import dask
import dask.array as da
import numpy as np
from numpy.typing import NDArray

import tnrd
from tnrd.inference.levels import NoiseLevel
from tnrd.inference.stabilisation import Stabilisation
from tnrd.inference.stacks.blocks import aligned, check_channels, check_dtype, grid, halo, restored, stored_dtype
from tnrd.inference.stacks.errors import about
from tnrd.inference.stacks.reference import ModelReference
from tnrd.inference.stacks.sampling import OfPlane, StackNoise, StackNoiseModel, noise_array, noise_of, shared_span
from tnrd.inference.stacks.schedule import Run
from tnrd.inference.stacks.sources import Source
from tnrd.inference.stacks.tiff_target import check_tiff_target, tile_side, write_tiff
from tnrd.inference.stacks.volume import Progress, VolumeReport
from tnrd.inference.stacks.zarr_target import ZarrTarget, begin
from tnrd.model import TNRD

Area = tuple[int, slice, slice]
# TIFF wants the sides of tiles to be multiples of it.
_SIDE_STEP = 16


class Work:
    """One source cut into blocks, and the noise of its planes."""

    def __init__(
        self,
        source: Source,
        reference: ModelReference,
        network: TNRD,
        assumed: StackNoiseModel,
        strength: float,
        side: int,
        progress: Progress | None,
    ) -> None:
        array = source.array
        check_dtype(array.dtype)
        self.colour = array.ndim == 4 and array.shape[3] == 3
        check_channels(network, self.colour)
        self.source, self.reference, self.network = source, reference, network
        self.assumed, self.strength, self.progress = assumed, strength, progress
        self.dtype = stored_dtype(array.dtype)
        # Whole pieces of the file, about as large as a block.
        pieces = [max(1, side // stored) * stored for stored in source.chunk]
        chunks = (1, *pieces, *array.shape[3:])
        stack = da.from_array(array, chunks=chunks, meta=np.empty((0,) * array.ndim, array.dtype))
        self.stack = stack if array.ndim == 3 or self.colour else stack[..., 0]
        with about(array.location.path):
            by_plane = _by_plane(assumed, source)
            if assumed.sigma is not None and not assumed.is_per_plane and assumed.span is None:
                by_plane = dataclasses.replace(by_plane, span=shared_span(self.stack, colour=self.colour).compute())
            self.noise = noise_of(self.stack, by_plane, colour=self.colour)
        self.shared = self.noise.array.shape[0] == 1
        self.halo, cell = halo(network, self.noise.binnings), grid(network, self.noise.binnings)
        step = math.lcm(_SIDE_STEP, cell)
        self.side = -(-side // step) * step
        self.rows, self.columns = (_cuts(length, self.side, self.halo, cell) for length in array.shape[1:3])
        self.noises: dict[int, OfPlane] = {}
        self.done = 0

    @property
    def total(self) -> int:
        """Number of blocks."""
        return self.source.array.layout.planes * len(self.rows) * len(self.columns)

    def to_zarr(self, target: str | os.PathLike[str], run: Run, most: int, overwrite: bool) -> VolumeReport:
        """Block by block; those that are there are left alone."""
        layout, ordered = self.source.array.layout, bool(self.source.calibration.multiscale)
        store = begin(target, layout, self.dtype, self.side, self._settings(), overwrite=overwrite, ordered=ordered)
        write = dask.delayed(_write, pure=False)
        kept = 0
        for bands in self._batches(most):
            tasks = []
            for plane, rows in bands:
                areas = [(plane, rows, columns) for columns in self.columns]
                missing = [store.missing(*area) for area in areas]
                if any(missing):
                    self._measure([plane], run)
                    blocks = self._blocks(plane, rows)
                    tasks += [write(store, a, b) for a, b, m in zip(areas, blocks, missing, strict=True) if m]
                kept += missing.count(False)
            self._advance(len(bands) * len(self.columns) - len(tasks))
            run(tasks, self._advance)
        store.finish(self.source.calibration)
        return self._report(kept)

    def to_tiff(self, target: str | os.PathLike[str], run: Run, most: int, overwrite: bool) -> VolumeReport:
        """Band by band, in the order of the file."""
        layout = self.source.array.layout
        check_tiff_target(target, layout, self.dtype, overwrite)
        calibration, tile = self.source.calibration, tile_side(self.side)
        identity = repr((self._settings(), os.path.basename(target)))
        bands = self._bands(run, most)
        write_tiff(target, layout, self.dtype, calibration, bands, tile=tile, identity=identity, overwrite=overwrite)
        return self._report(0)

    def _bands(self, run: Run, most: int) -> Iterator[NDArray[Any]]:
        one = self.source.array.ndim == 4 and not self.colour
        for bands in self._batches(most):
            self._measure(sorted({plane for plane, _ in bands}), run)
            results = run([block for band in bands for block in self._blocks(*band)], self._advance)
            for start in range(0, len(results), len(self.columns)):
                band = np.concatenate(results[start : start + len(self.columns)], axis=1)
                yield band[..., None] if one else band

    def _batches(self, most: int) -> Iterator[list[tuple[int, slice]]]:
        """(plane, rows) in order, as many at a time as make up about ``most`` blocks."""
        bands = itertools.product(range(self.stack.shape[0]), self.rows)
        return iter(lambda: list(itertools.islice(bands, max(1, most // len(self.columns)))), [])

    def _blocks(self, plane: int, rows: slice) -> list[Any]:
        """The blocks of a band as tasks, from left to right."""
        first, last = max(0, rows.start - self.halo), min(self.stack.shape[1], rows.stop + self.halo)
        # The band with its halo above and below is one chunk high, so that map_overlap adds a halo left and right only.
        context = self.stack[plane : plane + 1, first:last]
        widths = tuple(columns.stop - columns.start for columns in self.columns)
        context = context.rechunk({1: -1, 2: widths})
        of_plane = noise_array([self.noises[0 if self.shared else plane]], (1,), context.ndim - 1)
        noise = StackNoise(of_plane, self.noise.binnings)
        clean = restored(
            context, noise, self.reference, self.network, strength=self.strength, colour=self.colour, min_chunk=1
        )
        inside = clean[0, rows.start - first : rows.stop - first]
        return list(inside.to_delayed().ravel())

    def _measure(self, planes: Sequence[int], run: Run) -> None:
        """Find the noise of planes where it is not known yet."""
        unknown = [plane for plane in ([0] if self.shared else planes) if plane not in self.noises]
        found = run([self.noise.array[plane].to_delayed().ravel()[0] for plane in unknown], lambda: None)
        self.noises |= {plane: np.asarray(noise).item() for plane, noise in zip(unknown, found, strict=True)}

    def _advance(self, blocks: int = 1) -> None:
        if blocks and self.progress is not None:
            self.done += blocks
            self.progress(self.done, self.total)

    def _settings(self) -> dict[str, Any]:
        """What decides the samples, as JSON; the target remembers it."""
        location, layout = self.source.array.location, self.source.array.layout
        known = self.assumed.of_a_plane
        noise = {
            "sigma": self.assumed.sigma,
            "gain": known.gain,
            "read_noise": known.read_noise,
            "offset": known.offset,
        }
        return {
            "version": tnrd.__version__,
            "source": [os.path.basename(location.path), location.inner, *location.stamp],
            "axes": [layout.names, *layout.shape],
            "weights": self.reference.sha256,
            "noise": known.kind,
            **{name: np.asarray(value).tolist() for name, value in noise.items()},
            "strength": self.strength,
            "colour": self.colour,
            "side": self.side,
        }

    def _report(self, kept: int) -> VolumeReport:
        found = [noise for _, noise in sorted(self.noises.items())]
        levels = [noise.levels for noise in found if isinstance(noise, NoiseLevel)]
        return VolumeReport(
            self.stack.shape[0],
            self.total - kept,
            kept,
            tuple(float(np.sqrt(np.mean(np.square(level)))) for level in levels),
            self.reference.sha256,
            tuple(noise.noise for noise in found if isinstance(noise, Stabilisation)),
            self.source.array.layout.dyes,
        )


def _write(store: ZarrTarget, area: Area, picture: NDArray[Any]) -> None:
    store.write(*area, picture)


def _cuts(length: int, side: int, margin: int, grid: int) -> list[slice]:
    """The blocks along an axis; a sliver narrower than the halo joins the one before it."""
    pieces = tuple(min(side, length - start) for start in range(0, length, side))
    borders = [0, *itertools.accumulate(aligned(pieces, margin, grid))]
    return [slice(start, stop) for start, stop in itertools.pairwise(borders)]


def _by_plane(assumed: StackNoiseModel, source: Source) -> StackNoiseModel:
    """Levels of the shape of the leading axes as levels of the planes in a row."""
    if assumed.sigma is None or assumed.is_per_plane:
        return assumed
    levels, leading = np.asarray(assumed.sigma), source.array.layout.leading_shape
    if leading and levels.shape[: len(leading)] == leading:
        levels = levels.reshape(source.array.layout.planes, *levels.shape[len(leading) :])
    elif not leading and levels.ndim == 1:
        levels = levels[None]
    return dataclasses.replace(assumed, sigma=levels)
