"""Denoise a picture larger than memory, in one process, on a cluster, and with workers that die.

    python scripts/stress_bigimage.py [--side 20000] [--limit 2000] [--model default]

Makes a uint16 Zarr of that side, and prints
- the seconds and the peak memory of a process that denoises it, as Zarr and as tiled TIFF;
- the largest difference, in steps of 16 bits, from the result computed in other blocks;
- how much faster a cluster of 2 worker processes is than one of 1, a thread each, and how many threads each used;
- how many blocks are lost when a worker is killed midway (SIGKILL), and when the whole process is, and resumed.
Fails with status 1 when memory exceeds the limit (MB) or a result differs. The folder --work needs about 20 times
side^2 bytes. Needs the extra bigimage.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

SIGMA = 25 / 255
CHUNK = 1024
ONE = """
import resource, sys, tnrd
source, target, side, model = sys.argv[1:]
report = tnrd.denoise_volume(source, target, {sigma}, model=model, side=int(side), progress={progress})
print(report.blocks, report.kept, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=20_000, help="side of the picture in pixels")
    parser.add_argument("--limit", type=int, default=2000, help="most memory that one process may take, in MB")
    parser.add_argument("--model", default="default")
    parser.add_argument("--work", type=Path, help="folder for the files; a temporary one by default")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tnrd-bigimage-", dir=arguments.work))
    try:
        source = make(folder / "source.zarr", arguments.side)
        alone(source, folder, arguments)
        cluster(source, folder, arguments)
        crash(source, folder, arguments)
    finally:
        shutil.rmtree(folder)


def make(path: Path, side: int) -> Path:
    """A picture of smooth shades and edges, with noise."""
    array = zarr.create_array(str(path), shape=(side, side), chunks=(CHUNK, CHUNK), dtype=np.uint16)
    rng = np.random.default_rng(0)
    x = np.arange(side)
    for start in range(0, side, CHUNK):
        y = np.arange(start, min(side, start + CHUNK))[:, None]
        clean = 0.5 + 0.2 * np.sin(x / 40 + y / 90) + 0.15 * ((x // 64 + y // 64) % 2)
        noisy = clean + SIGMA * rng.standard_normal(clean.shape)
        array[start : start + CHUNK] = np.rint(np.clip(noisy, 0, 1) * 65535).astype(np.uint16)
    print(f"picture: {side} x {side} uint16, {side * side * 2 / 1e6:.0f} MB")
    return path


def alone(source: Path, folder: Path, arguments: argparse.Namespace) -> None:
    """One process, in two cuttings and two formats."""
    for name, side in (("whole.zarr", 768), ("other.zarr", 528), ("whole.tif", 768)):
        start = time.perf_counter()
        blocks, _, peak = one(source, folder / name, side, arguments.model)
        seconds = time.perf_counter() - start
        rate = 1e6 * seconds / arguments.side**2
        print(f"{name}, blocks of {side}: {blocks} blocks, {seconds:.1f} s ({rate:.2f} s/Mpx), peak {peak} MB")
        if peak > arguments.limit:
            raise SystemExit(f"The process took {peak} MB, more than {arguments.limit}.")
        if name != "whole.zarr":
            compare(folder / "whole.zarr", folder / name)


def one(source: Path, target: Path, side: int, model: str) -> tuple[int, int, int]:
    """Blocks done, blocks kept and peak memory in MB of a fresh process."""
    program = ONE.format(sigma=SIGMA, progress=None)
    run = subprocess.run(
        [sys.executable, "-c", program, source, target, str(side), model], check=True, capture_output=True, text=True
    )
    blocks, kept, peak = map(int, run.stdout.split())
    return blocks, kept, peak


def compare(first: Path, second: Path) -> None:
    """Print the largest difference of two results; exit where it is more than a rounding."""
    a, b = opened(first), opened(second)
    largest, differing = 0, 0
    for start in range(0, a.shape[0], CHUNK):
        difference = np.abs(np.subtract(a[start : start + CHUNK], b[start : start + CHUNK], dtype=np.int32))
        largest, differing = max(largest, int(difference.max())), differing + np.count_nonzero(difference)
    print(f"  against {first.name}: {differing} of {a.size} samples differ, at most by {largest} of 65535")
    if largest > 1:
        raise SystemExit(f"{second.name} differs from {first.name} by more than rounding.")


def opened(path: Path) -> Any:
    """The samples of a result, read when sliced."""
    if path.suffix == ".zarr":
        return zarr.open_array(str(path), path="0", mode="r")
    return zarr.open_array(tifffile.imread(path, aszarr=True), mode="r")


def cluster(source: Path, folder: Path, arguments: argparse.Namespace) -> None:
    """One and two worker processes, and two of which one is killed midway."""
    seconds = {}
    for workers in (1, 2):
        seconds[workers] = on_cluster(source, folder / f"workers{workers}.zarr", workers, arguments.model, kill=False)
        compare(folder / "whole.zarr", folder / f"workers{workers}.zarr")
    print(f"2 workers: {seconds[1] / seconds[2]:.2f} times as fast as 1")
    on_cluster(source, folder / "killed.zarr", 2, arguments.model, kill=True)
    compare(folder / "whole.zarr", folder / "killed.zarr")


def on_cluster(source: Path, target: Path, workers: int, model: str, *, kill: bool) -> float:
    """Seconds that a cluster takes once it is up and has loaded the model."""
    from distributed import Client, LocalCluster

    import tnrd

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None) as local,
        Client(local) as client,
    ):
        client.wait_for_workers(workers)
        warm(model)
        threads = client.run(warm, model)
        victims = [client.run(os.getpid, workers=[next(iter(threads))])] if kill else []

        def progress(done: int, total: int) -> None:
            if victims and done >= total // 3:
                print(f"  worker killed after {done} of {total} blocks")
                os.kill(*victims.pop().values(), signal.SIGKILL)

        start = time.perf_counter()
        tnrd.denoise_volume(source, target, SIGMA, model=model, scheduler=local.scheduler_address, progress=progress)
        seconds = time.perf_counter() - start
    print(f"{workers} workers, threads of their kernels {sorted(threads.values())}: {seconds:.1f} s")
    return seconds


def warm(model: str) -> int:
    """Load and compile in a worker; the threads that its kernels use."""
    import numba
    import torch

    import tnrd

    tnrd.denoise_array(np.zeros((64, 64)), SIGMA, model=model).compute(scheduler="synchronous")
    return min(torch.get_num_threads(), int(numba.config.NUMBA_NUM_THREADS))


def crash(source: Path, folder: Path, arguments: argparse.Namespace) -> None:
    """Kill the process itself, and go on."""
    target = folder / "resumed.zarr"
    progress = "lambda done, total: print(done, flush=True)"
    program = ONE.format(sigma=SIGMA, progress=progress)
    command = [sys.executable, "-c", program, source, target, "768", arguments.model]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        total = (-(-arguments.side // 768)) ** 2
        for line in process.stdout or ():
            if int(line.split()[0]) >= total // 3:
                process.kill()
                break
    written = {path: path.stat().st_mtime_ns for path in (target / "0" / "c").rglob("*") if path.is_file()}
    blocks, kept, _ = one(source, target, 768, arguments.model)
    again = [path for path, stamp in written.items() if path.suffix == "" and path.stat().st_mtime_ns != stamp]
    print(f"killed and resumed: {kept} blocks kept, {blocks} done after, {len(again)} written twice")
    compare(folder / "whole.zarr", target)
    if again:
        raise SystemExit("Blocks that were complete have been written again.")


if __name__ == "__main__":
    main()
