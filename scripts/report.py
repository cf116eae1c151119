"""Score the shipped weights and their rivals, and bring every table of the report up to date: one command.

    python scripts/report.py --data ../shared/data

Scores what docs/scores/ does not hold yet for the present weights (`scripts/evaluate.py` says what is kept; all of it
from nothing takes a day, of which WNNM and BM3D need nearly all), then writes the tables between the lines
`<!-- table: NAME -->` and `<!-- end -->` of docs/results.md and README.md, the scores in the cards of weights/, and the
plot of quality against cost. Without --data only the tables are written, from what docs/scores/ holds.

Times are not measured here but read from the files speed*.json of docs/scores/, which `scripts/benchmark.py
--json` writes on a machine that does nothing else, and the seed experiments from what `scripts/seed_experiments.py
--json` wrote.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from benchmark import table_of_methods
from benchmark_engines import table_of_engines
from evaluate import Report, build_methods, evaluate, load, table, times
from one_level import table_of_levels
from plot_cost import plot
from seed_experiments import table_of_variants

from tnrd.weights import ALIASES, available_models, find_weights, read_weights

ROOT = Path(__file__).resolve().parents[1]
SCORES = ROOT / "docs" / "scores"
SPEED, COLOUR_SPEED = SCORES / "speed.json", SCORES / "speed-color.json"
ENGINES, TRAINING = SCORES / "speed-engines.json", SCORES / "speed-training.json"
XEON = SCORES / "speed-xeon.json"  # of an Intel processor whose vectors have 512 bits, by older kernels
SIGMAS = [15.0, 25.0, 50.0]
BLIND = " (blind)"
README_RIVALS = {
    "wnnm": "WNNM",
    "bm3d": "BM3D (`bm3d` 4.0.3)",
    "epll": "EPLL",
    "srcnn": "SRCNN-style network",
    "nlm": "non-local means (scikit-image)",
    "tv": "total variation",
    "perona_malik": "Perona-Malik",
}
# 01.png to 12.png.
SET12 = "cameraman | house | peppers | starfish | monarch | airplane | parrot | lena | barbara | boat | man | couple"


class Run(NamedTuple):
    """Scores of one folder: docs/scores/NAME.json."""

    name: str
    folder: str
    color: bool = False
    blind: bool = False
    rivals: bool = True
    repetition: int = 0


GREY, COLOUR = Run("set12", "set12", blind=True), Run("mcmaster", "mcmaster", color=True)
AGAIN = Run("set12-second-draw", "set12", rivals=False, repetition=1)
RUNS = (GREY, COLOUR, AGAIN)


def main() -> None:
    """Score what is missing, write what has changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the folders set12 and mcmaster; none to score nothing")
    arguments = parser.parse_args()
    if arguments.data is not None:
        for run in RUNS:
            score(run, arguments.data)
    for path, text in documents().items():
        if path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    plot(SCORES / "set12.json", SPEED, 25.0, ROOT / "docs" / "figures" / "cost.png")


def score(run: Run, data: Path) -> None:
    """Add what the file of a run lacks."""
    methods = build_methods(models_for(run), ["all"] if run.rivals else [], run.blind, run.color)
    names, images = load(data / run.folder, run.color, None)
    report = Report(SCORES / f"{run.name}.json", run.folder, run.color, run.repetition)
    evaluate(methods, names, images, SIGMAS, report)


def models_for(run: Run) -> list[str]:
    """The shipped weights that take such pictures, the quickest first."""
    shipped = {name: read_weights(find_weights(name)).config for name in available_models()}
    fitting = [name for name, config in shipped.items() if config.channels == 1 or run.color]
    seconds = times(read(COLOUR_SPEED if run.color else SPEED))
    return sorted(fitting, key=lambda name: (shipped[name].channels, seconds.get(name, 0.0), name))


def documents() -> dict[Path, str]:
    """Each file of the report, with its tables as docs/scores/ and the weights have them."""
    found = {}
    for path in (ROOT / "README.md", ROOT / "docs" / "results.md"):
        found[path] = filled(path.read_text(encoding="utf-8"), path.name)
    for name in available_models():
        path = ROOT / "weights" / f"{name}.md"
        old = path.read_text(encoding="utf-8")
        before, _, rest = old.partition("## Scores\n")
        found[path] = f"{before}## Scores\n\n{of_card(name)}\n{rest[rest.index('## Limits') :]}"
    return found


def filled(text: str, name: str) -> str:
    """A document with its tables made anew.

    Raises:
        SystemExit: It asks for a table that there is not.
    """

    def make(match: re.Match[str]) -> str:
        if match[2] not in TABLES:
            raise SystemExit(f"{name} asks for a table {match[2]!r}; there are {', '.join(TABLES)}.")
        return f"{match[1]}\n{TABLES[match[2]]()}\n{match[3]}"

    return re.sub(r"(?s)(<!-- table: ([^>]*?) -->)\n.*?(<!-- end -->)", make, text)


