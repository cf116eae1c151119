"""Draw PSNR against the time a megapixel takes, from the scores and the benchmark.

    python scripts/plot_cost.py --scores set12.json --benchmark speed.json --output docs/figures/cost.png

PSNR is the mean of the pictures that `scripts/evaluate.py --json` scored; the time is that of `scripts/benchmark.py
--tables methods --json`, one run on one machine. Methods that only one of the two knows are left out, and named.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from evaluate import OURS, times

COLOURS = {True: "#c0392b", False: "#44546a"}


def main() -> None:
    """Parse the arguments, join the two files, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=Path, required=True)
    parser.add_argument("--benchmark", type=Path, required=True)
    parser.add_argument("--sigma", type=float, default=25.0)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()

    scores = mean_scores(json.loads(arguments.scores.read_text(encoding="utf-8")), arguments.sigma)
    speed = json.loads(arguments.benchmark.read_text(encoding="utf-8"))
    seconds = times(speed)
    ours = {row["method"].removeprefix(OURS) for row in speed["rows"] if row["method"].startswith(OURS)}
    print(f"left out: {', '.join(sorted(scores.keys() ^ seconds.keys())) or 'none'}")
    points = {name: (seconds[name], scores[name]) for name in seconds if name in scores}
    draw(points, ours, arguments.sigma, speed["machine"]["cores"], arguments.output)


def mean_scores(report: dict[str, Any], sigma: float) -> dict[str, float]:
    """Mean PSNR of each method whose pictures are those of every other; fewer would not be comparable."""
    at = [row for row in report["scores"] if row["sigma"] == sigma]
    pictures = {row["image"] for row in at}
    methods = {name: [row for row in at if row["method"] == name] for name in dict.fromkeys(r["method"] for r in at)}
    whole = {name: rows for name, rows in methods.items() if {row["image"] for row in rows} == pictures}
    return {name: float(np.mean([row["psnr"] for row in rows])) for name, rows in whole.items()}


def draw(points: dict[str, tuple[float, float]], ours: set[str], sigma: float, cores: int, output: Path) -> None:
    """A scatter plot with a name at each point, the project's models in colour."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), dpi=110)
    for name, (seconds, quality) in points.items():
        own = name in ours
        axes.plot(seconds, quality, "o" if own else "s", color=COLOURS[own], markersize=8 if own else 6)
        axes.annotate(
            name, (seconds, quality), (6, 5), textcoords="offset points", color=COLOURS[own],
            weight="bold" if own else "normal", fontsize=9,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel(f"seconds a megapixel, {cores} CPU cores (logarithmic)")
    axes.set_ylabel(f"mean PSNR (dB), sigma {sigma:g}")
    axes.grid(True, which="major", color="#dddddd")
    axes.margins(x=0.12, y=0.08)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(output)
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
