"""Score models and baselines on a folder of clean pictures.

    python scripts/evaluate.py --data IMAGES --sigma 15 25 50 --model gray --baseline bm3d perona_malik

Noise, rounding and PSNR follow the protocol of docs/results.md. A row is the mean over the pictures; s/Mpx is the total
time over the total of pixels, each picture once, after one unmeasured call: on a machine that does nothing else.

With --json every score is kept as soon as it is known. The same command goes on where it was stopped, and methods can
be added later: what the file holds is not computed again, unless the weights behind it, the pixels of the picture or
its place in the folder have changed since. (After a change in the code of a method, take another file.)
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import platform
import sys
from collections.abc import Callable
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

Image = NDArray[np.float64]
Denoiser = Callable[[Any, float], Any]
OURS = "tnrd "  # how the benchmark marks the project's models


def main() -> None:
    """Parse the arguments, score, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean pictures")
    parser.add_argument("--sigma", type=float, nargs="+", default=[15.0, 25.0, 50.0], help="noise levels, 8-bit scale")
    parser.add_argument("--model", nargs="*", default=[], help="weights, by name or path")
    parser.add_argument("--baseline", nargs="*", default=[], help="classic denoisers, by name, or 'all'")
    parser.add_argument("--blind", action="store_true", help="a second row per model, which estimates sigma itself")
    parser.add_argument("--color", action="store_true", help="score the pictures in colour")
    parser.add_argument(
        "--by-channel", action="store_true", help="the grey weights on red, green and blue by themselves"
    )
    parser.add_argument("--repetition", type=int, default=0, help="another draw of the noise")
    parser.add_argument("--limit", type=int, help="only the first pictures")
    parser.add_argument("--json", type=Path, help="keep every single score here, and go on from it")
    parser.add_argument("--times", type=Path, help="take s/Mpx from this JSON of scripts/benchmark.py")
    arguments = parser.parse_args()

    if arguments.blind and not arguments.model:
        parser.error("--blind needs a --model")
    if arguments.by_channel and not arguments.color:
        parser.error("--by-channel needs --color")
    methods = build_methods(arguments.model, arguments.baseline, arguments.blind, arguments.color, arguments.by_channel)
    if not methods:
        parser.error("give at least one --model or --baseline")
    seconds = times(json.loads(arguments.times.read_text(encoding="utf-8"))) if arguments.times else None
    names, images = load(arguments.data, arguments.color, arguments.limit)
    report = Report(arguments.json, arguments.data.name, arguments.color, arguments.repetition)
    evaluate(methods, names, images, arguments.sigma, report)
    print(table(report.of(list(methods), names, arguments.sigma), arguments.sigma, seconds))


class Method(NamedTuple):
    """A denoiser and the hash of the weights behind it, empty where there are none."""

    denoise: Denoiser
    weights: str


class Report:
    """Scores by method, level and picture, kept in a JSON file that is complete at any moment; its folder is made.

    Raises:
        SystemExit: The file holds scores of other pictures, or of another draw of the noise.
    """

    def __init__(self, path: Path | None, data: str, color: bool, repetition: int) -> None:
        self.path = path
        self.head = {"data": data, "color": color, "repetition": repetition}
        self.machine = machine()
        self.rows: list[dict[str, Any]] = []
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        if path is not None and path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            changed = [key for key, value in self.head.items() if kept.get(key) != value]
            if changed:
                raise SystemExit(f"{path} is of another run, its {', '.join(changed)} differ: choose another --json.")
            self.rows = kept["scores"]

    def find(self, method: str, weights: str, sigma: float, picture: dict[str, Any]) -> dict[str, Any] | None:
        """The row of a score, if it is there; older rows tell a picture by its name alone."""
        wanted = {"method": method, "weights": weights, "sigma": sigma, "image": picture["image"]}
        rows = (row for row in self.rows if wanted.items() <= row.items())
        return next((row for row in rows if all(row.get(key, own) == own for key, own in picture.items())), None)

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row, in place of one by other weights."""
        same = ("method", "sigma", "image")
        self.rows = [old for old in self.rows if any(old[key] != row[key] for key in same)] + [row]
        if self.path is not None:
            temporary = self.path.with_name(self.path.name + ".part")
            lines = ",\n".join(json.dumps(row) for row in self.rows)
            head = json.dumps({**self.head, "machine": self.machine})
            temporary.write_text(f'{head[:-1]},\n"scores": [\n{lines}\n]}}\n', encoding="utf-8")
            temporary.replace(self.path)

    def of(self, methods: list[str], images: list[str], sigmas: list[float]) -> list[dict[str, Any]]:
        """The rows of these methods, pictures and levels, method by method."""
        chosen = [row for row in self.rows if row["image"] in images and row["sigma"] in sigmas]
        return [row for method in methods for row in chosen if row["method"] == method]


def build_methods(
    models: list[str], baselines: list[str], blind: bool, color: bool, by_channel: bool = False
) -> dict[str, Method]:
    """Each method as ``(noisy, sigma) -> image``."""
    import tnrd
    from tnrd.baselines import BASELINES
    from tnrd.weights import find_weights, read_weights

    axis = -1 if color else None
    methods: dict[str, Method] = {}
    for name in models:
        try:
            file = find_weights(name)
            model = read_weights(file)
        except ValueError as error:
            raise SystemExit(str(error)) from error
        known = partial(tnrd.denoise, model=model, channel_axis=axis)
        if model.config.channels > 1 and not color:
            raise SystemExit(f"The weights {name!r} are for pictures in colour: --color.")
        methods[name] = Method(known, file.sha256)
        if by_channel and model.config.channels == 1:
            methods[f"{name} (by channel)"] = Method(
                partial(_by_channel, partial(tnrd.denoise, model=model)), file.sha256
            )
        if blind:
            methods[f"{name} (blind)"] = Method(lambda f, s, known=known: known(f), file.sha256)
    for name in BASELINES if "all" in baselines else baselines:
        if name not in BASELINES:
            raise SystemExit(f"No baseline {name!r}; there are {', '.join(BASELINES)}.")
        if name == "bm3d" and find_spec("bm3d") is None:
            raise SystemExit('bm3d is an extra, for non-commercial use: pip install ".[bm3d]", or leave it out.')
        weights = " ".join(find_weights(own).sha256 for own in BASELINES[name].weights)
        methods[name] = Method(partial(BASELINES[name].denoise, channel_axis=axis), weights)
    return methods


def _by_channel(denoise: Denoiser, noisy: Image, sigma: float) -> Image:
    return np.stack([denoise(channel, sigma) for channel in np.moveaxis(noisy, -1, 0)], axis=-1)


def load(folder: Path, color: bool, limit: int | None) -> tuple[list[str], list[Image]]:
    """Names and pictures, floats in [0, 1], sorted by file name."""
    from tnrd.training.data import image_paths, load_images

    if limit is not None and limit < 1:
        raise SystemExit(f"--limit must be at least 1, got {limit}.")
    try:
        names = [path.name for path in image_paths(folder)][:limit]
        return names, [image / 255 for image in load_images(folder, 3 if color else 1)[:limit]]
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error


def identity(image: Image) -> str:
    """SHA-256 of a picture's shape and pixels."""
    pixels = np.rint(255 * image).astype(np.uint8)
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()


