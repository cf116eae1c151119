"""Draw what is inside shipped weights: filters with the operators they are, and influence functions with potentials.

    python scripts/figures_model.py gray color

Writes docs/figures/NAME-filters.png (the part of each filter of the first step that reads the picture, in the order of
its operator; colour kernels as colour pictures around grey) and docs/figures/NAME-influence.png (psi and rho of every
filter, step by step, over z in noise levels).
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

import tnrd
from tnrd.moments import OperatorName

matplotlib.use("Agg")
from matplotlib import pyplot

FIGURES = Path(__file__).resolve().parents[1] / "docs" / "figures"
SIGMA = 25 / 255
COLUMNS = 8


def main() -> None:
    """Draw both figures of each named model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="weights, by name or path")
    for name in parser.parse_args().models:
        model = tnrd.load_model(name)
        stem = Path(name).stem
        draw_filters(model, FIGURES / f"{stem}-filters.png")
        draw_influence(model, FIGURES / f"{stem}-influence.png")


@torch.no_grad()
def picture_kernels(model: tnrd.TNRD) -> NDArray[np.float64]:
    """What the filters of the first step read of the picture, on its own pixels: (F, k g, k g, channels)."""
    bank, g = model.stage(0).filters, model.config.grid
    kernels = bank()[:, : model.config.components.observed].double()
    fine = functional.pixel_shuffle(kernels, g) if g > 1 else kernels
    return np.moveaxis(fine.numpy(), 1, -1)


def strongest(names: list[OperatorName | None]) -> OperatorName | None:
    """Of the operators on each channel, the one of the largest coefficient."""
    return max((name for name in names if name), key=lambda name: abs(name.coefficient), default=None)


def caption(name: OperatorName | None) -> str:
    """An operator as a formula, and how much of the kernel it explains."""
    if name is None:
        return "companions"
    rows, columns = name.alpha
    parts = [f"\\partial_{axis}^{{{power}}}" for axis, power in (("y", rows), ("x", columns)) if power]
    formula = "".join(parts).replace("^{1}", "") or "1"
    return f"{name.coefficient:+.2f} ${formula}$\n{100 * (1 - name.unexplained):.0f} % of it"


def draw_filters(model: tnrd.TNRD, output: Path) -> None:
    """The kernels of the first step."""
    kernels = picture_kernels(model)
    names = [strongest(channels) for channels in model.stage(0).filters.operators()]
    order = sorted(range(len(names)), key=lambda i: (_key(names[i]), i))
    rows = math.ceil(len(order) / COLUMNS)
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=(10, 1.65 * rows), dpi=100, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, i in zip(axes.flat, order, strict=False):
        kernel = kernels[i]
        shown = 0.5 + 0.5 * kernel / max(float(np.abs(kernel).max()), 1e-12)
        axis.imshow(shown if shown.shape[2] == 3 else shown[..., 0], cmap="gray", vmin=0, vmax=1)
        axis.set_title(caption(names[i]), fontsize=7, pad=2)
    figure.tight_layout(pad=0.4)
    figure.savefig(output)
    pyplot.close(figure)
    print(f"wrote {output}")


def _key(name: OperatorName | None) -> tuple[int, tuple[int, int], float]:
    if name is None:
        return (99, (0, 0), 0.0)
    return (name.order, name.alpha, name.unexplained)


@torch.no_grad()
def draw_influence(model: tnrd.TNRD, output: Path) -> None:
    """psi above, rho below, a column a set of weights, scaled as they act at sigma = 25."""
    repeats = model.config.repeats
    steps = model.config.stages // repeats
    figure, axes = pyplot.subplots(
        2, steps, figsize=(2.2 * steps, 4.2), dpi=100, squeeze=False, sharex=True, sharey="row"
    )
    reach = model.config.reach * 0.75
    z = torch.linspace(-reach, reach, 401)
    level = torch.tensor(SIGMA).view(1, 1, 1, 1)
    for t in range(steps):
        stage = model.stage(t * repeats)
        inner, outer = stage.argument_scale(level).flatten(), stage.value_scale(level).flatten()
        argument = inner[:, None] * z[None, :]
        psi = outer[:, None] * stage.influence.psi(argument[None])[0]
        rho = (outer / inner)[:, None] * stage.influence.potential(argument[None])[0]
        for axis, curves in zip(axes[:, t], (psi, rho), strict=True):
            axis.plot(z.numpy(), curves.T.numpy(), linewidth=0.6, alpha=0.5)
            axis.axhline(0, color="black", linewidth=0.4)
        axes[0, t].set_title(
            f"step {t + 1}" if repeats == 1 else f"steps {t * repeats + 1} to {(t + 1) * repeats}", fontsize=9
        )
    axes[0, 0].set_ylabel(r"$\psi(z)/\sigma$")
    axes[1, 0].set_ylabel(r"$\rho(z)/\sigma^2$")
    figure.supxlabel(r"response $z/\sigma$", fontsize=9)
    figure.tight_layout(pad=0.5)
    figure.savefig(output)
    pyplot.close(figure)
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
