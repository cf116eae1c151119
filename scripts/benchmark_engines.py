"""The engines of the diffusion step against each other, and their memory: tables of scripts/benchmark.py.

Parity is checked before anything is timed.
"""

from __future__ import annotations

import copy
import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from tnrd.config import TNRDConfig
from tnrd.inference.cuda_graph import recorded
from tnrd.kernels import step_torch
from tnrd.model import TNRD

CONFIGURATIONS = {
    "5x5x24, 5 steps": TNRDConfig(stages=5, filters=24, kernel_size=5),
    "7x7x48, 5 steps": TNRDConfig(stages=5, filters=48, kernel_size=7),
    "7x7x48, 8 steps": TNRDConfig(stages=8, filters=48, kernel_size=7),
    "16x3x3x64 at half resolution, 8 steps": TNRDConfig(stages=8, filters=64, kernel_size=3, grid=2, companions=12),
}
BATCH, CROP = 16, 96  # of the training rows
SIGMA = 25 / 255
ROUNDED = 1e-3  # the same where products keep 11 bits
TOLERANCE = 1e-5  # largest difference from the reference in float64, intensities in [0, 1]


def build(config: TNRDConfig, engine: str) -> TNRD:
    """A model of this shape with its initial weights: the time does not depend on what it has learned."""
    torch.manual_seed(0)
    model = TNRD(config)
    model.engine = engine
    return model


def useful_flops(config: TNRDConfig) -> float:
    """Operations of the correlations per pixel: 2 F C k^2 multiply-adds a cell and step; psi is not counted."""
    step = 4 * config.filters * config.components.total * config.kernel_size**2
    return step * config.stages / config.grid**2


def matrix_product_rate(size: int = 1024) -> float:
    """GFLOP/s of torch's float32 matrix product, best of 20."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return float(2 * size**3 / min(times(lambda: a @ b, 20)) / 1e9)


def times(call: Callable[[], Any], repeat: int) -> list[float]:
    """Seconds of ``repeat`` calls after one that is not counted, until a GPU is done too."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    call()
    seconds = []
    for _ in range(repeat):
        wait()
        start = time.perf_counter()
        call()
        wait()
        seconds.append(time.perf_counter() - start)
    return seconds


def check_parity(config: TNRDConfig, engine: str, device: str = "cpu", tolerance: float = TOLERANCE) -> None:
    """Refuse to time an engine whose result or gradients are not those of the reference in float64.

    Gradients may differ more: a response within rounding of a sample of psi's table takes the slope of either side.
    """
    model = build(config, engine).to(device)
    reference = copy.deepcopy(model).double()
    reference.engine = "torch"
    x = torch.rand(2, 1, 62, 34, generator=torch.Generator().manual_seed(1)).to(device)
    results = []
    for network, picture in ((model, x), (reference, x.double())):
        out = network(picture, SIGMA)
        out.square().sum().backward()
        gradient = torch.cat([p.grad.flatten().double() for p in network.parameters() if p.grad is not None])
        results.append((out, gradient))
    (out, found), (expected, gradient) = results
    difference, slopes = (
        float((out - expected).detach().abs().max()),
        float((found - gradient).norm() / gradient.norm()),
    )
    if not (difference <= tolerance and slopes <= 1e-2):
        raise SystemExit(f"{engine} differs by {difference}, its gradients by {slopes}: nothing is timed.")


def inference_rows(sizes: list[int], slow_up_to: int, repeat: int) -> list[dict[str, Any]]:
    """Whole models on square pictures, for each engine; the slow engines on the smaller ones only."""
    rows = []
    for name, config in CONFIGURATIONS.items():
        check_parity(config, "numba")
        for size in sizes:
            rate = matrix_product_rate()
            x = torch.rand(1, 1, size, size)
            seconds = {"numba": _inference(config, "numba", x, repeat)}
            if size <= slow_up_to:
                seconds["torch"] = _inference(config, "torch", x, min(repeat, 3))
                seconds["torch.compile"] = _inference(config, "torch", x, min(repeat, 3), compiled=True)
            rows += _rows(name, config, f"{size}x{size}", x.numel(), seconds, 1.0, rate)
    return rows


TRAINING = "import json, sys, benchmark_engines as b; print(json.dumps(b.training_round(int(sys.argv[1]))))"


