"""The scoring and benchmark scripts run and report what the library computes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tnrd
from tnrd.metrics import psnr, round_to_8bit
from tnrd.noise import add_noise

ROOT = Path(__file__).resolve().parents[1]


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script), *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_evaluate_follows_the_protocol(tmp_path: Path) -> None:
    y, x = np.mgrid[0:64, 0:72]
    pictures = [(127 + 90 * np.sin(x / 9 + i) * np.cos(y / 11)).astype(np.uint8) for i in range(2)]
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    report = tmp_path / "report.json"
    done = run("evaluate.py", "--data", str(tmp_path), "--sigma", "25", "--model", "gray", "--json", str(report))
    assert done.returncode == 0, done.stderr
    rows = json.loads(report.read_text())["scores"]
    for i, picture in enumerate(pictures):
        clean = picture / 255
        noisy = add_noise(clean, 25 / 255, seed=25_000 + i)
        expected = psnr(clean, round_to_8bit(tnrd.denoise(noisy, 25 / 255)))
        assert rows[i]["psnr"] == pytest.approx(expected, abs=1e-3)
    assert f"| gray | {np.mean([row['psnr'] for row in rows]):.2f} /" in done.stdout


@pytest.mark.slow
def test_evaluate_goes_on_from_its_scores(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(2):
        Image.fromarray(np.full((24, 24), 90 + 60 * i, np.uint8)).save(pictures / f"{i}.png")
    report = tmp_path / "report.json"
    options = ["--data", str(pictures), "--sigma", "25", "--baseline", "perona_malik", "--json", str(report)]
    assert run("evaluate.py", *options, "--limit", "1").returncode == 0
    content = json.loads(report.read_text())
    content["scores"][0]["psnr"] = 77.0  # found there, not computed again
    report.write_text(json.dumps(content))
    assert run("evaluate.py", *options).returncode == 0
    rows = json.loads(report.read_text())["scores"]
    assert [row["image"] for row in rows] == ["0.png", "1.png"]
    assert rows[0]["psnr"] == 77.0 and 30 < rows[1]["psnr"] < 60
    content["data"] = "others"
    report.write_text(json.dumps(content))
    refused = run("evaluate.py", *options)
    assert refused.returncode != 0 and "its data differ" in refused.stderr


@pytest.mark.slow
def test_evaluate_names_an_unknown_baseline(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "a.png")
    done = run("evaluate.py", "--data", str(tmp_path), "--baseline", "magic")
    assert done.returncode != 0
    assert "magic" in done.stderr and "perona_malik" in done.stderr


@pytest.mark.slow
def test_benchmark_reports_a_ratio_to_a_competitor(tmp_path: Path) -> None:
    report = tmp_path / "b.json"
    options = ["--tables", "methods", "--size", "128", "--against", "tv", "--repeat", "1"]
    done = run("benchmark.py", *options, "--json", str(report))
    assert done.returncode == 0, done.stderr
    rows = json.loads(report.read_text())["rows"]
    assert [row["method"] for row in rows] == ["tnrd gray", "tnrd 5x5x24, 5 steps", "tv"]
    assert all(row["seconds"] > 0 for row in rows)
    assert f"| {rows[2]['seconds'] / rows[0]['seconds']:.2f} |" in done.stdout
