"""The checkpoint of a run: one file with its recipe and its whole state."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from tnrd.image_io.completion import completed
from tnrd.training.recipe import Recipe

CHECKPOINT_FORMAT = 4
# Keys of a recipe that the weights do not depend on: a run goes on under others.
INDIFFERENT = ("name", "validation_sigma", "validate_every", "checkpoint_every", "data")


def write_checkpoint(path: Path, recipe: Recipe, state: dict[str, Any]) -> None:
    """Write the recipe and the state, complete or not at all."""
    with completed(path, overwrite=True) as temporary:
        torch.save({"format": CHECKPOINT_FORMAT, "recipe": dataclasses.asdict(recipe), **state}, temporary)


def read_checkpoint(path: Path, recipe: Recipe, device: torch.device) -> dict[str, Any] | None:
    """The state, its tensors on ``device``; None if there is no such file.

    Raises:
        ValueError: It was written under another recipe, or by a version of other recipes or crops.
    """
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    if state.get("format") != CHECKPOINT_FORMAT:
        raise ValueError(f"{path} was written by another version: begin in a new folder.")
    mine = {key: value for key, value in dataclasses.asdict(recipe).items() if key not in INDIFFERENT}
    changed = [key for key, value in mine.items() if state["recipe"].get(key) != value]
    if changed:
        raise ValueError(f"{path} belongs to another recipe: {', '.join(changed)} differ.")
    return state
