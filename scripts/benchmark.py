"""Speed: the engines against each other, the weights against other denoisers, in one run on one machine.

    python scripts/benchmark.py --json benchmark.json
    python scripts/benchmark.py --tables methods --size 512 --against bm3d nlm tv

Tables: ``engines`` (s/Mpx, useful GFLOP/s, share of the matrix-product rate, ratio to torch and torch.compile of it),
``training`` (forward and backward), ``methods`` (what a user would otherwise call), ``memory``, and, if asked for,
``gpu`` (the same engines on frames of 3840 x 2160). Before any time is printed the engines must agree, and every method
must gain on the noisy picture, scikit-image's camera mirrored to size, sigma 25. Times are medians of --repeat calls
after a warm-up; a call of over 20 seconds is not repeated; the competitors are those of tnrd.baselines.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_engines import (
    CONFIGURATIONS,
    build,
    gpu_rows,
    inference_rows,
    peak_memory,
    table_of_engines,
    training_rows,
)
from evaluate import machine
from numpy.typing import NDArray

from tnrd.baselines import BASELINES

Image = NDArray[np.float32]
SIGMA = 25 / 255
TOLERANCE = 1e-4  # largest difference between engines, intensities in [0, 1]; an 8-bit level is 3.9e-3
LONG = 20.0  # seconds; a longer call is timed once
TABLES = ("engines", "training", "methods", "memory", "gpu")
SMALL = "5x5x24, 5 steps"  # timed beside the weights, with those it starts from


def main() -> None:
    """Parse the arguments, check, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=TABLES[:4], choices=TABLES)
    parser.add_argument("--size", type=int, nargs="+", default=[512], help="sides of the pictures of 'methods'")
    parser.add_argument("--engine-size", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096])
    parser.add_argument("--slow-up-to", type=int, default=1024, help="largest side for the slow engines")
    parser.add_argument("--memory-size", type=int, nargs="+", default=[4096])
    parser.add_argument("--model", nargs="+", default=["gray"], help="weights, by name or path")
    parser.add_argument("--color", action="store_true", help="'methods' on scikit-image's astronaut, in colour")
    parser.add_argument("--against", nargs="*", default=["bm3d", "nlm_opencv", "tv"], help="baselines, or 'all'")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)

    if arguments.against == ["all"]:
        arguments.against = list(BASELINES)
    if not set(arguments.against) <= set(BASELINES):
        parser.error(f"no baseline {set(arguments.against) - set(BASELINES)}; there are {', '.join(BASELINES)}")
    if "bm3d" in arguments.against and "methods" in arguments.tables and find_spec("bm3d") is None:
        parser.error('bm3d is an extra, for non-commercial use: pip install ".[bm3d]", or choose others with --against')
    report: dict[str, Any] = {"machine": machine()}
    if "engines" in arguments.tables:
        report["engines"] = inference_rows(arguments.engine_size, arguments.slow_up_to, arguments.repeat)
        print(table_of_engines(report["engines"]))
    if "training" in arguments.tables:
        report["training"] = training_rows(arguments.repeat)
        print(table_of_engines(report["training"]))
    if "gpu" in arguments.tables:
        report["gpu"] = gpu_rows(arguments.repeat)
        print(table_of_engines(report["gpu"]))
    if "methods" in arguments.tables:
        report["rows"] = compare_methods(
            arguments.size, arguments.model, arguments.against, arguments.repeat, arguments.color
        )
        print(table_of_methods(report["rows"]))
    if "memory" in arguments.tables:
        report["memory"] = peak_memory(arguments.memory_size, arguments.model[0])
        for row in report["memory"]:
            megabytes = row["extra_bytes"] / 1e6
            print(f"{row['size']}x{row['size']}: {megabytes:.0f} MB of peak memory beyond input and output")
    print(json.dumps(report["machine"]))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def compare_methods(
    sizes: list[int], models: list[str], against: list[str], repeat: int, color: bool = False
) -> list[dict[str, Any]]:
    """The weights, in grey a small scalar model, and what a user would otherwise call, on pictures of these sides."""
    rows = []
    for size in sizes:
        clean, noisy = picture(size, color)
        for name in models:
            check_engines(name, noisy)
            rows.append(measure(f"tnrd {name}", ours(name), clean, noisy, repeat))
        if not color:
            rows.append(measure(f"tnrd {SMALL}", small(), clean, noisy, repeat, gain=None))
        for name in against:
            competitor = partial(BASELINES[name].denoise, sigma=SIGMA, channel_axis=axis_of(noisy))
            rows.append(measure(name, competitor, clean, noisy, repeat))
    return rows


