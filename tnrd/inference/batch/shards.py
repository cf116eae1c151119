"""Dividing a job among processes that know nothing of each other."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from tnrd.inference.batch.errors import BatchError


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``count``, counted from 1.

    A file belongs to the shard 1 + h mod ``count``, h being a hash of its name (relative to its input folder). So each
    file is in exactly one shard, and stays in it when other files appear or vanish between the starts of the shards.
    The price is that shards of few files differ in size: by about the square root of their mean.

    Raises:
        BatchError: The index is not one of 1 to ``count``.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise BatchError(f"A shard i/n needs 1 <= i <= n, got {self.index}/{self.count}.")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, name: str) -> bool:
        """Whether the file of this name is in the shard."""
        return self.count == 1 or name_hash(name) % self.count == self.index - 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From "2/8".

        Raises:
            BatchError: It is something else.
        """
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal()):
            raise BatchError(f"A shard is written i/n, such as 2/8, got {text!r}.")
        return cls(int(index), int(count))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Shard:
        """The part of this process by ``SLURM_ARRAY_TASK_ID`` and ``_COUNT``, or by ``RANK`` and ``WORLD_SIZE``.

        The tasks of a Slurm array begin at ``SLURM_ARRAY_TASK_MIN`` and are ``SLURM_ARRAY_TASK_STEP`` apart; ranks
        begin at 0.

        Raises:
            BatchError: There are no such variables, or they contradict each other.
        """
        variables = os.environ if environment is None else environment
        found = [shard for shard in (_of_slurm(variables), _of_ranks(variables)) if shard is not None]
        if not found:
            raise BatchError(
                "No shard can be told from the environment: neither SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT nor "
                "RANK and WORLD_SIZE are set."
            )
        if len(set(found)) > 1:
            raise BatchError(
                f"The environment names two shards, {found[0]} by SLURM_ARRAY_TASK_ID and {found[1]} by RANK."
            )
        return found[0]


def is_sharded(environment: Mapping[str, str] | None = None) -> bool:
    """Whether the environment is that of one process of several."""
    try:
        return Shard.from_environment(environment).count > 1
    except BatchError:
        return False


def name_hash(name: str) -> int:
    """64 bits of a file's name, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), "big")


def _of_slurm(variables: Mapping[str, str]) -> Shard | None:
    if not {"SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"} <= variables.keys():
        return None
    task, count = _number(variables, "SLURM_ARRAY_TASK_ID"), _number(variables, "SLURM_ARRAY_TASK_COUNT")
    first = _number(variables, "SLURM_ARRAY_TASK_MIN", 0)
    step = _number(variables, "SLURM_ARRAY_TASK_STEP", 1)
    last = _number(variables, "SLURM_ARRAY_TASK_MAX", first + step * (count - 1))
    place, rest = divmod(task - first, step) if step else (0, 1)
    if rest or not 0 <= place < count or last != first + step * (count - 1):
        raise BatchError(
            f"The tasks of the Slurm array are not evenly spaced (task {task}, {count} tasks from {first} to {last}, "
            f"step {step}), so its shard cannot be told; give --shard i/n."
        )
    return Shard(place + 1, count)


def _of_ranks(variables: Mapping[str, str]) -> Shard | None:
    if not {"RANK", "WORLD_SIZE"} <= variables.keys():
        return None
    return Shard(_number(variables, "RANK") + 1, _number(variables, "WORLD_SIZE"))


def _number(variables: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = variables.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        raise BatchError(f"{name} must be a whole number, got {text!r}.")
    return int(text)
