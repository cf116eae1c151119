"""The plot of quality against cost compares like with like."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "plot_cost.py"))


def row(method: str, image: str, psnr: float, sigma: float = 25.0) -> dict[str, Any]:
    return {"method": method, "image": image, "psnr": psnr, "sigma": sigma}


def test_a_method_that_lacks_a_picture_is_left_out() -> None:
    rows = [row("a", "1", 30), row("a", "2", 32), row("b", "1", 40), row("a", "1", 10, sigma=50)]
    assert SCRIPT["mean_scores"]({"scores": rows}, 25.0) == {"a": pytest.approx(31.0)}


def test_times_are_those_of_the_largest_picture() -> None:
    rows = [{"method": "a", "size": size, "per_mpx": value} for size, value in ((256, 3.0), (512, 2.0))]
    assert SCRIPT["times"]({"rows": rows}) == {"a": 2.0}