def training_rows(repeat: int, processes: int) -> list[dict[str, Any]]:
    """Medians of the rows of several processes, one after another, and the range of the ratios.

    From one process to the next the reference takes up to half as long again, by the same command in the same minute.
    """
    command = [sys.executable, "-c", TRAINING, str(repeat)]
    runs = [
        json.loads(subprocess.run(command, check=True, cwd=Path(__file__).parent, stdout=subprocess.PIPE).stdout)
        for _ in range(processes)
    ]
    return [_medians(of_processes) for of_processes in zip(*runs, strict=True)]


def _medians(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One row of several, with what each has measured."""
    ratios = [row["times_slower"] for row in rows]
    numbers = [key for key, value in rows[0].items() if isinstance(value, float)]
    medians = {key: float(np.median([row[key] for row in rows])) for key in numbers}
    each = {"per_mpx_of_processes": [row["per_mpx"] for row in rows], "ratios": [min(ratios), max(ratios)]}
    return {**rows[0], **medians, **each}


def training_round(repeat: int) -> list[dict[str, Any]]:
    """Forward and backward on a batch of crops; three and a half times the operations of the forward pass."""
    rows = []
    for name, config in CONFIGURATIONS.items():
        check_parity(config, "numba")
        rate = matrix_product_rate()
        x = torch.rand(BATCH, 1, CROP, CROP)
        seconds = {}
        for engine in ("numba", "torch"):
            seconds[engine] = float(np.median(times(functools.partial(_update, build(config, engine), x), repeat)))
        rows += _rows(name, config, f"{BATCH} x {CROP}x{CROP}", x.numel(), seconds, 3.5, rate)
    return rows


def gpu_rows(repeat: int, device: str = "cuda", height: int = 2160, width: int = 3840) -> list[dict[str, Any]]:
    """Frames of a video on a GPU, forward, and forward and backward on a quarter of one.

    The frame is a noisy photograph, tiled: how far the look-ups of psi lie apart depends on the picture. The fast
    engine is replayed from a graph of the whole model, as a restoration does it, and once launched anew for each frame.
    """
    from skimage.data import camera

    name = "7x7x48, 5 steps"
    config = CONFIGURATIONS[name]
    fast = "triton" if device == "cuda" else "torch"
    check_parity(config, fast, device)
    a, b = torch.randn(2, 4096 if device == "cuda" else 64, 4096, device=device)
    rate = 2 * len(a) ** 2 * 4096 / min(times(lambda: a @ b.t(), 20)) / 1e9
    clean = torch.from_numpy(camera() / 255).float().to(device).repeat(height // 512 + 1, width // 512 + 1)
    noise = torch.randn(height, width, generator=torch.Generator().manual_seed(1)).to(device)
    frame = (clean[:height, :width] + SIGMA * noise)[None, None]
    quarter = frame[..., : height // 2, : width // 2]
    seconds = {}
    for precision in ("highest", "high"):
        with float32_products(precision):
            error = _error(config, fast, frame[..., :512, :512])
            print(f"{precision}: error {error:.1e} of intensities in [0, 1]")
            if not error <= (TOLERANCE if precision == "highest" else ROUNDED):
                raise SystemExit("That is too much: nothing is timed.")
            seconds[_named(fast, precision)] = _inference(config, fast, frame, repeat, replayed=True)
    if device == "cuda":
        seconds[f"{fast}, no graph"] = _inference(config, fast, frame, repeat)
    seconds["torch"] = _inference(config, "torch", frame, repeat)
    seconds["torch.compile"] = _inference(config, "torch", frame, repeat, compiled=True)
    rows = _rows(name, config, f"{width}x{height}", frame.numel(), seconds, 1.0, rate)
    seconds = {}
    for engine, precision in ((fast, "highest"), (fast, "high"), ("torch", "highest")):
        update = functools.partial(_update, build(config, engine).to(device), quarter)
        with float32_products(precision):
            seconds[_named(engine, precision)] = float(np.median(times(update, repeat)))
    rows += _rows(name, config, f"{width // 2}x{height // 2}, gradients", quarter.numel(), seconds, 3.5, rate)
    return rows + _gpu_batch_rows(fast, repeat, device, rate)


def _gpu_batch_rows(fast: str, repeat: int, device: str, rate: float) -> list[dict[str, Any]]:
    """Forward and backward on a batch of crops by a model of several components."""
    name = "16x3x3x64 at half resolution, 8 steps"
    config = CONFIGURATIONS[name]
    x = torch.rand(2 * BATCH, 1, 64, 64, device=device)
    seconds = {}
    for engine, precision in ((fast, "highest"), (fast, "high"), ("torch", "highest")):
        with float32_products(precision):
            if engine == fast:
                check_parity(config, engine, device, TOLERANCE if precision == "highest" else ROUNDED)
            update = functools.partial(_update, build(config, engine).to(device), x)
            seconds[_named(engine, precision)] = float(np.median(times(update, repeat)))
    return _rows(name, config, f"{len(x)} x 64x64, gradients", x.numel(), seconds, 3.5, rate)


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """torch's setting for the products of float32 matrices, for a while."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _named(engine: str, precision: str) -> str:
    return engine if precision == "highest" else f"{engine}, 11 bits"


@torch.no_grad()
def _error(config: TNRDConfig, engine: str, x: Tensor) -> float:
    """Largest difference of a result from the reference in float64, of a call and, on a GPU, of a replay."""
    model = build(config, engine).to(x.device)
    reference = copy.deepcopy(model).double()
    reference.engine = "torch"
    network = recorded(model)
    first, _, third = (network(picture, SIGMA) for picture in (x, 1 - x, x))
    expected = reference(x.double(), SIGMA)
    return float(torch.stack([(result - expected).abs().max() for result in (first, third)]).max())  # NaN if one is


def _update(model: TNRD, x: Tensor) -> None:
    model.zero_grad()
    model(x, SIGMA).square().mean().backward()


def _inference(
    config: TNRDConfig, engine: str, x: Tensor, repeat: int, compiled: bool = False, replayed: bool = False
) -> float:
    model = build(config, engine).to(x.device)
    network = recorded(model) if replayed else model
    plain: AbstractContextManager[Any] = nullcontext()
    faster = torch.compile(step_torch.diffusion_step) if compiled else None
    with torch.no_grad(), mock.patch.object(step_torch, "diffusion_step", faster) if compiled else plain:
        for _ in range(2 if replayed else 0):
            network(x, SIGMA)
        return float(np.median(times(lambda: network(x, SIGMA), repeat)))


def _rows(
    name: str, config: TNRDConfig, shape: str, pixels: int, seconds: dict[str, float], work: float, rate: float
) -> list[dict[str, Any]]:
    rows = []
    for engine, time_ in seconds.items():
        gflops = work * useful_flops(config) * pixels / time_ / 1e9
        rows.append(
            {
                "configuration": name,
                "shape": shape,
                "engine": engine,
                "per_mpx": time_ / pixels * 1e6,
                "gflops": gflops,
                "matrix_product_gflops": rate,
                "share": gflops / rate,
                "times_slower": time_ / next(iter(seconds.values())),
            }
        )
    return rows


def table_of_engines(rows: list[dict[str, Any]]) -> str:
    """Markdown, a row for each configuration, size and engine."""
    lines = [
        "| configuration | pixels | engine | s/Mpx | GFLOP/s | of the matrix product | times slower |",
        "|---" * 7 + "|",
    ]
    for row in rows:
        ratio = f"{row['times_slower']:.1f}"
        least, most = row.get("ratios", (1.0, 1.0))
        if least < most:
            ratio += f" ({least:.1f} to {most:.1f})"
        lines.append(
            f"| {row['configuration']} | {row['shape']} | {row['engine']} | {row['per_mpx']:.4g} | {row['gflops']:.0f} "
            f"| {100 * row['share']:.0f} % | {ratio} |"
        )
    return "\n".join(lines)


MEMORY = """
import json, sys
from pathlib import Path
import numpy as np
import tnrd

def kilobytes(name):  # Linux: what /proc says of this process
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))

size, model = int(sys.argv[1]), tnrd.load_model(sys.argv[2])
tnrd.denoise(np.random.default_rng(0).random((256, 256), np.float32), 0.1, model=model)
x = np.random.default_rng(0).random((size, size), np.float32)
before = kilobytes("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
out = tnrd.denoise(x, 0.1, model=model)
print(json.dumps({"size": size, "extra_bytes": 1024 * (kilobytes("VmHWM") - before) - out.nbytes}))
"""


def peak_memory(sizes: list[int], model: str) -> list[dict[str, Any]]:
    """Peak resident memory of a denoising in a process of its own, beyond input and output."""
    command = [sys.executable, "-c", MEMORY]
    return [
        json.loads(subprocess.run([*command, str(size), model], check=True, capture_output=True, text=True).stdout)
        for size in sizes
    ]
