"""A whole batch in one call."""

from __future__ import annotations

import dataclasses
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tnrd.image_io import DEFAULT_MAX_PIXELS
from tnrd.inference.batch.errors import BatchOutputError
from tnrd.inference.batch.manifest import History, Manifest, Record, manifest_path, manifests_in
from tnrd.inference.batch.occupancy import Occupancy
from tnrd.inference.batch.plan import Plan, make_plan
from tnrd.inference.batch.shards import Shard
from tnrd.inference.noise_model import NoiseModel

if TYPE_CHECKING:
    from tnrd.inference.batch.settings import Settings

# Of more failures than this, only the manifest tells: a batch must not grow with the number of its files.
MOST_FAILURES = 1000
StrPath = str | os.PathLike[str]


@dataclass
class BatchResult:
    """What became of a batch.

    Attributes:
        total: Files of the plan (of the shard).
        done: Files denoised in this run.
        skipped: Files whose output was there already, and right.
        failed: Files without a result.
        failures: (input, reason) of the first 1000 of them.
        remarked: Files of which the manifest holds a remark, such as lost metadata.
        left_out: Files that are hidden, or whose names are not those of pictures, counted by the ends of the names.
        folders_left_out: Folders that were not gone into.
        remarks: Sentences about the inputs as a whole.
        manifest: Path of the manifest.
        shard: The part that was worked off, None for all.
        stopped: Why the run ended before its last file; None if it did not.
        seconds: How long it took, without the loading of the model.
    """

    total: int
    manifest: str
    shard: Shard | None = None
    done: int = 0
    skipped: int = 0
    failed: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    remarked: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    folders_left_out: int = 0
    remarks: list[str] = field(default_factory=list)
    stopped: str | None = None
    seconds: float = 0.0

    @property
    def reached(self) -> int:
        """Files with which something was done, if only to find that nothing is to do."""
        return self.done + self.skipped + self.failed

    def count(self, record: Record) -> None:
        """Take a record into account."""
        status = record["status"]
        self.done += status == "done"
        self.skipped += status == "skipped"
        self.remarked += status == "done" and "remarks" in record
        if status == "failed":
            self.failed += 1
            if len(self.failures) < MOST_FAILURES:
                self.failures.append((record["input"], record["error"]))


Report = Callable[[BatchResult, Record], None]


def denoise_files(
    inputs: StrPath | Sequence[StrPath],
    output: StrPath,
    *,
    files: Iterable[str] = (),
    root: str | None = None,
    recursive: bool = False,
    suffix: str = "",
    format: str | None = None,
    shard: Shard | None = None,
    skip_existing: bool = False,
    overwrite: bool = False,
    manifest: StrPath | None = None,
    sigma: float | None = None,
    noise: str = "gaussian",
    gain: float | None = None,
    read_noise: float | None = None,
    offset: float | None = None,
    model: str | Path = "default",
    strength: float = 1.0,
    device: str = "auto",
    engine: str = "auto",
    tile: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    report: Report | None = None,
    is_to_stop: Callable[[], bool] = lambda: False,
) -> BatchResult:
    """Denoise the pictures of folders, patterns and lists into a folder that mirrors them.

    A picture that cannot be read or written is noted and does not stop the others. Outputs are complete or absent. What
    was done is noted in a manifest, JSON with a line a file, by which a run that was broken off is taken up again
    (``skip_existing``): an output counts as finished if its line shows the same input (SHA-256), weights, sigma and
    strength, and if its own SHA-256 is that of the line. The memory does not depend on the number of files, but for
    the bytes of their paths.

    Args:
        inputs: One or more folders, files or patterns such as ``scans/**/*.png``; none where there are ``files``.
        output: The output folder; made where it is missing.
        files: Paths of a list; one that does not exist counts as failed.
        root: The folder relative to which single and listed files are mirrored; None mirrors their names alone.
        recursive: Go into the folders within folders.
        suffix: Added to the stems of the names, "_clean" for ``a_clean.png``.
        format: "PNG", "JPEG", "TIFF", "WEBP" or "BMP" for all outputs; None for that of each input's name.
        shard: The part of the files to work off here, the others elsewhere.
        skip_existing: Leave finished outputs alone; others that exist count as failed.
        overwrite: Replace existing outputs (with ``skip_existing``: those that are not finished ones).
        manifest: Its path; None for ``tnrd-manifest.jsonl``, or ``tnrd-manifest-2-of-8.jsonl``, in ``output``.
        sigma: Standard deviation of the noise on the [0, 1] scale; None to estimate it for each picture.
        noise: "gaussian", "poisson-gaussian" (:func:`tnrd.denoise_photon_noise`) or "correlated"
            (:class:`tnrd.inference.noise_model.NoiseModel`).
        gain: Of photon noise, on the [0, 1] scale; None to estimate it, together with the others.
        read_noise: Of photon noise, on the [0, 1] scale.
        offset: Of photon noise, on the [0, 1] scale.
        model: "fast", "default" or "best", another name of shipped weights, or the path of a .safetensors file.
        strength: Where to stop the diffusion, in [0, 1].
        device: "auto", "cpu", "cuda" or "mps".
        engine: "auto", "torch", "numba" or "triton".
        tile: Largest side of the tiles; chosen by the device when None.
        max_pixels: Larger pictures count as failed.
        report: Called with the counts so far and the record of each file as it is done.
        is_to_stop: Asked again and again whether to end early; the file being written is finished before.

    Returns:
        The counts, and the reasons of the failures.

    Raises:
        BatchInputError: There is no such input, or nothing in it.
        BatchOutputError: Results would collide, or land among the inputs, or exist already; or the output folder or the
            manifest cannot be written.
        ValueError: Another argument is out of range, or the weights, device or engine cannot be used.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from tnrd.image_io import Picture, write_image
        >>> folder = tempfile.mkdtemp()
        >>> noisy = np.random.default_rng(0).normal(128, 20, (32, 32)).astype(np.uint8)
        >>> write_image(f"{folder}/a.png", Picture(noisy))
        >>> denoise_files(folder, f"{folder}/clean").done
        1
    """
    plan = make_plan(
        inputs,
        output,
        files=files,
        root=root,
        recursive=recursive,
        suffix=suffix,
        format=format,
        shard=shard,
        overwrite=overwrite,
    )
    if not (skip_existing or overwrite):
        refuse_existing(plan)
    noise_model = NoiseModel(noise, sigma, gain, read_noise, offset)
    settings = make_settings(noise_model, model, strength, device, engine, tile, max_pixels)
    path = manifest_path(plan.output, shard) if manifest is None else os.fspath(manifest)
    return run(
        plan, settings, path, skip_existing=skip_existing, overwrite=overwrite, report=report, is_to_stop=is_to_stop
    )


