"""Score models and baselines on a folder of clean pictures.

    python scripts/evaluate.py --data IMAGES --sigma 15 25 50 --model gray --baseline bm3d perona_malik

Noise, rounding and PSNR follow the protocol of docs/results.md. A row is the mean over the pictures; s/Mpx is the total
time over the total of pixels, each picture once, after one unmeasured call.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

Image = NDArray[np.float64]
Denoiser = Callable[[Any, float], Any]


def main() -> None:
    """Parse the arguments, score, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean pictures")
    parser.add_argument("--sigma", type=float, nargs="+", default=[15.0, 25.0, 50.0], help="noise levels, 8-bit scale")
    parser.add_argument("--model", nargs="*", default=[], help="weights, by name or path")
    parser.add_argument("--baseline", nargs="*", default=[], help="classic denoisers, by name")
    parser.add_argument("--blind", action="store_true", help="a second row per model, which estimates sigma itself")
    parser.add_argument("--color", action="store_true", help="score the pictures in colour")
    parser.add_argument("--repetition", type=int, default=0, help="another draw of the noise")
    parser.add_argument("--limit", type=int, help="only the first pictures")
    parser.add_argument("--json", type=Path, help="write every single score here")
    arguments = parser.parse_args()

    if arguments.blind and not arguments.model:
        parser.error("--blind needs a --model")
    methods = build_methods(arguments.model, arguments.baseline, arguments.blind, arguments.color)
    if not methods:
        parser.error("give at least one --model or --baseline")
    names, images = load(arguments.data, arguments.color, arguments.limit)
    rows = evaluate(methods, names, images, arguments.sigma, arguments.repetition)
    print(table(rows, arguments.sigma))
    if arguments.json:
        report = {"data": arguments.data.name, "machine": machine(), "scores": rows}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def build_methods(models: list[str], baselines: list[str], blind: bool, color: bool) -> dict[str, Denoiser]:
    """Each method as ``(noisy, sigma) -> image``."""
    import tnrd
    from tnrd.baselines import BASELINES

    axis = -1 if color else None
    methods: dict[str, Denoiser] = {}
    for name in models:
        network = tnrd.load_model(name)
        methods[name] = lambda f, s, network=network: tnrd.denoise(f, s, model=network, channel_axis=axis)
        if blind:
            methods[f"{name} (blind)"] = lambda f, s, network=network: tnrd.denoise(f, model=network, channel_axis=axis)
    for name in baselines:
        if name not in BASELINES:
            raise SystemExit(f"No baseline {name!r}; there are {', '.join(BASELINES)}.")
        methods[name] = lambda f, s, baseline=BASELINES[name].denoise: baseline(f, s, channel_axis=axis)
    return methods


def load(folder: Path, color: bool, limit: int | None) -> tuple[list[str], list[Image]]:
    """Names and pictures, floats in [0, 1], sorted by file name."""
    from tnrd.training.data import image_paths, load_images

    names = [path.name for path in image_paths(folder)][:limit]
    return names, [image / 255 for image in load_images(folder, 3 if color else 1)[:limit]]


def evaluate(
    methods: dict[str, Denoiser], names: list[str], images: list[Image], sigmas: list[float], repetition: int
) -> list[dict[str, Any]]:
    """One row per method, level and picture."""
    from tnrd.training.validation import score

    rows = []
    with tqdm(total=len(methods) * len(sigmas) * len(images), disable=not sys.stderr.isatty()) as bar:
        for method, denoise in methods.items():
            score(denoise, images[0][:64, :64], sigmas[0], 0)  # compiles and warms up
            for sigma in sigmas:
                for index, (name, image) in enumerate(zip(names, images, strict=True)):
                    result = score(denoise, image, sigma, index, repetition)
                    megapixels = image.shape[0] * image.shape[1] / 1e6
                    row = {"method": method, "sigma": sigma, "image": name, "megapixels": megapixels}
                    rows.append({**row, "psnr": result.psnr, "ssim": result.ssim, "seconds": result.seconds})
                    bar.update()
    return rows


def table(rows: list[dict[str, Any]], sigmas: list[float]) -> str:
    """Markdown: PSNR / SSIM per level, and s/Mpx."""
    head = "| method | " + " | ".join(f"sigma {s:g}" for s in sigmas) + " | s/Mpx |"
    lines = [head, "|---" * (len(sigmas) + 2) + "|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        cells = []
        for sigma in sigmas:
            at = [row for row in mine if row["sigma"] == sigma]
            cells.append(f"{np.mean([r['psnr'] for r in at]):.2f} / {np.mean([r['ssim'] for r in at]):.4f}")
        seconds = sum(r["seconds"] for r in mine) / sum(r["megapixels"] for r in mine)
        lines.append(f"| {method} | " + " | ".join(cells) + f" | {seconds:.2f} |")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What the times were measured on."""
    import torch

    packages = ("tnrd", "torch", "numba", "numpy", "scikit-image", "opencv-python-headless", "bm3d")
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    """Its name, and the family that tells one generation from the next where the name does not."""
    information = Path("/proc/cpuinfo")
    if not information.exists():
        return platform.processor() or platform.machine()
    lines = dict(line.split(":", 1) for line in information.read_text().split("\n\n")[0].splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    return f"{fields.get('model name', platform.machine())}, family {fields.get('cpu family')}"


if __name__ == "__main__":
    main()
