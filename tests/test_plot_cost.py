"""The plot of quality against cost compares like with like."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from evaluate import table, times
from plot_cost import mean_scores


def row(method: str, image: str, psnr: float, sigma: float = 25.0) -> dict[str, Any]:
    return {"method": method, "image": image, "psnr": psnr, "sigma": sigma}


def test_a_method_that_lacks_a_picture_is_left_out() -> None:
    rows = [row("a", "1", 30), row("a", "2", 32), row("b", "1", 40), row("a", "1", 10, sigma=50)]
    assert mean_scores({"scores": rows}, 25.0) == {"a": pytest.approx(31.0)}


def test_times_are_those_of_the_largest_picture() -> None:
    rows = [{"method": "a", "size": size, "per_mpx": value} for size, value in ((256, 3.0), (512, 2.0))]
    assert times({"rows": rows}) == {"a": 2.0}


def test_the_table_leaves_open_what_is_not_known() -> None:
    rows = [{**row("a", "1", 30), "ssim": 0.5, "seconds": 2.0, "megapixels": 4.0, "processor": "x"}]
    assert table(rows, [25.0, 50.0]).splitlines()[-1] == "| a | 30.00 / 0.5000 |  | 0.50 |"
    assert table(rows, [25.0], {"a": 3.0}).splitlines()[-1] == "| a | 30.00 / 0.5000 | 3.00 |"
    assert table(rows, [25.0], {}).splitlines()[-1] == "| a | 30.00 / 0.5000 |  |"
    elsewhere = [*rows, {**rows[0], "method": "b", "processor": "y"}]
    assert table(elsewhere, [25.0]).splitlines()[-2] == "| a | 30.00 / 0.5000 |  |"
