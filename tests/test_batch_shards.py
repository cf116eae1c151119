"""Shards: each file in exactly one, whatever else there is, and which one a process is."""

from __future__ import annotations

import math

import pytest

from tnrd.inference.batch.errors import BatchError
from tnrd.inference.batch.shards import Shard, is_sharded

NAMES = [f"folder {i % 7}/picture {i}.png" for i in range(4000)]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64])
def test_each_file_is_in_exactly_one_shard_of_about_the_same_size(count: int) -> None:
    shards = [Shard(i, count) for i in range(1, count + 1)]
    assert all(sum(shard.holds(name) for shard in shards) == 1 for name in NAMES)
    sizes = [sum(map(shard.holds, NAMES)) for shard in shards]
    mean = len(NAMES) / count
    assert all(abs(size - mean) <= 5 * math.sqrt(mean) for size in sizes)


def test_the_shard_of_a_name_is_the_same_in_every_process() -> None:
    # Written down once: another hash would have restarted shards work off other files than before.
    places = [next(i for i in range(1, 5) if Shard(i, 4).holds(name)) for name in ("a.png", "b.png", "ä/c.png")]
    assert places == [3, 2, 3]


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "a/b", "3", "1/4/2", "-1/4", "", "auto", "1 / 4"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(BatchError, match="shard"):
        Shard.parse(text)


def test_parse() -> None:
    assert Shard.parse("2/8") == Shard(2, 8)
    assert str(Shard(2, 8)) == "2/8"


def slurm(task: int, count: int, **more: int) -> dict[str, str]:
    values = {"ID": task, "COUNT": count, **more}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        (slurm(0, 4), Shard(1, 4)),
        (slurm(4, 4, MIN=1, MAX=4), Shard(4, 4)),
        (slurm(30, 3, MIN=10, MAX=30, STEP=10), Shard(3, 3)),
        ({"RANK": "0", "WORLD_SIZE": "2"}, Shard(1, 2)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, Shard(2, 2)),
        (slurm(1, 2, MIN=0) | {"RANK": "1", "WORLD_SIZE": "2"}, Shard(2, 2)),
    ],
)
def test_the_environment_names_the_shard(environment: dict[str, str], shard: Shard) -> None:
    assert Shard.from_environment(environment) == shard
    assert is_sharded(environment)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, "No shard can be told"),
        ({"RANK": "1"}, "No shard can be told"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK must be a whole number, got 'x'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "got 3/2"),
        (slurm(5, 3, MIN=1, MAX=9), "not evenly spaced"),
        (slurm(5, 2, MIN=1, MAX=3, STEP=2), "not evenly spaced"),
        (slurm(0, 2) | {"RANK": "1", "WORLD_SIZE": "2"}, "two shards, 1/2 by SLURM_ARRAY_TASK_ID and 2/2 by RANK"),
    ],
)
def test_an_environment_that_names_none(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(BatchError, match=sentence):
        Shard.from_environment(environment)
    assert not is_sharded(environment)


def test_a_single_process_is_no_part() -> None:
    assert not is_sharded({"RANK": "0", "WORLD_SIZE": "1"})
    assert Shard(1, 1).holds("anything")
