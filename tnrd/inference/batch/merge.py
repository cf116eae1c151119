"""The manifests of all shards in one, and what is missing of a whole job."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field

from tnrd.image_io.completion import completed
from tnrd.inference.batch.errors import BatchOutputError
from tnrd.inference.batch.file_worker import DONE, FAILED
from tnrd.inference.batch.manifest import History, Manifest, Record, absent_shards, dump, manifests_in, sha256_of
from tnrd.inference.batch.plan import Job, Plan
from tnrd.inference.batch.run import MOST_FAILURES

MISSING = "missing"


@dataclass
class Census:
    """What the manifests and the output folder say of the files of a plan.

    Attributes:
        counts: Files by status: "done", "failed", "missing".
        lacking: (input, reason) of the first 1000 that are not done.
        manifests: What was merged.
        absent: Shards without a manifest, where others of their number have one.
        path: The merged manifest.
    """

    manifests: list[str]
    path: str
    counts: Counter[str] = field(default_factory=Counter)
    lacking: list[tuple[str, str]] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether all files are done."""
        return not self.counts[FAILED] and not self.counts[MISSING]


def merge(plan: Plan, path: str, *, verify: bool = False) -> Census:
    """Merge the manifests in the output folder of a plan into one, with a line for each file of the plan.

    A file is done if a manifest says so and its output is there, of the size that was noted. The manifests stay.

    Args:
        plan: The job, without a shard, as it was given to the shards.
        path: Where the merged manifest goes; replaced whole if it exists.
        verify: Compare the SHA-256 of each output too, which reads them all.

    Raises:
        BatchOutputError: There are no manifests, or the merged one cannot be written, or a run is writing it.
    """
    sources = manifests_in(plan.output)
    if not sources:
        raise BatchOutputError(f"{plan.output}: there are no manifests of a batch.")
    census = Census(sources, path, absent=[str(shard) for shard in absent_shards(sources)])
    history = History(sources)
    with Manifest(path):  # held, so that no run adds to what is about to be replaced
        try:
            with completed(path, overwrite=True) as temporary, open(temporary, "wb") as merged:
                for job in plan.all_jobs():
                    record = _state(job, history, verify)
                    merged.write(dump(record))
                    _count(census, record)
        except OSError as error:
            raise BatchOutputError(f"{path}: the merged manifest cannot be written ({error.strerror}).") from error
    return census


def _state(job: Job, history: History, verify: bool) -> Record:
    """What is known of a file: the record of a result that is there, else of a failure, else that it is missing."""
    known = [record for _, record in history.records(job.output_name)]
    reason = "no manifest holds it"
    for record in known:
        if record.get("status") == DONE:
            lack = _lack(job, record, verify)
            if lack is None:
                return record
            reason = lack
    failure = next((record for record in known if record.get("status") == FAILED), None)
    if failure is not None:
        return failure
    return {"status": MISSING, "input": job.input, "output": job.output_name, "error": f"{reason}."}


def _lack(job: Job, record: Record, verify: bool) -> str | None:
    if not os.path.isfile(job.output):
        return "its output is gone, or was never finished"
    if os.path.getsize(job.output) != record.get("output_bytes"):
        return "its output was changed since it was written"
    if verify and sha256_of(job.output) != record.get("output_sha256"):
        return "its output was changed since it was written"
    return None


def _count(census: Census, record: Record) -> None:
    census.counts[record["status"]] += 1
    if record["status"] != DONE and len(census.lacking) < MOST_FAILURES:
        census.lacking.append((record["input"], str(record.get("error"))))
