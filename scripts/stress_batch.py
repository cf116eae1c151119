"""Many files under hard conditions: bad ones among them, killed again and again, and the memory of it.

    python scripts/stress_batch.py    # 2,000 files, 40 of them bad, 10 kills; then the memory of 200 and of 20,000
    python scripts/stress_batch.py --checks files --files 300 --kills 4
    python scripts/stress_batch.py --checks memory --few 100 --many 5000

Check ``files`` builds a tree of small pictures, among them 16-bit, CMYK, palette, transparent and floating-point ones,
names beyond ASCII, and bad ones of six kinds. A run that nobody disturbs must restore every good picture to the bytes
that the library computes, report every bad one and end with status 6. Another run is killed (signal 9) at random
moments and taken up again; the final tree must have the same bytes, and only files in flight may be denoised twice.
Check ``memory`` compares the peak of resident memory at two numbers of files. The first thing that is wrong ends the
script with status 1. Everything lies in a temporary folder that is removed.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tnrd.config import TNRDConfig
from tnrd.image_io import Picture, encode_image, output_format, read_image, write_image
from tnrd.inference.choice import weights_for
from tnrd.inference.levels import estimate_noise
from tnrd.inference.loading import load
from tnrd.inference.restore import restore
from tnrd.model import TNRD
from tnrd.weights import save_weights

SOME_FAILED = 6
# Files that a kill may catch between the beginning of their diffusion and their name: one at each of the two places.
IN_FLIGHT = 2
# The peak may vary by what the allocator happens to keep.
NOISE_MB = 16
COMMAND = """
import re, sys
from tnrd.cli import main
from tnrd.inference.batch.file_worker import FileWorker
log, *arguments = sys.argv[1:]
denoise = FileWorker.denoise
def noting(bench, prepared, is_to_stop):
    with open(log, "a") as stream:
        stream.write(prepared.job.output_name + "\\n")
    return denoise(bench, prepared, is_to_stop)
FileWorker.denoise = noting
status = main(arguments)
peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())
print("PEAK", peak[1] if peak else 0)
raise SystemExit(status)
"""


def main() -> None:
    """Build, run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checks", nargs="+", default=["files", "memory"], choices=["files", "memory"])
    parser.add_argument("--files", type=int, default=2000, help="files in the tree, the bad ones among them")
    parser.add_argument("--bad", type=int, default=40)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--few", type=int, default=200)
    parser.add_argument("--many", type=int, default=20_000)
    parser.add_argument("--model", default="fast")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for check in options.checks:
        with tempfile.TemporaryDirectory(prefix="tnrd-stress-") as place:
            {"files": check_files, "memory": check_memory}[check](Path(place), options)


def require(holds: bool, sentence: str) -> None:
    """End the script if something is not as it must be."""
    if not holds:
        raise SystemExit(f"WRONG: {sentence}")


# --- Bad files, and kills ---------------------------------------------------------------------------------------------


def check_files(place: Path, options: argparse.Namespace) -> None:
    """Every good file right, every bad one reported, and the same after kills."""
    good, bad = build(place / "in", options.files, options.bad)
    print(f"{len(good)} good files ({kinds(good)}), {len(bad)} bad ones ({kinds(bad)})", flush=True)
    arguments = ["--recursive", str(place / "in"), "OUT", "--model", options.model, "--json", "--quiet"]

    start = time.monotonic()
    receipt, status, _ = run(place / "log", [a.replace("OUT", str(place / "calm")) for a in arguments])
    require(status == SOME_FAILED, f"the exit status is {status}")
    reported = {Path(failure["input"]).relative_to(place / "in").as_posix() for failure in receipt["failures"]}
    require(reported == bad.keys(), f"reported differ from the bad ones: {sorted(reported ^ bad.keys())[:5]}")
    expected = tree(place / "calm")
    require(expected.keys() == good.keys(), f"the tree differs: {sorted(expected.keys() ^ good.keys())[:5]}")
    check_pictures(place, options.model, good)
    print(f"undisturbed: all {len(good)} right, {len(reported)} reported, {time.monotonic() - start:.0f} s", flush=True)

    killed = [a.replace("OUT", str(place / "killed")) for a in arguments] + ["--skip-existing"]
    kills = kill_and_go_on(place, killed, options, len(good))
    receipt, status, _ = run(place / "denoised", killed)
    require(status == SOME_FAILED and receipt["files"]["failed"] == len(bad), f"the last run ended with {status}")
    require(tree(place / "killed") == expected, "the tree after kills differs from the undisturbed one")
    counts = Counter((place / "denoised").read_text().splitlines())
    twice = sum(counts.values()) - len(good)
    require(twice <= IN_FLIGHT * kills, f"{twice} files were denoised twice in {kills} kills")
    print(f"killed {kills} times: the same bytes, {twice} of {len(good)} files denoised twice", flush=True)


