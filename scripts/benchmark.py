"""Speed: the engines against each other, the weights against other denoisers, in one run on one machine.

    python scripts/benchmark.py --json benchmark.json
    python scripts/benchmark.py --tables methods --size 512 --against bm3d nlm tv

Tables: ``engines`` (s/Mpx, useful GFLOP/s, share of the matrix-product rate, ratio to torch and torch.compile of it),
``training`` (forward and backward), ``methods`` (what a user would otherwise call), ``memory``, and, if asked for,
``gpu`` (the same engines on frames of 3840 x 2160). Before any time is printed the engines must agree, and every method
must gain on the noisy picture, scikit-image's camera mirrored to size, sigma 25. Times are medians of --repeat calls
after a warm-up; a call of over 20 seconds is not repeated; the competitors are those of tnrd.baselines. ``training`` is
measured in several processes, one after another, of which the medians count.
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
from tnrd.image_io.completion import completed

Image = NDArray[np.float32]
SIGMA = 25 / 255
TOLERANCE = 1e-4  # largest difference between engines, intensities in [0, 1]; an 8-bit level is 3.9e-3
LONG = 20.0  # seconds; a longer call is timed once
LEAST_GAIN = 3.0  # dB
KEYS = {"methods": "rows"}  # of tables in the JSON, where they differ from the names
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
    parser.add_argument("--processes", type=int, default=5, help="processes of 'training', one after another")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.against == ["all"]:
        arguments.against = list(BASELINES)
    if not set(arguments.against) <= set(BASELINES):
        parser.error(f"no baseline {set(arguments.against) - set(BASELINES)}; there are {', '.join(BASELINES)}")
    if "bm3d" in arguments.against and "methods" in arguments.tables and find_spec("bm3d") is None:
        parser.error('bm3d is an extra, for non-commercial use: pip install ".[bm3d]", or choose others with --against')
    check(parser, arguments)
    measures: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "engines": lambda: inference_rows(arguments.engine_size, arguments.slow_up_to, arguments.repeat),
        "training": lambda: training_rows(arguments.repeat, arguments.processes),
        "gpu": lambda: gpu_rows(arguments.repeat),
        "methods": lambda: compare_methods(
            arguments.size, arguments.model, arguments.against, arguments.repeat, arguments.color
        ),
        "memory": lambda: peak_memory(arguments.memory_size, arguments.model[0]),
    }
    report: dict[str, Any] = {"machine": machine()}
    for table, measure in measures.items():
        if table in arguments.tables:
            rows = report[KEYS.get(table, table)] = measure()
            print({"methods": table_of_methods, "memory": lines_of_memory}.get(table, table_of_engines)(rows))
            if arguments.json:  # what is measured is kept, whatever happens to the rest
                with completed(arguments.json, overwrite=True) as temporary:
                    Path(temporary).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report["machine"]))


def check(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End with a sentence before anything is measured if something could not be."""
    import torch

    import tnrd

    for name in ("repeat", "processes"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(arguments, name)}")
    if "gpu" in arguments.tables and not torch.cuda.is_available():
        parser.error("the table 'gpu' needs an NVIDIA GPU")
    for name in arguments.model:
        try:
            channels = tnrd.load_model(name).config.channels
        except ValueError as error:
            parser.error(str(error))
        if channels == 3 and not arguments.color:
            parser.error(f"{name} takes colour pictures: add --color")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        kept = set(json.loads(arguments.json.read_text(encoding="utf-8"))) if arguments.json.exists() else set()
        lost = kept - {"machine"} - {KEYS.get(table, table) for table in arguments.tables}
        if lost:
            parser.error(f"{arguments.json} holds {', '.join(sorted(lost))}, which this run would not measure again")


def lines_of_memory(rows: list[dict[str, Any]]) -> str:
    """A line a size."""
    return "\n".join(
        f"{row['size']}x{row['size']}: {row['extra_bytes'] / 1e6:.0f} MB of peak memory beyond input and output"
        for row in rows
    )


def compare_methods(
    sizes: list[int], models: list[str], against: list[str], repeat: int, color: bool = False
) -> list[dict[str, Any]]:
    """The weights, in grey a small scalar model, and what a user would otherwise call, on pictures of these sides.

    Each is called once in every round, so that a machine that is busy for a while is so for all of them.
    """
    rows = []
    for size in sizes:
        clean, noisy = picture(size, color)
        for name in models:
            check_engines(name, noisy)
        methods = {f"tnrd {name}": ours(name) for name in models}
        if not color:
            methods[f"tnrd {SMALL}"] = small()
        for name in against:
            methods[name] = partial(BASELINES[name].denoise, sigma=SIGMA, channel_axis=axis_of(noisy))
        first = {name: checked(name, denoise, clean, noisy) for name, denoise in methods.items()}
        quick = [name for name in methods if first[name][1] < LONG]
        rounds = [{name: timed(methods[name], noisy) for name in quick} for _ in range(repeat)]
        rows += [
            row(name, len(noisy), noisy.shape[0] * noisy.shape[1], *first[name], [r.get(name) for r in rounds], rounds)
            for name in methods
        ]
    return rows


def checked(name: str, denoise: Callable[[Image], Any], clean: Image, noisy: Image) -> tuple[float, float]:
    """PSNR and seconds of a first call, which has to denoise; the scalar model is not trained, and need not."""
    from tnrd.metrics import psnr, round_to_8bit

    denoise(noisy[:64, :64])  # compiles what has to be
    start = time.perf_counter()
    result = denoise(noisy)
    seconds = time.perf_counter() - start
    quality = psnr(clean, round_to_8bit(result))
    if SMALL not in name and quality < psnr(clean, round_to_8bit(noisy)) + LEAST_GAIN:
        raise SystemExit(f"{name} does not denoise ({quality:.2f} dB): no speed is reported.")
    return quality, seconds


def timed(denoise: Callable[[Image], Any], noisy: Image) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    denoise(noisy)
    return time.perf_counter() - start


def row(
    name: str,
    size: int,
    pixels: int,
    psnr: float,
    first: float,
    times: list[float | None],
    rounds: list[dict[str, float]],
) -> dict[str, Any]:
    """Medians of a method, and how many times as long as the first model it took in each round."""
    repeated = [seconds for seconds in times if seconds is not None]
    seconds = float(np.median(repeated or [first]))
    reference = [next(iter(r.values())) for r in rounds]
    ratios = [t / ours for t, ours in zip(repeated, reference, strict=True)] if repeated else []
    return {
        "method": name,
        "size": size,
        "psnr": psnr,
        "seconds": seconds,
        "per_mpx": seconds / pixels * 1e6,
        "calls": len(repeated) or 1,
        "ratio": float(np.median(ratios)) if ratios else seconds / float(np.median(reference)),
        "ratios": [min(ratios), max(ratios)] if ratios else None,
    }


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


def table_of_methods(rows: list[dict[str, Any]]) -> str:
    """Markdown, with the ratio to the first model at the same size: the median of the rounds, and its range."""
    lines = ["| method | size | PSNR (dB) | s | s/Mpx | times slower than ours |", "|---|---|---|---|---|---|"]
    for row in rows:
        first = next(r for r in rows if r["size"] == row["size"])
        ratio = f"{row.get('ratio', row['seconds'] / first['seconds']):.2f}"
        if row.get("ratios") and row is not first:
            ratio += " ({:.2f} to {:.2f})".format(*row["ratios"])
        lines.append(
            f"| {row['method']} | {row['size']} | {row['psnr']:.2f} | {row['seconds']:.4f} | {row['per_mpx']:.3f} "
            f"| {ratio} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
