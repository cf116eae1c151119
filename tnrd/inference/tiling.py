"""Cut a picture into tiles whose results, put together, are the result of the whole.

A pixel of the result depends on pixels at most ``halo`` away (:attr:`tnrd.model.TNRD.dependence_radius`). Each tile is
therefore computed from a context that reaches a halo beyond it, or to the border of the picture, where the model
mirrors as it would untiled. A model on a grid of g x g cells sees the same cells in every context: contexts begin on
multiples of g, and only those that end at the border of the picture may end within a cell.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

Area = tuple[slice, slice]


@dataclass(frozen=True)
class Tile:
    """One tile, as rows and columns.

    Attributes:
        core: The part of the picture that this tile gives the result of; the cores are disjoint and cover it.
        context: The part of the picture that it is computed from.
        inside: The core within the context.
    """

    core: Area
    context: Area
    inside: Area


def split(height: int, width: int, tile: int, *, halo: int, grid: int = 1) -> list[Tile]:
    """Tiles of a picture, row by row.

    Args:
        height: Rows of the picture, at least 1.
        width: Columns of the picture, at least 1.
        tile: Largest side of a core. Sides are balanced, so that no sliver pays for a halo of its own.
        halo: Pixels by which a result depends on its surroundings.
        grid: Side g of the model's cells.

    Returns:
        The tiles; a picture no larger than ``tile`` is a single one, without halo.

    Raises:
        ValueError: There are no pixels, or a size is out of range.
    """
    if height < 1 or width < 1:
        raise ValueError(f"A picture without pixels has no tiles, got {height} x {width}.")
    if halo < 0 or grid < 1:
        raise ValueError(f"halo must be at least 0 and grid at least 1, got {halo} and {grid}.")
    if tile < grid:
        raise ValueError(f"tile must be at least the model's cell of {grid} pixels, got {tile}.")
    rows, columns = (_intervals(length, tile, halo, grid) for length in (height, width))
    return [Tile(*zip(row, column, strict=True)) for row, column in itertools.product(rows, columns)]


def _intervals(length: int, tile: int, halo: int, grid: int) -> list[tuple[slice, slice, slice]]:
    """Core, context and the core inside it along one axis."""
    cells = -(-length // grid)
    parts = -(-cells // (tile // grid))
    cuts = [min(grid * (part * cells // parts), length) for part in range(parts)] + [length]
    margin = -(-halo // grid) * grid
    intervals = []
    for start, stop in itertools.pairwise(cuts):
        first, last = max(0, start - margin), min(length, stop + margin)
        intervals.append((slice(start, stop), slice(first, last), slice(start - first, stop - first)))
    return intervals
