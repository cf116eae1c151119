"""The web page as its own process, for tests that visit it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

START_SECONDS = 90
# The second: Gradio's own switch for tests, by which a visitor is forgotten one second after leaving, not an hour.
ENVIRONMENT = {"LC_ALL": "C.UTF-8", "GRADIO_IS_E2E_TEST": "1"}
CHROMIUM = Path("/usr/bin/chromium")


@contextlib.contextmanager
def running_page(log: Path) -> Iterator[str]:
    """Serve the page on a free port and give its address; its output goes to ``log``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "app", "--port", str(port)]
    with open(log, "wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env={**os.environ, **ENVIRONMENT})
        try:
            address = f"http://127.0.0.1:{port}/"
            _wait(process, address, log)
            yield address
        finally:
            process.terminate()
            process.wait(30)


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"The page ended at once: {log.read_text()}")
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    raise RuntimeError(f"The page did not answer within {START_SECONDS} s: {log.read_text()}")
