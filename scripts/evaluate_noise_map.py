"""What knowing where the noise is strong is worth: a noise map against every constant level.

    python scripts/evaluate_noise_map.py --data IMAGES --model gray

The noise of each picture rises from --low at its left border to --high at its right one, linearly. The same noisy
picture is denoised with the true map and with each constant level from --low to --high in steps of 5; rounding and
PSNR are those of docs/results.md. Printed are the mean PSNR with the map, with the constant that is best in the mean,
and with the constant that is best for each picture, chosen by looking at the clean picture.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from evaluate import load
from numpy.typing import NDArray

import tnrd
from tnrd.metrics import psnr, round_to_8bit


def main() -> None:
    """Parse the arguments, score each model, print a row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean pictures")
    parser.add_argument("--model", nargs="+", default=["gray"], help="weights, by name or path")
    parser.add_argument("--color", action="store_true", help="score the pictures in colour")
    parser.add_argument("--low", type=float, default=5.0, help="noise level at the left, 8-bit scale")
    parser.add_argument("--high", type=float, default=50.0, help="noise level at the right, 8-bit scale")
    arguments = parser.parse_args()

    _, images = load(arguments.data, arguments.color, None)
    constants = np.arange(arguments.low, arguments.high + 1e-9, 5.0)
    print("| model | noise map | best constant | its level | best constant of each picture | margin |")
    print("|---" * 6 + "|")
    for name in arguments.model:
        by_map, by_constant = score(tnrd.load_model(name), images, arguments.low, arguments.high, constants)
        best = int(by_constant.mean(0).argmax())
        each = float(by_constant.max(1).mean())
        print(
            f"| {name} | {by_map.mean():.2f} | {by_constant[:, best].mean():.2f} | {constants[best]:g} | {each:.2f} "
            f"| {by_map.mean() - each:.2f} |"
        )


def score(
    model: tnrd.TNRD, images: list[NDArray[np.float64]], low: float, high: float, constants: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """PSNR with the map, (pictures,), and with each constant, (pictures, constants)."""
    by_map, by_constant = [], []
    for index, clean in enumerate(images):
        axis = -1 if clean.ndim == 3 else None
        level = np.broadcast_to(np.linspace(low, high, clean.shape[1]) / 255, clean.shape[:2])
        draw = np.random.default_rng(round(1000 * high) + index).standard_normal(clean.shape)
        noisy = (clean + (level if axis is None else level[..., None]) * draw).astype(np.float32)

        def quality(
            sigma: float | NDArray[np.float64], clean: NDArray[np.float64] = clean, noisy: NDArray[np.float32] = noisy
        ) -> float:
            result = tnrd.denoise(noisy, sigma, model=model, channel_axis=-1 if clean.ndim == 3 else None)
            return psnr(clean, round_to_8bit(result))

        by_map.append(quality(level))
        by_constant.append([quality(constant / 255) for constant in constants])
    return np.array(by_map), np.array(by_constant)


if __name__ == "__main__":
    main()
