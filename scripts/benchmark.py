"""Speed of the shipped weights against other denoisers, measured in one run on one machine.

    python scripts/benchmark.py --size 512 --against bm3d nlm tv --json benchmark.json

The picture is scikit-image's camera, mirrored to size, with noise of sigma 25. Before any time is printed the engines
must agree on it, and every method must gain on the noisy picture. Times are the median of --repeat calls after a
warm-up; competitors run as a user would call them, with the true sigma.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from evaluate import machine
from numpy.typing import NDArray

Image = NDArray[np.float32]
SIGMA = 25 / 255
TOLERANCE = 1e-4  # largest difference between engines, intensities in [0, 1]; an 8-bit level is 3.9e-3


def main() -> None:
    """Parse the arguments, check, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs="+", default=[512], help="sides of the square pictures")
    parser.add_argument("--model", nargs="+", default=["gray"], help="weights, by name or path")
    parser.add_argument("--against", nargs="*", default=["bm3d", "nlm", "tv"], choices=sorted(COMPETITORS))
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    if "bm3d" in arguments.against and find_spec("bm3d") is None:
        parser.error('bm3d is an extra, for non-commercial use: pip install ".[bm3d]", or choose others with --against')
    rows = []
    for size in arguments.size:
        clean, noisy = picture(size)
        for name in arguments.model:
            check_engines(name, noisy)
            rows.append(measure(f"tnrd {name}", ours(name), clean, noisy, arguments.repeat))
        for name in arguments.against:
            rows.append(measure(name, COMPETITORS[name], clean, noisy, arguments.repeat))
    print_table(rows)
    print(json.dumps(machine()))
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n", encoding="utf-8")


def picture(size: int) -> tuple[Image, Image]:
    """A clean and a noisy picture of this side."""
    from skimage import data

    from tnrd.noise import add_noise

    camera = data.camera().astype(np.float64) / 255
    margin = max(0, size - min(camera.shape))
    clean = np.pad(camera, ((0, margin), (0, margin)), mode="symmetric")[:size, :size]
    return clean.astype(np.float32), add_noise(clean, SIGMA, seed=25_000)


def ours(name: str) -> Callable[[Image], Any]:
    """The library's own call with loaded weights."""
    import tnrd

    model = tnrd.load_model(name)
    return lambda noisy: tnrd.denoise(noisy, SIGMA, model=model)


def check_engines(name: str, noisy: Image) -> None:
    """Refuse to time an engine that does not compute what the reference does."""
    import tnrd

    model = tnrd.load_model(name)
    fast = tnrd.denoise(noisy, SIGMA, model=model, engine="numba")
    difference = float(np.abs(fast - tnrd.denoise(noisy, SIGMA, model=model, engine="torch")).max())
    if not difference <= TOLERANCE:
        raise SystemExit(f"The engines differ by {difference} on {name}: no speed is reported.")


def measure(name: str, denoise: Callable[[Image], Any], clean: Image, noisy: Image, repeat: int) -> dict[str, Any]:
    """Median seconds of a method that is first shown to work."""
    from tnrd.metrics import psnr, round_to_8bit

    quality = psnr(clean, round_to_8bit(denoise(noisy)))
    if quality < psnr(clean, round_to_8bit(noisy)) + 3:
        raise SystemExit(f"{name} does not denoise ({quality:.2f} dB): no speed is reported.")
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        denoise(noisy)
        times.append(time.perf_counter() - start)
    seconds = float(np.median(times))
    return {
        "method": name,
        "size": len(noisy),
        "psnr": quality,
        "seconds": seconds,
        "per_mpx": seconds / noisy.size * 1e6,
    }


def print_table(rows: list[dict[str, Any]]) -> None:
    """Markdown, with the ratio to the first model at the same size."""
    print("| method | size | PSNR (dB) | s | s/Mpx | times slower than ours |\n|---|---|---|---|---|---|")
    for row in rows:
        first = next(r for r in rows if r["size"] == row["size"])
        print(
            f"| {row['method']} | {row['size']} | {row['psnr']:.2f} | {row['seconds']:.3f} | {row['per_mpx']:.2f} "
            f"| {row['seconds'] / first['seconds']:.1f} |"
        )


def _nlm(noisy: Image) -> Any:
    import cv2

    eight_bit = np.clip(np.rint(noisy * 255), 0, 255).astype(np.uint8)
    return cv2.fastNlMeansDenoising(eight_bit, h=25).astype(np.float32) / 255


def _tv(noisy: Image) -> Any:
    from skimage.restoration import denoise_tv_chambolle

    return denoise_tv_chambolle(noisy, weight=SIGMA)


def _baseline(name: str) -> Callable[[Image], Any]:
    from tnrd.baselines import BASELINES

    return lambda noisy: BASELINES[name].denoise(noisy, SIGMA)


COMPETITORS: dict[str, Callable[[Image], Any]] = {
    "bm3d": _baseline("bm3d"),
    "perona_malik": _baseline("perona_malik"),
    "nlm": _nlm,
    "tv": _tv,
}


if __name__ == "__main__":
    main()
