"""The card of a weights file: what it was trained on, how, and what it scores."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from tnrd.model import TNRD
from tnrd.training.recipe import Recipe


def card(model: TNRD, recipe: Recipe, recipe_text: str, sha256: str, scores: Mapping[float, float]) -> str:
    """A Markdown card.

    Args:
        model: The trained model.
        recipe: How it was trained.
        recipe_text: The recipe, verbatim.
        sha256: Of the weights file.
        scores: Validation PSNR in dB per noise level on the 8-bit scale; may be empty.

    Returns:
        The text.
    """
    c = model.config
    count = sum(p.numel() for p in model.parameters())
    rows = "".join(f"| {sigma:g} | {value:.2f} |\n" for sigma, value in scores.items())
    grids = f", on {c.scales} grids with {c.coarse_kernels} kernels" if c.scales > 1 else ""
    table = f"| sigma | PSNR (dB) |\n|---|---|\n{rows}" if rows else "not measured\n"
    transposes = f" ({c.filters // 2} and their transposes)" if c.transposes else ""
    shape = (
        f"{c.stages} steps, {c.filters} filters{transposes} of {c.kernel_size} x {c.kernel_size} on "
        f"{c.components.total} components ({c.components.observed} observed, {c.companions} companions; grid "
        f"{c.grid}){grids}, {c.nodes} Gaussians per influence function; {count:,} parameters."
    )
    lines = [
        f"# {recipe.name}",
        "",
        textwrap.fill(shape, 118),
        "",
        f"SHA-256 `{sha256}`",
        "",
        "## Data",
        "",
        textwrap.fill(recipe.data or "Not stated in the recipe.", 118),
        "",
        "## Scores",
        "",
        "Validation pictures of the training run, protocol of docs/results.md, one set of weights for all levels:",
        "",
        table,
        "## Limits",
        "",
        f"Trained for white Gaussian noise of standard deviation {recipe.sigma[0]:g} to {recipe.sigma[1]:g} (8-bit",
        "scale). Not meant for noise that is correlated (a camera's JPEG: `--noise correlated`), that depends on the",
        "signal (photon noise: `--noise poisson-gaussian`), or that consists of impulses.",
        "",
        "## Recipe",
        "",
        "```toml",
        recipe_text.strip(),
        "```",
        "",
    ]
    return "\n".join(lines)
