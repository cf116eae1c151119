"""The experiments the project grew from: 5x5 and 7x7 filters, one scale or several, moments or DCT; one recipe for all.

    python scripts/seed_experiments.py --data TRAINING --validation ../shared/data/set12 --output runs/seeds

Trains each variant for sigma 25 by scripts/recipes/seed.toml, one after the other, and prints a table: parameters,
seconds per megapixel, PSNR at sigma 15 / 25 / 50 by the protocol of `scripts/evaluate.py`. The model was shown sigma 25
only; at the other levels psi is scaled. Call it again after an interruption and it goes on; a finished variant is not
trained again. In the file of --json, the rows of other variants stay.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evaluate import machine
from numpy.typing import NDArray

from tnrd.config import TNRDConfig
from tnrd.model import TNRD
from tnrd.training.data import load_images
from tnrd.training.recipe import Recipe, read_recipe
from tnrd.training.train import Trainer
from tnrd.training.validation import array_denoiser, score

RECIPE = Path(__file__).parent / "recipes" / "seed.toml"
SIGMAS = (15.0, 25.0, 50.0)
FILTERS = {5: 24, 7: 48}
GALERKIN, REDISCRETISED = "galerkin", "rediscretised"
VARIANTS: dict[str, dict[str, Any]] = {
    "moments": {},
    "moments-2-galerkin": {"scales": 2},
    "moments-2-rediscretised": {"scales": 2, "coarse_kernels": REDISCRETISED},
    "moments-3-galerkin": {"scales": 3},
    "moments-3-rediscretised": {"scales": 3, "coarse_kernels": REDISCRETISED},
    "dct": {"basis": "dct", "vanishing_moments": (1,)},
}


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean training pictures")
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="a folder for each variant is made in it")
    parser.add_argument("--only", nargs="+", help="names such as 5-moments; all by default")
    parser.add_argument("--iterations", type=int, help="updates, in place of the recipe's")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
    recipe = read_recipe(RECIPE)
    if options.iterations is not None:
        recipe = dataclasses.replace(
            recipe, phases=(dataclasses.replace(recipe.phases[0], iterations=options.iterations),)
        )
    names = [f"{size}-{variant}" for size in FILTERS for variant in VARIANTS]
    chosen = names if options.only is None else options.only
    unknown = sorted(set(chosen) - set(names))
    if unknown:
        parser.error(f"unknown variants {', '.join(unknown)}; known are {', '.join(names)}")
    training = load_images(options.data, 1, recipe.scales)
    validation = load_images(options.validation, 1)
    rows = []
    for name in chosen:
        one = dataclasses.replace(recipe, name=name, model=shape_of(recipe.model, name))
        rows.append({"name": name, **measure(trained(one, training, validation, options.output / name), validation)})
    print(table_of_variants(rows))
    print(json.dumps(machine()))
    if options.json:
        report = {"rows": merged(options.json, rows), "machine": machine()}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def trained(
    recipe: Recipe, training: list[NDArray[np.uint8]], validation: list[NDArray[np.uint8]], output: Path
) -> TNRD:
    """The averaged weights at the end of the recipe."""
    trainer = Trainer(recipe, training, validation, output)
    trainer.resume()
    trainer.run()
    return trainer.average


def measure(model: TNRD, validation: list[NDArray[np.uint8]]) -> dict[str, Any]:
    """PSNR by noise level, and the median time of the largest picture."""
    denoise = array_denoiser(model)
    psnr = {
        str(round(sigma)): float(
            np.mean([score(denoise, image / 255, sigma, i).psnr for i, image in enumerate(validation)])
        )
        for sigma in SIGMAS
    }
    largest = max(validation, key=lambda image: image.size)
    x, seconds = torch.from_numpy(largest / 255).float()[None, None], []
    with torch.inference_mode():
        for _ in range(6):
            start = time.perf_counter()
            model(x, 25 / 255)
            seconds.append(time.perf_counter() - start)
    pace = statistics.median(seconds[1:]) / (largest.size / 1e6)
    return {"parameters": model.config.parameter_count, "seconds_per_megapixel": pace, "psnr": psnr}


def merged(path: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that a report holds already, those of the same variants replaced by these."""
    kept = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    return list({row["name"]: row for row in [*kept, *rows]}.values())


def table_of_variants(rows: list[dict[str, Any]]) -> str:
    """Markdown, a row a variant."""
    lines = [
        "| filters | basis | scales | coarse kernels | parameters | s/Mpx | sigma 15 / 25 / 50 |",
        "|---" * 7 + "|",
    ]
    for row in rows:
        config = shape_of(TNRDConfig(), row["name"])
        kernels = "-" if config.scales == 1 else config.coarse_kernels
        psnr = " / ".join(f"{value:.2f}" for value in row["psnr"].values())
        filters = f"{config.kernel_size}x{config.kernel_size}, {config.filters}"
        cost = f"{row['parameters']:,} | {row['seconds_per_megapixel']:.2f}"
        lines.append(f"| {filters} | {config.basis} | {config.scales} | {kernels} | {cost} | {psnr} |")
    return "\n".join(lines)


def shape_of(model: TNRDConfig, name: str) -> TNRDConfig:
    """A variant of a model."""
    size, _, variant = name.partition("-")
    return dataclasses.replace(model, kernel_size=int(size), filters=FILTERS[int(size)], **VARIANTS[variant])


if __name__ == "__main__":
    main()