def read(path: Path) -> dict[str, Any]:
    """A JSON file of docs/scores/."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def kept(run: Run) -> list[dict[str, Any]]:
    """Its scores: the models in their order, then the rivals, the best first; a model's by its present weights."""
    hashes = {name: find_weights(name).sha256 for name in available_models()}
    rows = [
        row
        for row in read(SCORES / f"{run.name}.json")["scores"]
        if hashes.get(row["method"].removesuffix(BLIND), row["weights"]) == row["weights"]
    ]
    ours = [f"{name}{suffix}" for name in models_for(run) for suffix in ("", BLIND)]
    rivals = {row["method"] for row in rows} - set(ours)
    order = ours + sorted(rivals, key=lambda method: -mean(rows, method, 25.0))
    return [row for method in order for row in rows if row["method"] == method]


def mean(rows: list[dict[str, Any]], method: str, sigma: float) -> float:
    """PSNR over the pictures."""
    found = [row["psnr"] for row in rows if row["method"] == method and row["sigma"] == sigma]
    if not found:
        raise SystemExit(f"docs/scores/ holds no score of {method} at sigma {sigma:g} by its present weights: --data.")
    return float(np.mean(found))


def levels(rows: list[dict[str, Any]], method: str) -> str:
    """PSNR at the three levels."""
    return " / ".join(f"{mean(rows, method, sigma):.2f}" for sigma in SIGMAS)


def of_readme() -> str:
    """The models and the best known rivals."""
    rows, seconds = kept(GREY), times(read(SPEED))
    lines = ["| | Set12, sigma 15 / 25 / 50 | parameters | s/Mpx |", "|---|---|---|---|"]
    for name in models_for(GREY):
        label = f"tnrd `{name}`" + (", the default" if name == ALIASES["default"] else "")
        count = read_weights(find_weights(name)).config.parameter_count
        lines.append(f"| {label} | {levels(rows, name)} | {count:,} | {seconds[name]:.2f} |")
    for name, label in README_RIVALS.items():
        lines.append(f"| {label} | {levels(rows, name)} | | {float(f'{seconds[name]:.2g}'):g} |")
    return "\n".join(lines)


def of_pictures() -> str:
    """`gray` against BM3D and WNNM, picture by picture."""
    rows = kept(GREY)
    psnr = {(row["method"], row["sigma"], row["image"]): row["psnr"] for row in rows}
    pictures = sorted({row["image"] for row in rows})
    lines = [f"| | {SET12} |", "|---" * (len(pictures) + 1) + "|"]
    for rival in ("bm3d", "wnnm"):
        for sigma in SIGMAS:
            gains = [psnr["gray", sigma, image] - psnr[rival, sigma, image] for image in pictures]
            cells = [f"**{gain:+.2f}**" if gain < -0.5 else f"{gain:+.2f}" for gain in gains]
            lines.append(f"| {rival.upper()}, sigma {sigma:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def of_draws() -> str:
    """The models at two draws of the noise."""
    rows = [kept(run) for run in (GREY, AGAIN)]
    lines = ["| | first draw, sigma 15 / 25 / 50 | second draw |", "|---|---|---|"]
    lines += [f"| {name} | {levels(rows[0], name)} | {levels(rows[1], name)} |" for name in models_for(AGAIN)]
    return "\n".join(lines)


def of_card(name: str) -> str:
    """What a card says of the quality and the cost of its weights, and what they look like."""
    lines = [
        "Protocol of docs/results.md, one set of weights for all levels; PSNR in dB:",
        "",
        "| pictures | sigma 15 / 25 / 50 |",
        "|---|---|",
    ]
    for run, label in ((GREY, "set12, grey"), (COLOUR, "mcmaster, colour")):
        if name in models_for(run):
            lines.append(f"| {label} | {levels(kept(run), name)} |")
    lines.append("")
    for path, kind in ((SPEED, "grey"), (COLOUR_SPEED, "colour")):
        speed = read(path)
        if name in (seconds := times(speed)):
            where = f"{speed['machine']['cores']} cores of an {speed['machine']['processor']}"
            lines.append(f"{seconds[name]:.2f} s a megapixel of {kind} on {where}, 512 x 512.")
    lines += [
        "",
        "What the filters of the first step read of the picture, each with its nearest operator, and psi and rho:",
        "",
    ]
    lines += [f"![{kind} of {name}](../docs/figures/{name}-{kind}.png)\n" for kind in ("filters", "influence")]
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "README": of_readme,
    "set12": lambda: table(kept(GREY), SIGMAS, times(read(SPEED))),
    "mcmaster": lambda: table(kept(COLOUR), SIGMAS, times(read(COLOUR_SPEED))),
    "second draw": of_draws,
    "picture by picture": of_pictures,
    "methods": lambda: table_of_methods(read(SPEED)["rows"]),
    "methods in colour": lambda: table_of_methods(read(COLOUR_SPEED)["rows"]),
    "engines": lambda: table_of_engines(read(ENGINES)["engines"]),
    "training": lambda: table_of_engines(read(TRAINING)["training"]),
    "xeon methods": lambda: table_of_methods(read(XEON)["rows"]),
    "xeon colour": lambda: table_of_methods(read(XEON)["colour"]),
    "xeon training": lambda: table_of_engines(read(XEON)["training"]),
    "gpu": lambda: table_of_engines(read(SCORES / "gpu.json")["gpu"]),
    "one level": lambda: table_of_levels(read(SCORES / "one-level.json")),
    "seeds": lambda: table_of_variants(read(SCORES / "seeds.json")["rows"]),
}


if __name__ == "__main__":
    main()
