"""What one set of weights for all noise levels costs: the same model trained on for one level at a time.

    python scripts/one_level.py --data TRAINING --validation ../shared/data/set12 --output runs/one-level \\
        --json docs/scores/one-level.json

From the shipped weights a copy is trained on for each sigma alone, by one schedule, and one more for all levels by the
same schedule, so that what is left between them is not the additional training. PSNR by the protocol of
`scripts/evaluate.py`. Call it again after an interruption and it goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from evaluate import machine

from tnrd.training.data import load_images
from tnrd.training.recipe import Phase, Recipe
from tnrd.training.train import Trainer
from tnrd.training.validation import array_denoiser, score
from tnrd.weights import load_model

SIGMAS = (15.0, 25.0, 50.0)
ALL_LEVELS = (0.0, 75.0)
SCALES = (1.0, 0.9, 0.8, 0.7)  # as in the recipes of the shipped weights


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean training pictures")
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="a folder for each run is made in it")
    parser.add_argument("--model", default="gray-fast", help="weights that the runs begin from")
    parser.add_argument("--iterations", type=int, default=4000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    start = load_model(options.model)
    training = load_images(options.data, start.config.channels, SCALES)
    validation = load_images(options.validation, start.config.channels)
    phase = Phase(
        iterations=options.iterations, learning_rate=2e-3, final_learning_rate=1e-5, average=0.998, deep_supervision=0.1
    )
    psnr: dict[str, dict[str, float]] = {"one set": {}, "one set, trained on": {}, "one level": {}}
    for levels in (ALL_LEVELS, *((sigma, sigma) for sigma in SIGMAS)):
        name = "all" if levels == ALL_LEVELS else f"{levels[0]:g}"
        recipe = Recipe(
            name,
            start.config,
            (phase,),
            sigma=levels,
            seed=7,
            scales=SCALES,
            validation_sigma=SIGMAS if levels == ALL_LEVELS else levels[:1],
        )
        trainer = Trainer(recipe, training, validation, options.output / name)
        trainer.load_initial(start)
        trainer.resume()
        trainer.run()
        row = "one set, trained on" if levels == ALL_LEVELS else "one level"
        for sigma in SIGMAS if levels == ALL_LEVELS else levels[:1]:
            denoise = array_denoiser(trainer.average)
            scores = [score(denoise, image / 255, sigma, i).psnr for i, image in enumerate(validation)]
            psnr[row][f"{sigma:g}"] = float(np.mean(scores))
    denoise = array_denoiser(start)
    for sigma in SIGMAS:
        scores = [score(denoise, image / 255, sigma, i).psnr for i, image in enumerate(validation)]
        psnr["one set"][f"{sigma:g}"] = float(np.mean(scores))
    print(table_of_levels(options.model, psnr))
    report = {"model": options.model, "iterations": options.iterations, "psnr": psnr, "machine": machine()}
    print(json.dumps(report["machine"]))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def table_of_levels(model: str, psnr: dict[str, dict[str, float]]) -> str:
    """Markdown, a row for each way to train."""
    lines = [f"| {model} | sigma 15 / 25 / 50 |", "|---|---|"]
    lines += [f"| {row} | {' / '.join(f'{value:.2f}' for value in values.values())} |" for row, values in psnr.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
