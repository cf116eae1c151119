"""Small pictures, a quick model, and the command in a process of its own, for the tests of many files."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tnrd.cli import main
from tnrd.config import TNRDConfig
from tnrd.image_io import Picture, write_image
from tnrd.inference.batch.file_worker import FileWorker
from tnrd.inference.batch.run import BatchResult, denoise_files
from tnrd.model import TNRD
from tnrd.weights import save_weights

# Runs the command; each picture that is denoised is noted in a file, and takes a while.
COMMAND = """
import sys, time
from tnrd.cli import main
from tnrd.inference.batch.file_worker import FileWorker
log, pause, *arguments = sys.argv[1:]
denoise = FileWorker.denoise
def noting(bench, prepared, is_to_stop):
    with open(log, "a") as stream:
        stream.write(prepared.job.output_name + "\\n")
    time.sleep(float(pause))
    return denoise(bench, prepared, is_to_stop)
FileWorker.denoise = noting
raise SystemExit(main(arguments))
"""


def pixels(shape: tuple[int, ...] = (20, 24), seed: int = 0, dtype: str = "uint8") -> NDArray[Any]:
    """A grey ramp with noise of sigma 20 on the 8-bit scale."""
    unit = np.linspace(0.2, 0.8, shape[1]).reshape(1, -1, *[1] * (len(shape) - 2))
    noisy = unit + 20 / 255 * np.random.default_rng(seed).standard_normal(shape)
    if dtype == "float32":
        return noisy.astype(np.float32)
    top = np.iinfo(dtype).max
    return np.clip(np.rint(noisy * top), 0, top).astype(dtype)


def put(path: Path, seed: int = 0, **options: Any) -> Path:
    """A picture in a file, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, Picture(pixels(seed=seed, **options)), overwrite=True)
    return path


def quick_weights(folder: Path) -> Path:
    """A model that costs next to nothing, so that the tests measure the batch and not the diffusion."""
    torch.manual_seed(0)
    path = folder / "quick.safetensors"
    save_weights(path, TNRD(TNRDConfig(stages=2, filters=4, kernel_size=3)))
    return path


class Run(NamedTuple):
    """How the command ended and what it wrote."""

    status: int
    out: bytes
    err: str


@dataclass(frozen=True)
class Batch:
    """Works off a folder of four pictures, also two levels below it, into another folder, with a quick model."""

    folder: Path
    out: Path
    weights: Path

    @classmethod
    def of(cls, place: Path, weights: Path) -> Batch:
        """With its pictures."""
        for index, name in enumerate(("a.png", "b.tif", "sub/c.png", "sub/deep/d.jpg")):
            put(place / "in" / name, index)
        return cls(place / "in", place / "out", weights)

    def __call__(self, **options: Any) -> BatchResult:
        defaults = {"inputs": self.folder, "output": self.out, "recursive": True, "model": self.weights}
        return denoise_files(**(defaults | options))

    def command(self, capfdbinary: pytest.CaptureFixture[bytes], *arguments: object) -> Run:
        """Run ``tnrd-denoise`` in this process, with the quick model."""
        status = main(["--model", str(self.weights), *map(str, arguments)])
        captured = capfdbinary.readouterr()
        return Run(status, captured.out, captured.err.decode())


def note_denoised(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are denoised from now on."""
    names: list[str] = []
    denoise = FileWorker.denoise

    def noting(bench: FileWorker, prepared: Any, is_to_stop: Any) -> Any:
        names.append(prepared.job.output_name)
        return denoise(bench, prepared, is_to_stop)

    monkeypatch.setattr(FileWorker, "denoise", noting)
    return names


def tree(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file below a folder by its relative path, without manifests."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".jsonl"
    }


def lines(manifest: Path) -> list[dict[str, Any]]:
    """The records of a manifest."""
    return [json.loads(line) for line in manifest.read_text().splitlines()]


def sentences(err: str) -> list[str]:
    """What the command said, without its name; nothing else was said."""
    assert all(line.startswith("tnrd-denoise: ") for line in err.splitlines()), err
    return [line.removeprefix("tnrd-denoise: ") for line in err.splitlines()]


def start(log: Path, pause: float, *arguments: object) -> subprocess.Popen[bytes]:
    """The command in a process that notes in ``log`` what it denoises, and waits ``pause`` seconds with each file."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(log), str(pause), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A background job of a shell ignores SIGINT and its children inherit that; a person's terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
