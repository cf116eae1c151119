"""Draw a sheet of crops: what each method makes of cloth, a face, a starfish and a flat sky.

    python scripts/crop_sheet.py --data ../shared/data/set12 --model gray gray-best --baseline bm3d wnnm epll tv

Each row is a detail of a set12 picture with noise by the protocol of docs/results.md. The methods see the detail with a
margin of 64 pixels around it, as far as the picture goes; the number under a result is its PSNR on the detail alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from evaluate import Method, build_methods
from numpy.typing import NDArray
from PIL import Image

from tnrd.metrics import psnr, round_to_8bit
from tnrd.noise import add_noise
from tnrd.training.data import image_paths
from tnrd.training.validation import protocol_seed

matplotlib.use("Agg")
from matplotlib import pyplot

ROOT = Path(__file__).resolve().parents[1]
SIDE, MARGIN, ZOOM = 96, 64, 2


class Detail(NamedTuple):
    """A square of a picture: its index by sorted file name, its corner, and the noise level on the 8-bit scale."""

    name: str
    index: int
    y: int
    x: int
    sigma: float


DETAILS = (
    Detail("barbara's cloth", 8, 320, 352, 25),
    Detail("lena's face", 7, 225, 225, 25),
    Detail("starfish", 3, 80, 90, 25),
    Detail("sky behind an airplane", 5, 20, 20, 50),
)


def main() -> None:
    """Parse the arguments, denoise, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder set12")
    parser.add_argument("--model", nargs="*", default=[], help="weights, by name or path")
    parser.add_argument("--baseline", nargs="*", default=[], help="classic denoisers, by name")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "figures" / "crops.png")
    arguments = parser.parse_args()

    methods = build_methods(arguments.model, arguments.baseline, blind=False, color=False)
    paths = image_paths(arguments.data)
    sheet = [results(detail, paths[detail.index], methods) for detail in DETAILS]
    draw(sheet, arguments.output)


def results(detail: Detail, path: Path, methods: dict[str, Method]) -> list[tuple[str, NDArray[np.float64]]]:
    """Captions and details: clean, noisy, then each method."""
    with Image.open(path) as opened:
        clean = np.asarray(opened.convert("L")) / 255
    noisy = add_noise(clean, detail.sigma / 255, protocol_seed(detail.sigma, detail.index))
    top, left = max(0, detail.y - MARGIN), max(0, detail.x - MARGIN)
    context = np.s_[top : detail.y + SIDE + MARGIN, left : detail.x + SIDE + MARGIN]
    inside = np.s_[detail.y - top : detail.y - top + SIDE, detail.x - left : detail.x - left + SIDE]
    truth = clean[context][inside]
    cells = [(f"{detail.name}, sigma {detail.sigma:g}", truth), ("noisy", noisy[context][inside])]
    for name, method in methods.items():
        result = round_to_8bit(method.denoise(noisy[context], detail.sigma / 255))[inside]
        cells.append((f"{name}, {psnr(truth, result):.2f} dB", result))
    return cells


def draw(sheet: list[list[tuple[str, NDArray[np.float64]]]], output: Path) -> None:
    """A grid of details with captions, pixels doubled and otherwise as they are."""
    rows, columns, dots = len(sheet), len(sheet[0]), 100
    cell, caption, gap = SIDE * ZOOM, 22, 6
    width, height = columns * (cell + gap) + gap, rows * (cell + caption) + gap
    figure = pyplot.figure(figsize=(width / dots, height / dots), dpi=dots)
    for i, row in enumerate(sheet):
        for j, (text, image) in enumerate(row):
            left, top = gap + j * (cell + gap), gap + i * (cell + caption)
            doubled = np.kron(np.clip(image, 0, 1), np.ones((ZOOM, ZOOM)))
            figure.figimage(doubled, left, height - top - cell, cmap="gray", vmin=0, vmax=1, origin="upper")
            figure.text(left / width, 1 - (top + cell + 3) / height, text, fontsize=8, va="top")
    figure.savefig(output)
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
