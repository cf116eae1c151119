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

    plot(arguments.scores, arguments.benchmark, arguments.sigma, arguments.output)


def plot(score_file: Path, speed_file: Path, sigma: float, output: Path) -> None:
    """Join the two files and draw."""
    scores = mean_scores(json.loads(score_file.read_text(encoding="utf-8")), sigma)
    speed = json.loads(speed_file.read_text(encoding="utf-8"))
    seconds = times(speed)
    ours = {row["method"].removeprefix(OURS) for row in speed["rows"] if row["method"].startswith(OURS)}
    print(f"left out: {', '.join(sorted(scores.keys() ^ seconds.keys())) or 'none'}")
    points = {name: (seconds[name], scores[name]) for name in seconds if name in scores}
    draw(points, ours, sigma, speed["machine"]["cores"], output)


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
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.08)
    for name, (seconds, quality) in points.items():
        own = name in ours
        axes.plot(seconds, quality, "o" if own else "s", color=COLOURS[own], markersize=8 if own else 6)
    axes.set_xlabel(f"seconds a megapixel, {cores} CPU cores (logarithmic)")
    axes.set_ylabel(f"mean PSNR (dB), sigma {sigma:g}")
    axes.grid(True, which="major", color="#dddddd")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.canvas.draw()  # from here on points stay where they are
    taken = [axes.transData.transform(point) for point in points.values()]
    boxes = [(x - 5, y - 5, x + 5, y + 5) for x, y in taken]
    # From the best down: of two points close together, the upper one gets the place above.
    for (name, point), place in sorted(zip(points.items(), taken, strict=True), key=lambda item: -item[1][1]):
        own = name in ours
        offset, side = free_place(place, 7 * len(name), boxes)
        weight = "bold" if own else "normal"
        axes.annotate(
            name, point, offset, textcoords="offset points", ha=side, color=COLOURS[own], weight=weight, fontsize=9
        )
    figure.savefig(output)
    print(f"wrote {output}")


def free_place(
    point: tuple[float, float], width: float, boxes: list[tuple[float, float, float, float]]
) -> tuple[tuple[int, int], str]:
    """Where a name fits beside its point, in points, and the side of it that is there; its box joins ``boxes``."""
    for offset, side in (((7, 5), "left"), ((7, -13), "left"), ((-7, 5), "right"), ((-7, -13), "right")):
        x, y = point[0] + 1.5 * offset[0], point[1] + 1.5 * offset[1]
        left = x if side == "left" else x - width
        box = (left, y, left + width, y + 14)
        if not any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in boxes):
            break
    boxes.append(box)
    return offset, side


if __name__ == "__main__":
    main()
