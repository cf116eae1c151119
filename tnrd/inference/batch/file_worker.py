"""What is done with one file: looked up, read, denoised, written. Each step may run in a thread of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from tnrd import __version__
from tnrd.image_io import (
    ImageError,
    Picture,
    check_storable,
    encode_image,
    lost_metadata,
    output_format,
    read_image,
)
from tnrd.image_io.completion import completed
from tnrd.inference.batch.errors import BatchOutputError
from tnrd.inference.batch.manifest import History, Manifest, Record, sha256_of
from tnrd.inference.batch.plan import Job
from tnrd.inference.batch.reasons import raise_if_fatal, reason_of
from tnrd.inference.batch.settings import Settings
from tnrd.inference.choice import suits_colour
from tnrd.inference.levels import NoiseLevel
from tnrd.inference.noise_model import Noise, described, restore_noisy
from tnrd.inference.restore import restore_together
from tnrd.model import TNRD

DONE, SKIPPED, FAILED = "done", "skipped", "failed"


class StoppedError(Exception):
    """The picture at work was given up, since the run is to end."""


@dataclass
class Prepared:
    """A picture that waits to be denoised."""

    job: Job
    picture: Picture
    noise: Noise
    record: Record
    model: TNRD
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def pixel_count(self) -> int:
        """Of the picture, whatever its channels."""
        return math.prod(self.picture.pixels.shape[:2])

    @property
    def batch_kind(self) -> tuple[Any, ...] | None:
        """Pictures of one kind can be denoised together; None for those that cannot."""
        pixels = self.picture.pixels
        return (pixels.shape, pixels.dtype, id(self.model)) if isinstance(self.noise, NoiseLevel) else None


@dataclass(frozen=True)
class FileWorker:
    """Works on single files; its methods may be called from several threads.

    Attributes:
        settings: How.
        manifest: Where it is noted.
        history: What former runs noted.
        skip_existing: Leave outputs alone that are the results of the same inputs and settings.
        overwrite: Replace outputs that are something else.
    """

    settings: Settings
    manifest: Manifest
    history: History
    skip_existing: bool = False
    overwrite: bool = False

    def prepare(self, job: Job) -> Prepared | Record:
        """Read a picture and its noise level; or the record of a file with which nothing more is to be done."""
        record: Record = {"status": FAILED, "input": job.input, "output": job.output_name}
        try:
            if job.fault is not None:
                raise ImageError(job.fault)
            record |= {"input_bytes": os.path.getsize(job.input), "input_sha256": sha256_of(job.input)}
            done = self._existing(job, record)
            return self._read(job, record) if done is None else done
        except Exception as error:
            return self.failed(job, record, error)

    def denoise(self, prepared: Prepared, is_to_stop: Callable[[], bool]) -> NDArray[Any]:
        """The clean pixels.

        Raises:
            StoppedError: ``is_to_stop`` said so after one of the tiles.
        """
        pixels = prepared.picture.pixels
        with _timed(prepared.seconds, "denoise"):
            return restore_noisy(pixels, noise=prepared.noise, **self._how(prepared, is_to_stop))

    def denoise_together(self, group: Sequence[Prepared], is_to_stop: Callable[[], bool]) -> list[NDArray[Any]]:
        """The clean pixels of pictures of one :attr:`Prepared.batch_kind`; errors as in :meth:`denoise`."""
        pictures, noises = [one.picture.pixels for one in group], [one.noise for one in group]
        spent: dict[str, float] = {}
        with _timed(spent, "denoise"):
            levels = [noise for noise in noises if isinstance(noise, NoiseLevel)]
            restored = restore_together(pictures, noises=levels, **self._how(group[0], is_to_stop))
        for one in group:
            one.seconds["denoise"] = round(spent["denoise"] / len(group), 4)
        return restored

    def _how(self, prepared: Prepared, is_to_stop: Callable[[], bool]) -> dict[str, Any]:
        settings = self.settings

        def check(done: int, total: int) -> None:
            if done < total and is_to_stop():
                raise StoppedError

        return {
            "model": prepared.model,
            "strength": settings.strength,
            "tile": settings.tile,
            "dtype": prepared.picture.pixels.dtype,
            "progress": check,
        }

    def write(self, prepared: Prepared, pixels: NDArray[Any]) -> Record:
        """Write a result and its line; the record.

        Raises:
            BatchOutputError: There is no room, or the manifest cannot be written: the run must end.
        """
        job, record = prepared.job, prepared.record
        try:
            with _timed(prepared.seconds, "write"):
                picture = dataclasses.replace(prepared.picture, pixels=pixels)
                data = encode_image(picture, output_format(job.output))
            record |= {
                "status": DONE,
                "output_bytes": len(data),
                "output_sha256": hashlib.sha256(data).hexdigest(),
                "seconds": prepared.seconds,
            }
            os.makedirs(os.path.dirname(job.output) or os.curdir, exist_ok=True)
            with (
                completed(job.output, overwrite=self.overwrite, announce=lambda: self._note(record)) as temporary,
                open(temporary, "wb") as stream,
            ):
                stream.write(data)
        except Exception as error:
            return self.failed(job, record, error)
        return record

    def failed(self, job: Job, record: Record, error: Exception) -> Record:
        """Note why a file has no result; the record.

        Raises:
            BatchOutputError: The reason is one that ends the run.
        """
        raise_if_fatal(error, job.output)
        kept = ("input", "output", "input_bytes", "input_sha256")
        failure = {"status": FAILED} | {key: record[key] for key in kept if key in record}
        failure |= self.settings.receipt | {"error": reason_of(error, job)}
        previous = next(self._own_records(job), None)
        if previous != failure:  # once more the same: once in the manifest is enough
            self._note(failure)
        return failure

    def _existing(self, job: Job, record: Record) -> Record | None:
        """The record of an output that is there already and right; None where there is work to do.

        Raises:
            ImageError: The output is something else, and must not be replaced.
        """
        if not os.path.lexists(job.output):
            return None
        if not os.path.isfile(job.output):
            raise ImageError("its output is a folder or a device, not a file.")
        if not self.skip_existing:
            if self.overwrite:
                return None
            raise ImageError("its output exists already.")
        reason = "no manifest tells where it came from"
        for path, receipt in self.history.records(job.output_name):
            if receipt.get("status") != DONE:
                continue
            difference = self._difference(job, record, receipt)
            if difference is None:
                if path != self.manifest.path:  # each shard's manifest is to hold all of its files
                    self._note(receipt)
                return receipt | {"status": SKIPPED, "input": job.input}
            reason = difference
        if self.overwrite:
            return None
        raise ImageError(f"its output exists already, but {reason}; it is replaced only when overwriting is asked for.")

    def _difference(self, job: Job, record: Record, receipt: Record) -> str | None:
        """Why an existing output is not the one that this run would make; None if it is."""
        if not self.settings.made(receipt):
            return "it was made with other settings or weights"
        found = (os.path.getsize(job.output), sha256_of(job.output))
        if found != (receipt.get("output_bytes"), receipt.get("output_sha256")):
            return "it was changed since it was written"
        replaced = os.path.samefile(job.input, job.output)  # in place, the input is the result already
        if record["input_sha256"] != receipt.get("input_sha256") and not replaced:
            return "it was made from another input"
        return None

    def _read(self, job: Job, record: Record) -> Prepared:
        seconds: dict[str, float] = {}
        with _timed(seconds, "read"):
            picture = read_image(job.input, max_pixels=self.settings.max_pixels)
        pixels, format = picture.pixels, output_format(job.output)
        check_storable(picture, format)
        with _timed(seconds, "estimate"):
            noise = self.settings.noise_model.of(pixels)
        facts = {
            "width": pixels.shape[1],
            "height": pixels.shape[0],
            "channels": 1 if pixels.ndim == 2 else 3,
            "alpha": picture.alpha is not None,
            "depth": pixels.dtype.name,
            "format": format,
            **described(noise),
            "noise_source": "given" if self.settings.noise_model.is_given else "estimated",
            "version": __version__,
        }
        remarks = list(_remarks(picture, format, self.settings.noise_model.is_given))
        settings = self.settings
        in_colour = settings.colour_model is not None and suits_colour(pixels, noise)
        model, weights = (
            (settings.colour_model, settings.colour_weights) if in_colour else (settings.model, settings.weights)
        )
        facts |= {"weights": weights, "all_weights": settings.all_weights, **settings.receipt}
        facts |= {"remarks": remarks} if remarks else {}
        return Prepared(job, picture, noise, record | facts, model or settings.model, seconds)

    def _own_records(self, job: Job) -> Iterator[Record]:
        return (found for path, found in self.history.records(job.output_name) if path == self.manifest.path)

    def _note(self, record: Record) -> None:
        try:
            self.manifest.append(record, durable=record["status"] == DONE)
        except OSError as error:
            raise BatchOutputError(
                f"{self.manifest.path}: the manifest cannot be written ({error.strerror})."
            ) from error


def _remarks(picture: Picture, format: str, is_given: bool) -> Iterator[str]:
    lost, pixels = lost_metadata(picture, format), picture.pixels
    if lost:
        yield f"{format} has no place for the picture's {', '.join(lost)}."
    if is_given and pixels.dtype.kind == "f" and pixels.max() > 2:
        yield f"The intensities reach {pixels.max():g}, but what is given of the noise counts 255 steps up to 1."


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - start, 4)