def run(
    plan: Plan,
    settings: Settings,
    manifest: str,
    *,
    skip_existing: bool = False,
    overwrite: bool = False,
    report: Report | None = None,
    is_to_stop: Callable[[], bool] = lambda: False,
) -> BatchResult:
    """Work a plan off; arguments, result and errors as those of :func:`denoise_files`."""
    from tnrd.inference.batch.file_worker import FileWorker
    from tnrd.inference.batch.pipeline import work_off

    try:
        os.makedirs(plan.output, exist_ok=True)
    except OSError as error:
        raise BatchOutputError(f"{plan.output}: the output folder cannot be made ({error.strerror}).") from error
    found = plan.found
    result = BatchResult(len(plan), manifest, plan.shard)
    result.left_out, result.folders_left_out, result.remarks = found.left_out, found.folders_left_out, found.remarks
    with Occupancy(plan.output, plan.folders), Manifest(manifest) as lines:
        # Its own comes first: what it says is not noted again.
        there = (path for path in manifests_in(plan.output) if os.path.exists(path))  # not a link that leads nowhere
        others = (path for path in there if not os.path.samefile(path, manifest))
        history = History([manifest, *others])
        bench = FileWorker(settings, lines, history, skip_existing, overwrite)
        start = time.monotonic()
        records = work_off(plan, bench, is_to_stop=is_to_stop)
        try:
            for record in records:
                result.count(record)
                result.seconds = time.monotonic() - start
                if report is not None:
                    report(result, record)
        except KeyboardInterrupt as interrupt:
            records.throw(interrupt)
        except BatchOutputError as error:
            result.stopped = str(error)
        finally:
            records.close()  # waits for what is being written, while the manifest is open
        if result.stopped is None and result.reached < result.total:
            result.stopped = "it was asked to stop"
    return result


def refuse_existing(plan: Plan) -> None:
    """Raise BatchOutputError if there are outputs of a plan already, with which nothing was asked to be done."""
    existing = (job for job in plan if os.path.lexists(job.output) and job.fault is None)
    first = next(existing, None)
    if first is not None:
        count = 1 + sum(1 for _ in existing)
        raise BatchOutputError(
            f"{count} of {len(plan)} outputs exist already, the first is {first.output}; choose to skip existing ones "
            "that are finished, or to overwrite them."
        )


def make_settings(
    noise_model: NoiseModel,
    model: str | Path,
    strength: float,
    device: str,
    engine: str,
    tile: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Settings:
    """What all files have in common, checked; arguments and errors as those of :func:`denoise_files`."""
    from tnrd.inference.batch.settings import Settings
    from tnrd.inference.loading import load
    from tnrd.inference.restore import check_strength
    from tnrd.weights import find_weights

    if max_pixels < 1:
        raise ValueError(f"max_pixels must be at least 1, got {max_pixels}.")
    check_strength(strength)
    grey, colour = find_weights(model), find_weights(model, colour=True)
    network = load(grey, device, engine)
    settings = Settings(network, grey.sha256, noise_model, strength, None, max_pixels)
    if colour != grey:
        other = load(colour, device, engine)
        settings = dataclasses.replace(settings, colour_model=other, colour_weights=colour.sha256)
    return dataclasses.replace(settings, tile=settings.side_of_tiles(tile))
