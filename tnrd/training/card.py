"""The card of a weights file: what it was trained on, how, and what it scores."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from tnrd.model import TNRD

TRAINING_DATA = """\
BSDS500 (Arbelaez, Maire, Fowlkes & Malik, IEEE TPAMI 33(5), 2011), its train and test parts, 400 photographs; the data
set is offered for research use, and none of its pictures is part of these weights or of this package."""


def card(name: str, model: TNRD, recipe_text: str, sha256: str, scores: Mapping[float, float]) -> str:
    """A Markdown card.

    Args:
        name: Name of the weights.
        model: The trained model.
        recipe_text: The recipe, verbatim.
        sha256: Of the weights file.
        scores: Validation PSNR in dB per noise level on the 8-bit scale; may be empty.

    Returns:
        The text.
    """
    c = model.config
    count = sum(p.numel() for p in model.parameters())
    rows = "".join(f"| {sigma:g} | {value:.2f} |\n" for sigma, value in scores.items())
    table = f"| sigma | PSNR (dB) |\n|---|---|\n{rows}" if rows else "not measured\n"
    shape = (
        f"{c.stages} steps, {c.filters} filters of {c.kernel_size} x {c.kernel_size} on {c.components.total} "
        f"components ({c.components.observed} observed, {c.companions} companions; grid {c.grid}), {c.nodes} Gaussians "
        f"per influence function; {count:,} parameters."
    )
    lines = [
        f"# {name}",
        "",
        textwrap.fill(shape, 118),
        "",
        f"SHA-256 `{sha256}`",
        "",
        "## Data",
        "",
        TRAINING_DATA,
        "",
        "## Scores",
        "",
        "Validation pictures of the training run, protocol of docs/results.md, one set of weights for all levels:",
        "",
        table,
        "## Limits",
        "",
        "Trained for white Gaussian noise of standard deviation 0 to 75 (8-bit scale). Noise that is correlated (a",
        "camera's JPEG), that depends on the signal (photon noise) or that is impulsive is not what it expects.",
        "",
        "## Recipe",
        "",
        "```toml",
        recipe_text.strip(),
        "```",
        "",
    ]
    return "\n".join(lines)