def kill_and_go_on(place: Path, arguments: list[str], options: argparse.Namespace, good: int) -> int:
    """Kill run after run at random; how many were caught before their end."""
    draw, log, caught = random.Random(options.seed), place / "denoised", 0
    for _ in range(options.kills):
        process = begin(log, arguments)
        goal = noted(log) + draw.randint(1, max(1, 2 * good // (options.kills + 2)))
        while process.poll() is None and noted(log) < goal:
            time.sleep(0.01)
        time.sleep(draw.random() * 0.03)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        caught += process.returncode == -signal.SIGKILL
        done = sum(path.suffix not in (".jsonl", ".tmp", ".lock") for path in tree_files(place / "killed"))
        print(f"  killed with {done} of {good} outputs in place", flush=True)
    return caught


def noted(log: Path) -> int:
    """Files whose diffusion has begun."""
    return log.read_bytes().count(b"\n") if log.exists() else 0


def check_pictures(place: Path, name: str, good: dict[str, str]) -> None:
    """Each output has the bytes that the library computes from its input."""
    for path in good:
        picture = read_image(place / "in" / path)
        noise = estimate_noise(picture.pixels)
        model = load(weights_for(name, picture.pixels, noise))
        pixels = restore(picture.pixels, model, noise, dtype=picture.pixels.dtype)
        data = encode_image(dataclasses.replace(picture, pixels=pixels), output_format(path))
        require(data == (place / "calm" / path).read_bytes(), f"{path} is not what the library computes")


def build(folder: Path, count: int, bad_count: int) -> tuple[dict[str, str], dict[str, str]]:
    """A tree of files; the kinds of the good and of the bad ones by relative path."""
    good: dict[str, str] = {}
    bad: dict[str, str] = {}
    makers, spoilers = list(GOOD.items()), list(BAD.items())
    for index in range(count):
        path = Path(f"folder {index % 20}", f"{'sub' if index % 3 else 'ünter'}")
        (folder / path).mkdir(parents=True, exist_ok=True)
        if index * bad_count // count < (index + 1) * bad_count // count:
            kind, spoil = spoilers[len(bad) % len(spoilers)]
            path /= f"bad {index}.png"
            spoil(folder / path)
            bad[path.as_posix()] = kind
        else:
            kind, make = makers[index // 4 % len(makers)] if index % 4 == 0 else makers[0]
            suffix = {"cmyk": ".jpg", "float": ".tif"}.get(kind, ".png")
            path /= f"{'картина' if kind == 'name' else 'picture'} {index}{suffix}"
            make(folder / path, index)
            good[path.as_posix()] = kind
    return good, bad


def noise(index: int, channels: int = 1, top: int = 255) -> NDArray[Any]:
    """A small noisy ramp; its size depends on the index."""
    draw = np.random.default_rng(index)
    height, width = draw.integers(32, 65, 2)
    ramp = np.linspace(0.2, 0.8, width)[None, :, None] * np.ones((height, 1, channels))
    values = np.clip(ramp + 0.08 * draw.standard_normal(ramp.shape), 0, 1)
    squeezed = values[..., 0] if channels == 1 else values
    return (
        squeezed.astype(np.float32)
        if top == 1
        else np.rint(squeezed * top).astype(np.uint8 if top < 256 else np.uint16)
    )


GOOD: dict[str, Callable[[Path, int], None]] = {
    "grey": lambda path, i: write_image(path, Picture(noise(i))),
    "colour": lambda path, i: write_image(path, Picture(noise(i, 3))),
    "16-bit": lambda path, i: write_image(path, Picture(noise(i, 3, 65535))),
    "transparent": lambda path, i: write_image(path, Picture(noise(i, 3), noise(i))),
    "palette": lambda path, i: Image.fromarray(noise(i, 3)).quantize(64).save(path),
    "cmyk": lambda path, i: Image.fromarray(noise(i, 3)).convert("CMYK").save(path, quality=95),
    "float": lambda path, i: write_image(path, Picture(noise(i, 1, 1))),
    "name": lambda path, i: write_image(path, Picture(noise(i))),
}


def bomb() -> bytes:
    """The start of a PNG that claims 3.6 gigapixels."""
    header = b"IHDR" + struct.pack(">LLBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">L", 13) + header + struct.pack(">L", zlib.crc32(header))


def forbid(path: Path) -> None:
    """A file that may not be read; for the administrator, who may read all, a link to nowhere."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        path.symlink_to("nowhere.png")
    else:
        write_image(path, Picture(noise(0)))
        path.chmod(0)


BAD: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(encode_image(Picture(noise(1)), "PNG")[:-200]),
    "text": lambda path: path.write_text("this is no picture"),
    "bomb": lambda path: path.write_bytes(bomb()),
    "forbidden": forbid,
    "folder": lambda path: path.mkdir(),
}


# --- Memory -----------------------------------------------------------------------------------------------------------


def check_memory(place: Path, options: argparse.Namespace) -> None:
    """The peak of memory at two numbers of files, with a model of next to no cost."""
    save_weights(place / "quick.safetensors", TNRD(TNRDConfig(stages=1, filters=4, kernel_size=3)))
    sources = [place / f"{i}.png" for i in range(16)]
    for i, source in enumerate(sources):
        write_image(source, Picture(noise(i)))
    peaks = []
    for count in (options.few, options.many):
        folder = place / f"in{count}"
        folder.mkdir()
        for i in range(count):
            os.link(sources[i % 16], folder / f"a picture with a name of usual length {i:07}.png")
        arguments = [str(folder), str(place / f"out{count}"), "--model", str(place / "quick.safetensors"), "--json"]
        start = time.monotonic()
        receipt, status, peak = run(place / "log", [*arguments, "--quiet"])
        require(status == 0 and receipt["files"]["done"] == count, f"{count} files ended with {status}")
        peaks.append(peak)
        print(f"{count} files: peak {peak:.1f} MB, {count / (time.monotonic() - start):.0f} files/s", flush=True)
    require(peaks[1] - peaks[0] < NOISE_MB, f"memory grew by {peaks[1] - peaks[0]:.1f} MB")


# --- Runs -------------------------------------------------------------------------------------------------------------


def begin(log: Path, arguments: list[str]) -> subprocess.Popen[str]:
    """The command in a process that notes in ``log`` what it denoises."""
    command = [sys.executable, "-c", COMMAND, str(log), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def run(log: Path, arguments: list[str]) -> tuple[dict[str, Any], int, float]:
    """Run to the end: receipt, exit status, and the peak of resident memory in MB."""
    process = begin(log, arguments)
    receipt, _, peak = process.communicate()[0].rpartition("PEAK ")
    require(bool(receipt), f"the command broke off with {process.returncode}")
    return json.loads(receipt), process.returncode, int(peak) / 1024


def tree(folder: Path) -> dict[str, str]:
    """The SHA-256 of each output by relative path; temporary files would show up here."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tree_files(folder)
        if path.suffix != ".jsonl"
    }


def tree_files(folder: Path) -> list[Path]:
    """All files below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


def kinds(files: dict[str, str]) -> str:
    """Counts by kind."""
    return ", ".join(f"{count} {kind}" for kind, count in Counter(files.values()).items())


if __name__ == "__main__":
    main()
