"""Pictures that use little of the range of their file, or are on a scale of their own: with amplification and without.

    python scripts/evaluate_contrast.py --data ../shared/data/set12 --model gray

Each picture, noise and all, is multiplied by a factor, denoised with the level estimated or given, and divided by it
again. "Amplified" is what `tnrd.denoise` does; "as it is" the same with `span=1`, where a model can be called so at
all. Mean PSNR in dB after clipping and rounding to 8 bits.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

import tnrd
from tnrd.inference.levels import MAX_SIGMA
from tnrd.metrics import psnr, round_to_8bit
from tnrd.noise import add_noise
from tnrd.training.data import image_paths

SCALES = (1.0, 1 / 2, 1 / 4, 1 / 16, 1 / 64, 255.0)
LEVELS = (5, 15, 25, 50)


def main() -> None:
    """Score and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean pictures")
    parser.add_argument("--model", default="default")
    arguments = parser.parse_args()

    images = [np.asarray(Image.open(path).convert("L")) / 255 for path in image_paths(arguments.data)]
    model = tnrd.load_model(arguments.model)
    print("| factor | sigma | as it is | amplified | amplified, level estimated |\n|---|---|---|---|---|")
    for scale in SCALES:
        for level in LEVELS:
            rows = [
                scores(clean, scale, level, 1000 * level + index, model)
                for index, clean in enumerate(tqdm(images, leave=False))
            ]
            means = " | ".join(f"{value:.2f}" for value in np.mean(rows, axis=0))
            print(f"| {scale:g} | {level} | {means.replace('nan', '-')} |", flush=True)


def scores(clean: np.ndarray, scale: float, level: int, seed: int, model: tnrd.TNRD) -> list[float]:
    """PSNR of each column for one picture."""
    sigma = level / 255 * scale
    noisy = (scale * add_noise(clean, level / 255, seed)).astype(np.float32)

    def score(result: np.ndarray) -> float:
        return psnr(clean, round_to_8bit(result / scale))

    plain = score(tnrd.denoise(noisy, sigma, span=1.0, model=model)) if sigma <= MAX_SIGMA else np.nan
    return [plain, score(tnrd.denoise(noisy, sigma, model=model)), score(tnrd.denoise(noisy, model=model))]


if __name__ == "__main__":
    main()
