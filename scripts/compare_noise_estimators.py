"""Compare the blind noise estimate with scikit-image's on a folder of clean pictures.

    python scripts/compare_noise_estimators.py --data IMAGES --sigma 5 15 25 50 75

White Gaussian noise by the protocol of docs/results.md is added to each picture and estimated again; in colour each
channel counts on its own. Errors are on the 8-bit scale; s/Mpx is the median over all pictures and levels, each
estimator in turn on the same picture, after one unmeasured call. The noise that a picture already holds counts as
error, for both alike.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from evaluate import machine
from numpy.typing import NDArray
from tqdm import tqdm

Estimator = Callable[[NDArray[np.float32], int | None], Any]


def main() -> None:
    """Parse the arguments, measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean pictures")
    parser.add_argument(
        "--sigma", type=float, nargs="+", default=[5.0, 15.0, 25.0, 50.0, 75.0], help="noise levels, 8-bit scale"
    )
    parser.add_argument("--color", action="store_true", help="read the pictures in colour")
    parser.add_argument("--json", type=Path, help="write every single estimate here")
    arguments = parser.parse_args()

    from tnrd.training.data import image_paths, load_images

    names = [path.name for path in image_paths(arguments.data)]
    images = [image / 255 for image in load_images(arguments.data, 3 if arguments.color else 1)]
    rows = compare(estimators(), names, images, arguments.sigma)
    print(table(rows, arguments.sigma))
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine().items()))
    if arguments.json:
        report = {"data": arguments.data.name, "machine": machine(), "estimates": rows}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def estimators() -> dict[str, Estimator]:
    """Each estimator as ``(noisy, channel_axis) -> sigma on the [0, 1] scale``, one value a channel."""
    from skimage import restoration

    import tnrd

    return {
        "tnrd": lambda image, axis: tnrd.estimate_sigma(image, channel_axis=axis),
        "scikit-image": lambda image, axis: restoration.estimate_sigma(image, channel_axis=axis),
    }


def compare(
    methods: dict[str, Estimator], names: list[str], images: list[NDArray[np.float64]], sigmas: list[float]
) -> list[dict[str, Any]]:
    """One row per level, picture and estimator, the estimates of all channels in it."""
    from tnrd.noise import add_noise
    from tnrd.training.validation import protocol_seed

    axis = -1 if images[0].ndim == 3 else None
    for estimate in methods.values():
        estimate(images[0].astype(np.float32), axis)
    rows = []
    for sigma in tqdm(sigmas, disable=not sys.stderr.isatty()):
        for index, (name, image) in enumerate(zip(names, images, strict=True)):
            noisy = add_noise(image, sigma / 255, protocol_seed(sigma, index))
            for method, estimate in methods.items():
                start = time.perf_counter()
                found = estimate(noisy, axis)
                seconds = time.perf_counter() - start
                estimates = [float(255 * value) for value in np.atleast_1d(found)]
                row = {"method": method, "sigma": sigma, "image": name, "estimates": estimates}
                rows.append({**row, "seconds": seconds, "megapixels": image.shape[0] * image.shape[1] / 1e6})
    return rows


def table(rows: list[dict[str, Any]], sigmas: list[float]) -> str:
    """Markdown: mean absolute error and bias per level, 8-bit scale, and s/Mpx."""
    head = "| estimator | " + " | ".join(f"sigma {sigma:g}" for sigma in sigmas) + " | s/Mpx |"
    lines = [head, "|---" * (len(sigmas) + 2) + "|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        cells = []
        for sigma in sigmas:
            errors = np.concatenate([np.array(row["estimates"]) - sigma for row in mine if row["sigma"] == sigma])
            cells.append(f"{np.abs(errors).mean():.2f} ({errors.mean():+.2f})")
        seconds = float(np.median([row["seconds"] / row["megapixels"] for row in mine]))
        lines.append(f"| {method} | " + " | ".join(cells) + f" | {seconds:.3f} |")
    return "\n".join(lines) + "\n\nMean absolute error (bias), on the 8-bit scale."


if __name__ == "__main__":
    main()
