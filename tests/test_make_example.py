"""The pictures in examples/ are what scripts/make_example.py makes."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def script(root: Path) -> dict[str, Any]:
    return runpy.run_path(str(root / "scripts" / "make_example.py"))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture)


def test_a_run_makes_the_committed_pictures(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(root / "scripts" / "make_example.py"), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    committed = sorted((root / "examples").glob("*.png"))
    assert [path.name for path in committed] == sorted(path.name for path in tmp_path.glob("*.png"))
    for path in committed:
        np.testing.assert_array_equal(pixels(path), pixels(tmp_path / path.name))


def test_examples_are_small(root: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in (root / "examples").glob("*.png")}
    assert sizes
    assert max(sizes.values()) < 500_000, sizes


def test_noise_is_white_and_of_the_named_level(script: dict[str, Any]) -> None:
    clean = np.full((200, 300, 3), 128, dtype=np.uint8)
    noise = script["add_noise"](clean).astype(np.float64) - 128.0
    # Rounding adds the variance 1/12; a standard deviation from n samples is known to 1 / sqrt(2 n).
    assert noise.std() == pytest.approx(np.sqrt(script["SIGMA"] ** 2 + 1 / 12), rel=5 / np.sqrt(2 * noise.size))
    assert abs(noise.mean()) < 5 * script["SIGMA"] / np.sqrt(noise.size)
    for axis in range(3):
        neighbours = np.mean(np.delete(noise, -1, axis) * np.delete(noise, 0, axis)) / noise.var()
        assert abs(neighbours) < 5 / np.sqrt(noise.size * 2 / 3)


def test_noisy_pictures_stay_in_range_and_shape(script: dict[str, Any]) -> None:
    noisy = script["noisy_pictures"]()
    for name, clean in script["clean_pictures"]().items():
        picture = noisy[f"{name}_sigma25.png"]
        assert picture.shape == clean.shape
        assert picture.dtype == np.uint8
        assert (picture[clean == 0] < 128).all(), "a black pixel wrapped around to white"
