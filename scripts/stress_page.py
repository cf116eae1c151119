"""Start the web page, time it, and let many visitors come at once.

    python scripts/stress_page.py [--visitors 20] [--side 1024]

Prints the seconds from a cold `python -m app` to the page; the seconds that a 512 x 512 grey picture takes through the
default model and all quick classics, with scores and exact PNGs; and what happens when every visitor sends a picture of
its own in the same moment: how many were answered, how long the last one waited, the most memory that the server took,
and whether the page answers afterwards. Everything happens on the loopback interface, each visitor sends one request.
Fails with status 1 when a visitor gets no answer or a wrong one.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from skimage import data, transform

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SIGMA = 25.0


class Page(NamedTuple):
    """A running page."""

    process: subprocess.Popen[bytes]
    address: str
    seconds: float


def main() -> None:
    """Measure all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--side", type=int, default=1024, help="side of each visitor's picture")
    arguments = parser.parse_args()

    page = start()
    print(f"cold start to the page: {page.seconds:.1f} s")
    try:
        print(f"512 x 512, default model and quick classics: {quick_methods():.2f} s")
        crowd(page, arguments.visitors, arguments.side)
    finally:
        page.process.terminate()
        page.process.wait(30)


def start() -> Page:
    """`python -m app` on a free port, until the page answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "app", "--port", str(port)], cwd=ROOT, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/"
    while time.perf_counter() - begin < 120:
        if process.poll() is not None:
            raise SystemExit(f"The page ended with status {process.returncode}.")
        if alive(address):
            return Page(process, address, time.perf_counter() - begin)
        time.sleep(0.05)
    raise SystemExit("The page did not come up within two minutes.")


def alive(address: str) -> bool:
    """Whether the page answers."""
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def quick_methods() -> float:
    """Seconds for one visitor's picture, all that "Denoise" does but the browser; the second of two runs."""
    from app import compare
    from app.methods import methods
    from app.session import Session

    keys = ["gray", *(key for key, method in methods().items() if method.quick and not method.learned)]
    session = Session()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "camera.png"
        Image.fromarray(data.camera()).save(path)
        compare.open_upload(session, str(path), "camera.png", "gaussian", SIGMA)
        seconds = 0.0
        for _ in range(2):  # the first one compiles and imports
            begin = time.perf_counter()
            ticket = session.take_ticket("run")
            done = list(compare.denoise_all(session, keys, None, 1.0, lambda share, what: None, ticket))
            seconds = time.perf_counter() - begin
            wrong = [key for key in keys if key not in done or session.results[key].error]
            if wrong:
                raise SystemExit(f"No result from {', '.join(wrong)}.")
    session.close()
    return seconds


def crowd(page: Page, visitors: int, side: int) -> None:
    """All visitors at once, each with a picture of its own."""
    from gradio_client import Client, handle_file

    clean = transform.resize(data.camera() / 255, (side, side), anti_aliasing=True)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i in range(visitors):
            noisy = clean + SIGMA / 255 * np.random.default_rng(i).standard_normal(clean.shape)
            paths.append(Path(folder) / f"visitor-{i}.png")
            Image.fromarray(np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)).save(paths[-1], compress_level=1)
        peak = Peak(page.process.pid)
        gate = threading.Barrier(visitors)

        def visit(path: Path) -> tuple[float, float]:
            try:
                client = Client(page.address, verbose=False)
            except Exception:
                gate.abort()  # the others would wait for ever
                raise
            gate.wait(timeout=60)
            begin = time.perf_counter()
            result, _ = client.predict(handle_file(path), SIGMA, "gray", 1.0, api_name="/denoise")
            seconds = time.perf_counter() - begin
            with Image.open(result) as opened:
                error = float(np.sqrt(np.mean((np.asarray(opened) / 255 - clean) ** 2)))
            client.close()
            return seconds, error

        with ThreadPoolExecutor(visitors) as pool:
            outcomes = list(pool.map(visit, paths))
        memory = peak.stop()
    waits, errors = zip(*outcomes, strict=True)
    print(f"{visitors} visitors with {side} x {side} pixels at once: {len(waits)} answered")
    print(f"first after {min(waits):.1f} s, last after {max(waits):.1f} s")
    print(f"most memory of the server: {memory / 2**20:.0f} MB")
    print(f"page afterwards: {'alive' if alive(page.address) else 'dead'}")
    if max(errors) > 0.4 * SIGMA / 255:
        raise SystemExit(f"A result is wrong: its error is {255 * max(errors):.1f} steps of 255.")
    if not alive(page.address):
        raise SystemExit(1)


class Peak:
    """The most resident memory of a process while it is watched."""

    def __init__(self, pid: int) -> None:
        self.path, self.most, self.done = Path(f"/proc/{pid}/statm"), 0, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while not self.done.wait(0.05):
            self.most = max(self.most, int(self.path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))

    def stop(self) -> int:
        """Bytes."""
        self.done.set()
        self.thread.join()
        return self.most


if __name__ == "__main__":
    main()
