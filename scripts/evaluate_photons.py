"""Photon and read noise: the generalised Anscombe transform against treating the noise as Gaussian.

    python scripts/evaluate_photons.py --data ../shared/data/set12 --model gray

Each picture gets Poisson noise of 5, 20 and 80 photons at white and read noise of 1 to 3 electrons. Columns, mean PSNR
in dB after clipping and rounding to 8 bits: noisy; Gaussian, the level estimated by `tnrd.estimate_sigma` (at most the
100 that the models cover); Gaussian, the level that is right on average, from the true parameters; the transform with
estimated and with true parameters.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

import tnrd
from tnrd.degradations import add_poisson_gaussian
from tnrd.inference.levels import MAX_SIGMA
from tnrd.inference.photons import denoise_photon_noise
from tnrd.metrics import psnr, round_to_8bit
from tnrd.training.data import image_paths

PEAKS = (5, 20, 80)
READ_NOISES = (1, 2, 3)


def main() -> None:
    """Score and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean pictures")
    parser.add_argument("--model", default="default")
    arguments = parser.parse_args()

    images = [np.asarray(Image.open(path).convert("L")) / 255 for path in image_paths(arguments.data)]
    model = tnrd.load_model(arguments.model)
    columns = (
        "photons",
        "read noise",
        "noisy",
        "Gaussian, estimated",
        "Gaussian, mean level",
        "transform, estimated",
        "transform",
    )
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for peak in PEAKS:
        for electrons in READ_NOISES:
            rows = [
                scores(clean, 1 / peak, electrons / peak, 1000 * peak + index, model)
                for index, clean in enumerate(tqdm(images, leave=False))
            ]
            print(f"| {peak} | {electrons} | " + " | ".join(f"{value:.2f}" for value in np.mean(rows, axis=0)) + " |")


def scores(clean: np.ndarray, gain: float, read_noise: float, seed: int, model: tnrd.TNRD) -> list[float]:
    """PSNR of each column for one picture."""
    noisy = add_poisson_gaussian(clean, gain, read_noise, seed)
    blind = min(float(tnrd.estimate_sigma(noisy)), MAX_SIGMA)
    mean = min(float(np.sqrt(np.mean(gain * clean) + read_noise**2)), MAX_SIGMA)
    results = [
        noisy,
        tnrd.denoise(noisy, blind, model=model),
        tnrd.denoise(noisy, mean, model=model),
        denoise_photon_noise(noisy, model=model),
        denoise_photon_noise(noisy, gain, read_noise, model=model),
    ]
    return [psnr(clean, round_to_8bit(result)) for result in results]


if __name__ == "__main__":
    main()
