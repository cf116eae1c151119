"""Plots for the page."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figure(figure: Figure, folder: str, stem: str) -> str:
    """Draw without a window; the path of a new PNG."""
    path = Path(folder) / f"{stem}-{secrets.token_hex(6)}.png"
    figure.savefig(path)
    return str(path)
