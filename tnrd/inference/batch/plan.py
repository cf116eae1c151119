"""Which file becomes which: the outputs of a batch, settled and checked before the first picture is opened."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from tnrd.image_io import ImageError, output_format
from tnrd.image_io.completion import temporary_in
from tnrd.inference.batch.errors import BatchError, BatchInputError, BatchOutputError
from tnrd.inference.batch.shards import Shard, name_hash
from tnrd.inference.batch.sources import Found, contains, find

SUFFIX_OF_FORMAT = {"PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif", "WEBP": ".webp", "BMP": ".bmp"}


@dataclass(frozen=True)
class Job:
    """One file to work off.

    Attributes:
        input: Where it lies.
        name: Its path relative to the input folder, by which it is put into a shard.
        output: Where the result goes.
        output_name: That, relative to the output folder: the key of the manifest.
        fault: Why it cannot be a picture, if that is known already.
    """

    input: str
    name: str
    output: str
    output_name: str
    fault: str | None = None


@dataclass(frozen=True)
class Plan:
    """The files of a batch and where their results go; iterating gives the jobs of the shard.

    Attributes:
        found: The inputs.
        output: The output folder.
        suffix: Added to the stem of each name.
        format: Of all outputs; None keeps the suffix of each input.
        shard: The part to work off; None for all.
    """

    found: Found
    output: str
    suffix: str = ""
    format: str | None = None
    shard: Shard | None = None

    def __len__(self) -> int:
        """The number of files of the shard."""
        if self.shard is None:
            return len(self.found.paths)
        return sum(self.shard.holds(name) for _, name in self.found.paths)

    def __iter__(self) -> Iterator[Job]:
        return (job for job in self.all_jobs() if self.shard is None or self.shard.holds(job.name))

    def all_jobs(self) -> Iterator[Job]:
        """The jobs of all shards."""
        for index, (path, name) in enumerate(self.found.paths):
            fault = self.found.faults.get(index)
            output_name, format = name, output_suffix(name, self.format)
            if fault is None and format is None:
                fault = "its name has no picture's suffix that would tell the format of the output; give one."
            if format is not None:
                output_name = os.path.splitext(name)[0] + self.suffix + format
            yield Job(path, name, os.path.join(self.output, output_name), output_name, fault)

    def folders(self) -> list[str]:
        """The folders of all outputs, of other shards too."""
        return sorted({os.path.dirname(job.output) for job in self.all_jobs() if job.fault is None})


def make_plan(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    files: Iterable[str] = (),
    root: str | None = None,
    recursive: bool = False,
    suffix: str = "",
    format: str | None = None,
    shard: Shard | None = None,
    overwrite: bool = False,
) -> Plan:
    """Find the inputs, name the outputs, and refuse what would go wrong.

    Args:
        inputs: One or more folders, files or patterns, see :func:`tnrd.inference.batch.sources.find`.
        output: The output folder, which need not exist yet.
        files: Paths of a list.
        root: The folder relative to which single and listed files are mirrored; None mirrors their names alone.
        recursive: Go into the folders within folders.
        suffix: Added to the stems of the names.
        format: "PNG", "JPEG", "TIFF", "WEBP" or "BMP" for all outputs; None for that of each input's name.
        shard: The part to work off.
        overwrite: Results may replace their inputs.

    Raises:
        BatchInputError: There is no such input, or nothing in it.
        BatchOutputError: Two results would have the same name, results would land among the inputs unasked, or one
            would take the place of another input.
        BatchError: The suffix or the format is none.
    """
    if format is not None and format not in SUFFIX_OF_FORMAT:
        raise BatchError(f"format must be one of {', '.join(SUFFIX_OF_FORMAT)}, got {format!r}.")
    if os.path.basename(suffix) != suffix or "\0" in suffix:
        raise BatchError(f"A suffix is a part of a name, without folders, got {suffix!r}.")
    places = [inputs] if isinstance(inputs, (str, os.PathLike)) else inputs
    target = os.fspath(output)
    if os.path.lexists(target) and not os.path.isdir(target):
        raise BatchOutputError(f"{target}: the output of several files is a folder, and this is none.")
    found = find([os.fspath(place) for place in places], files, target, root=root, recursive=recursive)
    plan = Plan(found, target, suffix, format, shard)
    if suffix and any(os.path.realpath(tree) == os.path.realpath(target) for tree in found.trees):
        plan = _without_results(plan)
    if not len(found.paths):
        raise BatchInputError(_nothing(found, recursive))
    _check_collisions(plan)
    if not (suffix or overwrite):
        _check_input_trees(plan)
    if overwrite:
        _check_other_inputs(plan)
    return plan


def output_suffix(name: str, format: str | None) -> str | None:
    """The suffix of an output: the input's own if it fits; None if none can be told."""
    own = os.path.splitext(name)[1]
    try:
        fits = output_format(name) == format or format is None
    except ImageError:
        fits = False
    if fits:
        return own
    return None if format is None else SUFFIX_OF_FORMAT[format]