def evaluate(
    methods: dict[str, Method], names: list[str], images: list[Image], sigmas: list[float], report: Report
) -> None:
    """Add what the report lacks, one row per method, level and picture."""
    from tnrd.training.validation import score

    pictures = [
        {"image": name, "index": index, "pixels": identity(image)}
        for index, (name, image) in enumerate(zip(names, images, strict=True))
    ]
    with tqdm(total=len(methods) * len(sigmas) * len(images), disable=not sys.stderr.isatty()) as bar:
        for name, method in methods.items():
            warm = False
            for sigma, (picture, image) in itertools.product(sigmas, zip(pictures, images, strict=True)):
                bar.update()
                if report.find(name, method.weights, sigma, picture):
                    continue
                if not warm:  # compiles what has to be
                    score(method.denoise, images[0][:64, :64], sigmas[0], 0)
                    warm = True
                result = score(method.denoise, image, sigma, picture["index"], report.head["repetition"])
                megapixels = image.shape[0] * image.shape[1] / 1e6
                row = {"method": name, "weights": method.weights, "sigma": sigma, **picture}
                scores = {"psnr": round(result.psnr, 4), "ssim": round(result.ssim, 5)}
                where = {"seconds": round(result.seconds, 4), "processor": report.machine["processor"]}
                report.add({**row, "megapixels": megapixels, **scores, **where})


def table(rows: list[dict[str, Any]], sigmas: list[float], seconds: dict[str, float] | None = None) -> str:
    """Markdown: PSNR / SSIM per level, and s/Mpx, of these very calls or as given."""
    head = "| method | " + " | ".join(f"sigma {s:g}" for s in sigmas) + " | s/Mpx |"
    lines = [head, "|---" * (len(sigmas) + 2) + "|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        cells = []
        for sigma in sigmas:
            at = [row for row in mine if row["sigma"] == sigma]
            means = [np.mean([row[key] for row in at]) for key in ("psnr", "ssim")] if at else []
            cells.append("{:.2f} / {:.4f}".format(*means) if at else "")
        own = sum(r["seconds"] for r in mine) / sum(r["megapixels"] for r in mine)
        if len({row["processor"] for row in rows}) > 1:
            own = None  # times on different machines tell nothing beside each other
        time = own if seconds is None else seconds.get(method)
        lines.append(f"| {method} | " + " | ".join(cells) + (" |  |" if time is None else f" | {time:.2f} |"))
    return "\n".join(lines)


def times(report: dict[str, Any]) -> dict[str, float]:
    """s/Mpx of each method in a report of scripts/benchmark.py, at the largest picture."""
    if not report["rows"]:
        return {}
    largest = max(row["size"] for row in report["rows"])
    at = [row for row in report["rows"] if row["size"] == largest]
    return {row["method"].removeprefix(OURS): row["per_mpx"] for row in at}


def machine() -> dict[str, Any]:
    """What the times were measured on."""
    import torch

    packages = ("tnrd", "torch", "numba", "numpy", "scikit-image", "opencv-python-headless", "kornia", "bm3d", "triton")
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {
        "processor": _processor(),
        **gpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    """Its name, and the family and model that tell one generation from the next where the name does not."""
    information = Path("/proc/cpuinfo")
    if not information.exists():
        return platform.processor() or platform.machine()
    lines = dict(line.split(":", 1) for line in information.read_text().split("\n\n")[0].splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    numbers = f"family {fields.get('cpu family')}, model {fields.get('model')}"
    return f"{fields.get('model name', platform.machine())}, {numbers}"


if __name__ == "__main__":
    main()
