"""The rate of a folder against the bare rate of denoising the same pictures in memory, in one process.

    OMP_NUM_THREADS=2 NUMBA_NUM_THREADS=2 python scripts/benchmark_batch.py
    python scripts/benchmark_batch.py --pictures 32 --model default --sigma 25 --json batch.json

The bare rate is that of a loop over arrays that are in memory already: the noise level estimated (unless --sigma gives
it), then the diffusion, 8 bits in and out. The folder's rate is that of ``tnrd.denoise_files`` from its call to its
return: listing, hashing, decoding, the same computation, encoding, the manifest, and both written through to the disk.
Both are repeated by turns; the ratio of each pair is taken, then their median. The outputs are compared with the loop's
before anything is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

# As the command does it, see tnrd/cli/batch.py: for both rates, and before the libraries that read it are loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from evaluate import machine
from numpy.typing import NDArray
from skimage import data

from tnrd.image_io import Picture, read_image, write_image
from tnrd.inference.batch.run import denoise_files
from tnrd.inference.levels import estimate_noise, given_noise
from tnrd.inference.loading import load
from tnrd.inference.restore import restore
from tnrd.noise import add_noise
from tnrd.weights import find_weights

Pixels = NDArray[np.uint8]


def main() -> None:
    """Build the folder, measure by turns, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--model", default="default")
    parser.add_argument("--sigma", type=float, help="on the 8-bit scale; estimated when not given")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--least", type=float, help="end with status 1 if the ratio is smaller")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    noisy = [picture(options.size, index) for index in range(options.pictures)]
    with tempfile.TemporaryDirectory(prefix="tnrd-benchmark-") as place:
        folder = Path(place, "in")
        folder.mkdir()
        for index, pixels in enumerate(noisy):
            write_image(folder / f"{index:04}.png", Picture(pixels))
        report = measure(noisy, folder, options)
    print(
        f"{len(noisy)} pictures of {options.size} x {options.size}, sigma "
        f"{'estimated' if options.sigma is None else options.sigma}: bare {report['bare']:.2f}/s, "
        f"folder {report['folder']:.2f}/s, ratio {report['ratio']:.3f} ({report['lowest']:.3f} to "
        f"{report['highest']:.3f} in {options.repeat} pairs)"
    )
    print(json.dumps(machine()))
    if options.json:
        options.json.write_text(json.dumps(report | {"machine": machine()}, indent=1) + "\n", encoding="utf-8")
    if options.least is not None and report["ratio"] < options.least:
        raise SystemExit(f"The ratio {report['ratio']:.3f} is below {options.least}.")


def picture(size: int, index: int) -> Pixels:
    """A part of scikit-image's camera, mirrored to size, with noise of sigma 25."""
    camera = np.roll(data.camera(), 37 * index, axis=1)
    margin = max(0, size - min(camera.shape))
    clean = np.pad(camera, ((0, margin), (0, margin)), mode="symmetric")[:size, :size]
    return np.clip(np.rint(255 * add_noise(clean, 25 / 255, seed=25_000 + index)), 0, 255).astype(np.uint8)


def measure(noisy: list[Pixels], folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Rates and the median ratio; the outputs are those of the loop."""
    model = load(find_weights(options.model))
    sigma = None if options.sigma is None else options.sigma / 255

    def bare(pixels: Pixels) -> Pixels:
        noise = estimate_noise(pixels) if sigma is None else given_noise(sigma, pixels)
        return restore(pixels, model, noise, dtype=np.uint8)

    def whole(number: int) -> float:
        out = folder.parent / f"out{number}"
        start = time.perf_counter()
        result = denoise_files(folder, out, model=options.model, sigma=sigma)
        seconds = time.perf_counter() - start
        if result.done != len(noisy):
            raise SystemExit(f"Only {result.done} of {len(noisy)} pictures were denoised: {result.failures[:1]}")
        return seconds

    expected = [bare(pixels) for pixels in noisy]  # compiles, and fills the caches
    whole(0)
    for index, pixels in enumerate(expected):
        if not np.array_equal(read_image(folder.parent / "out0" / f"{index:04}.png").pixels, pixels):
            raise SystemExit(f"Picture {index} of the folder is not that of the loop: no rate is reported.")
    pairs = []
    for number in range(1, options.repeat + 1):
        start = time.perf_counter()
        for pixels in noisy:
            bare(pixels)
        pairs.append((time.perf_counter() - start, whole(number)))
    ratios = [alone / together for alone, together in pairs]
    return {
        "bare": len(noisy) / statistics.median(alone for alone, _ in pairs),
        "folder": len(noisy) / statistics.median(together for _, together in pairs),
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "pictures": len(noisy),
        "size": options.size,
        "sigma": options.sigma,
        "model": options.model,
    }


if __name__ == "__main__":
    main()