def axis_of(image: Image) -> int | None:
    """The axis of the colours."""
    return None if image.ndim == 2 else -1


def small() -> Callable[[Image], Any]:
    """A scalar model as it starts: its pictures are nothing yet, its time is that of any weights of this shape."""
    import tnrd

    model = build(CONFIGURATIONS[SMALL], "auto")
    return lambda noisy: tnrd.denoise(noisy, SIGMA, model=model)


def picture(size: int, color: bool) -> tuple[Image, Image]:
    """A clean and a noisy picture of this side."""
    from skimage import data

    from tnrd.noise import add_noise

    photograph = (data.astronaut() if color else data.camera()).astype(np.float64) / 255
    margin = max(0, size - min(photograph.shape[:2]))
    widths = ((0, margin), (0, margin), (0, 0))[: photograph.ndim]
    clean = np.pad(photograph, widths, mode="symmetric")[:size, :size]
    return clean.astype(np.float32), add_noise(clean, SIGMA, seed=25_000)


def ours(name: str) -> Callable[[Image], Any]:
    """The library's own call with loaded weights."""
    import tnrd

    model = tnrd.load_model(name)
    return lambda noisy: tnrd.denoise(noisy, SIGMA, model=model, channel_axis=axis_of(noisy))


def check_engines(name: str, noisy: Image) -> None:
    """Refuse to time an engine that does not compute what the reference does."""
    import tnrd

    fast, reference = (
        tnrd.denoise(noisy, SIGMA, model=name, engine=engine, channel_axis=axis_of(noisy))
        for engine in ("numba", "torch")
    )
    difference = float(np.abs(fast - reference).max())
    if not difference <= TOLERANCE:
        raise SystemExit(f"The engines differ by {difference} on {name}: no speed is reported.")


def measure(
    name: str, denoise: Callable[[Image], Any], clean: Image, noisy: Image, repeat: int, gain: float | None = 3.0
) -> dict[str, Any]:
    """Median seconds of a method that is first shown to work, by a gain in dB unless that is None."""
    from tnrd.metrics import psnr, round_to_8bit

    denoise(noisy[:64, :64])  # compiles what has to be
    start = time.perf_counter()
    quality = psnr(clean, round_to_8bit(denoise(noisy)))
    times = [time.perf_counter() - start]
    if gain is not None and quality < psnr(clean, round_to_8bit(noisy)) + gain:
        raise SystemExit(f"{name} does not denoise ({quality:.2f} dB): no speed is reported.")
    for _ in range(repeat if times[0] < LONG else 0):
        start = time.perf_counter()
        denoise(noisy)
        times.append(time.perf_counter() - start)
    seconds = float(np.median(times[1:] or times))
    return {
        "method": name,
        "size": len(noisy),
        "psnr": quality,
        "seconds": seconds,
        "per_mpx": seconds / (noisy.shape[0] * noisy.shape[1]) * 1e6,
        "calls": len(times[1:] or times),
    }


def table_of_methods(rows: list[dict[str, Any]]) -> str:
    """Markdown, with the ratio to the first model at the same size."""
    lines = ["| method | size | PSNR (dB) | s | s/Mpx | times slower than ours |", "|---|---|---|---|---|---|"]
    for row in rows:
        first = next(r for r in rows if r["size"] == row["size"])
        lines.append(
            f"| {row['method']} | {row['size']} | {row['psnr']:.2f} | {row['seconds']:.4f} | {row['per_mpx']:.3f} "
            f"| {row['seconds'] / first['seconds']:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