def _nothing(found: Found, recursive: bool) -> str:
    parts = [f"There are no pictures in {', '.join(found.trees) or 'the list'}"]
    if found.left_out:
        parts.append(f"{found.left_out.total()} other files were left out")
    if found.folders_left_out and not recursive:
        parts.append(f"{found.folders_left_out} folders would be gone into recursively only")
    return "; ".join(parts) + "."


def _without_results(plan: Plan) -> Plan:
    """Of a folder that takes its own results, ``a.png`` and ``a_clean.png``, the first is an input, the second not."""
    results = {name_hash(job.output_name) for job in plan.all_jobs()}
    kept = Found(trees=plan.found.trees, folders_left_out=plan.found.folders_left_out, remarks=plan.found.remarks)
    for job in plan.all_jobs():
        if name_hash(job.name) not in results:
            kept.add(job.input, job.name, job.fault)
    kept.left_out = plan.found.left_out + Counter({"results": len(plan.found.paths) - len(kept.paths)})
    return replace(plan, found=kept)


def _check_collisions(plan: Plan) -> None:
    """Refuse two results of one name, also where only the file system takes two names for one.

    Names that might be the same have the same hash; only those few are then looked at.
    """
    count = len(plan.found.paths)
    hashes = np.fromiter((name_hash(_folded(job.output_name)) for job in plan.all_jobs()), np.uint64, count)
    values, occurrences = np.unique(hashes, return_counts=True)
    suspects = set(values[occurrences > 1].tolist())
    del hashes, values
    first: dict[str, Job] = {}
    for job in plan.all_jobs() if suspects else ():
        key = _folded(job.output_name)
        if job.fault is not None or name_hash(key) not in suspects:
            continue
        other = first.setdefault(key, job)
        if other is job:
            continue
        if os.path.abspath(other.input) == os.path.abspath(job.input):
            raise BatchInputError(f"{job.input} is among the inputs twice.")
        if other.output_name == job.output_name:
            raise BatchOutputError(f"{other.input} and {job.input} would both become {job.output}.")
        if not tells_apart(plan.output, other.output_name, job.output_name):
            raise BatchOutputError(
                f"{other.input} and {job.input} would become one file: the file system of {plan.output} does not tell "
                f"{other.output_name} from {job.output_name}."
            )


def _folded(name: str) -> str:
    """The same for names that some file system takes for one: they differ in case, or in how accents are encoded."""
    return name if name.isascii() and name.islower() else unicodedata.normalize("NFC", name).casefold()


def tells_apart(folder: str, first: str, second: str) -> bool:
    """Whether the file system of a folder, which need not exist, can hold both names, by trying it."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder) or os.curdir
    pairs = zip(first.split(os.sep), second.split(os.sep), strict=True)
    names = next((pair for pair in pairs if pair[0] != pair[1]), (first, second))
    trial = temporary_in(folder)
    try:
        os.mkdir(trial)
    except OSError as error:
        raise BatchOutputError(f"{folder}: the output folder cannot be written to ({error.strerror}).") from error
    try:
        os.mkdir(os.path.join(trial, names[0]))
        return not os.path.lexists(os.path.join(trial, names[1]))
    finally:
        os.rmdir(os.path.join(trial, names[0]))
        os.rmdir(trial)


def _check_other_inputs(plan: Plan) -> None:
    """Refuse a result that would take the place of an input which is not its own."""
    real = lru_cache(os.path.realpath)

    def place(path: str) -> str:
        return os.path.join(real(os.path.dirname(path)), os.path.basename(path))

    def places() -> Iterator[tuple[str, str]]:
        return ((place(job.input), place(job.input if job.fault else job.output)) for job in plan.all_jobs())

    count = len(plan.found.paths)
    before, after = (np.fromiter((name_hash(pair[side]) for pair in places()), np.uint64, count) for side in range(2))
    suspects = set(after[(before != after) & np.isin(after, before)].tolist())
    inputs = {source for source, _ in places() if name_hash(source) in suspects} if suspects else set()
    for source, target in places() if inputs else ():
        if target in inputs and target != source:
            raise BatchOutputError(f"{target}: the result of {source} would take the place of another input.")


def _check_input_trees(plan: Plan) -> None:
    """Refuse results in an input folder, unless the output folder is one within it.

    (Files that were named singly need no such check: what exists is not replaced unasked.)
    """
    output, folders = os.path.realpath(plan.output), plan.folders() if plan.found.trees else []
    for tree in plan.found.trees:
        real = os.path.realpath(tree)
        inside = output != real and contains(real, output)
        for folder in folders:
            place = os.path.realpath(folder)
            if contains(real, place) and not (inside and contains(output, place)):
                raise BatchOutputError(
                    f"{folder} lies in the input folder {tree}: results are put among the inputs only with a suffix "
                    "or when overwriting is asked for."
                )
