"""Draw the pictures of README and docs from the shipped weights.

    python scripts/figures.py

Writes docs/figures/: noisy and denoised side by side, and the diffusion u_0 ... u_T with what each step changed.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import tnrd

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "figures"
SIGMA = 25 / 255
GAP = 6
CHANGE_GAIN = 6  # the change of a step is drawn this much amplified, around mid-grey


def main() -> None:
    """Write every figure."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    FIGURES.mkdir(parents=True, exist_ok=True)
    model = tnrd.load_model("gray")
    save("denoised.png", rows([[*before_after("camera")], [*before_after("astronaut")]]))
    save("diffusion.png", rows(diffusion(model)))


def before_after(name: str) -> list[NDArray[np.float64]]:
    """A crop of an example picture, noisy and denoised with the blind noise level, as RGB."""
    noisy = np.asarray(Image.open(ROOT / "examples" / f"{name}_sigma25.png"))
    clean = tnrd.denoise(noisy, channel_axis=-1 if noisy.ndim == 3 else None)
    y, x = (80, 120) if name == "camera" else (20, 60)
    return [as_rgb(image)[y : y + 320, x : x + 320] for image in (noisy / 255, clean)]


def diffusion(model: tnrd.TNRD) -> list[list[NDArray[np.float64]]]:
    """First row u_0 ... u_T, second row the change of each step."""
    noisy = np.asarray(Image.open(ROOT / "examples" / "camera_sigma25.png")) / 255
    x = torch.from_numpy(noisy[100:260, 180:340].astype(np.float32))[None, None]
    with torch.inference_mode():
        states = [u[0, 0].numpy().astype(np.float64) for u in model.trajectory(x, SIGMA)]
    changes = [0.5 + CHANGE_GAIN * (b - a) for a, b in itertools.pairwise(states)]
    return [[as_rgb(u) for u in states], [as_rgb(np.full_like(states[0], 1.0)), *(as_rgb(c) for c in changes)]]


def as_rgb(image: NDArray[Any]) -> NDArray[np.float64]:
    """Grey or colour as (M, N, 3) in [0, 1]."""
    clipped = np.clip(np.asarray(image, dtype=np.float64), 0, 1)
    return np.repeat(clipped[..., None], 3, axis=2) if clipped.ndim == 2 else clipped


def rows(images: list[list[NDArray[np.float64]]]) -> NDArray[np.float64]:
    """Lay out rows of equal-sized pictures with white gaps."""

    def join(parts: list[NDArray[np.float64]], axis: int) -> NDArray[np.float64]:
        shape = list(parts[0].shape)
        shape[axis] = GAP
        gap = np.ones(shape)
        pieces = [piece for part in parts for piece in (part, gap)][:-1]
        return np.concatenate(pieces, axis=axis)

    return join([join(row, 1) for row in images], 0)


def save(name: str, image: NDArray[np.float64]) -> None:
    """Write a figure as an optimised PNG."""
    Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(FIGURES / name, optimize=True)
    print(f"wrote {FIGURES / name}")


if __name__ == "__main__":
    main()
