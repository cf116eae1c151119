"""What all tests share: where the image sets lie, and which tests this machine can run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from page_process import CHROMIUM, running_page

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"

# Property tests time out on a busy machine without being wrong; in CI the same examples are drawn in every run.
settings.register_profile("tnrd", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("tnrd")


@pytest.fixture
def double_precision() -> Iterator[None]:
    """What is built computes in float64, from one seed."""
    import torch

    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(previous)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked ``data``, ``cuda`` or ``browser`` where what they need is missing."""
    if not DATA.is_dir():
        _skip(items, "data", f"no image sets in {DATA}")
    if not CHROMIUM.exists():
        _skip(items, "browser", f"no browser at {CHROMIUM}")
    if any(item.get_closest_marker("cuda") for item in items) and not _cuda_is_available():
        _skip(items, "cuda", "torch sees no CUDA device")


def _skip(items: list[pytest.Item], marker: str, reason: str) -> None:
    for item in items:
        if item.get_closest_marker(marker):
            item.add_marker(pytest.mark.skip(reason=reason))


def _cuda_is_available() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of the image sets; a test that asks for it carries the marker ``data``."""
    return DATA


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def page_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the web page of ``page_address`` writes."""
    return tmp_path_factory.mktemp("page") / "log.txt"


@pytest.fixture(scope="session")
def page_address(page_log: Path) -> Iterator[str]:
    """The web page, running in a process of its own."""
    with running_page(page_log) as address:
        yield address


@pytest.fixture
def pictures() -> list[np.ndarray]:
    """Two smooth grey pictures with an edge, to train on."""
    y, x = np.mgrid[0:48, 0:40]
    waves = 127 + 60 * np.sin(x / 7) * np.cos(y / 9) + 50 * (x > y)
    return [waves.clip(0, 255).astype(np.uint8), waves.T.clip(0, 255).astype(np.uint8)]
