"""What one set of weights for all noise levels costs: the same model trained on for one level at a time.

    python scripts/one_level.py --data TRAINING --validation ../shared/data/set12 --output runs/one-level \\
        --json docs/scores/one-level.json

From the shipped weights a copy is trained on for each sigma alone, by one schedule, and one more for all levels by the
same schedule, so that what is left between them is not the additional training. PSNR by the protocol of
`scripts/evaluate.py`. Call it again after an interruption and it goes on; other weights need another folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from evaluate import machine
from numpy.typing import NDArray

from tnrd.model import TNRD
from tnrd.training.data import load_images
from tnrd.training.recipe import Phase, Recipe
from tnrd.training.train import Trainer
from tnrd.training.validation import array_denoiser, score
from tnrd.weights import find_weights, read_weights

SIGMAS = (15.0, 25.0, 50.0)
ALL_LEVELS = (0.0, 75.0)
SCALES = (1.0, 0.9, 0.8, 0.7)  # as in the recipes of the shipped grey weights


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
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
    file = find_weights(options.model)
    start = read_weights(file)
    training = load_images(options.data, start.config.channels, SCALES)
    validation = load_images(options.validation, start.config.channels)

    def train_on(low: float, high: float, sigmas: tuple[float, ...]) -> dict[str, float]:
        name = f"{low:g}" if low == high else "all"
        recipe = Recipe(
            name, start.config, (phase_of(options.iterations),), sigma=(low, high), seed=7, scales=SCALES,
            validation_sigma=sigmas, initial=file.sha256,
        )  # fmt: skip
        trainer = Trainer(recipe, training, validation, options.output / name)
        try:
            resumed = trainer.resume()
        except ValueError as error:
            parser.error(str(error))
        if not resumed:
            trainer.load_initial(start)
        trainer.run()
        return scores(trainer.average, validation, sigmas)

    psnr = {"one set": scores(start, validation, SIGMAS), "one set, trained on": train_on(*ALL_LEVELS, SIGMAS)}
    psnr["one level"] = {key: value for sigma in SIGMAS for key, value in train_on(sigma, sigma, (sigma,)).items()}
    report = {"model": options.model, "iterations": options.iterations, "psnr": psnr, "machine": machine()}
    print(table_of_levels(report))
    print(json.dumps(report["machine"]))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def phase_of(iterations: int) -> Phase:
    """The schedule of all runs."""
    return Phase(
        iterations=iterations, learning_rate=2e-3, final_learning_rate=1e-5, average=0.998, deep_supervision=0.1
    )


def scores(model: TNRD, validation: list[NDArray[np.uint8]], sigmas: tuple[float, ...]) -> dict[str, float]:
    """Mean PSNR by noise level."""
    denoise = array_denoiser(model)
    return {
        f"{sigma:g}": float(np.mean([score(denoise, image / 255, sigma, i).psnr for i, image in enumerate(validation)]))
        for sigma in sigmas
    }


def table_of_levels(report: dict[str, Any]) -> str:
    """Markdown, a row for each way to train."""
    lines = [f"| {report['model']} | sigma 15 / 25 / 50 |", "|---|---|"]
    for row, psnr in report["psnr"].items():
        levels = " / ".join(f"{psnr[f'{sigma:g}']:.2f}" for sigma in SIGMAS)
        lines.append(f"| {row} | {levels} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
