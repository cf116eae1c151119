"""The scoring and benchmark scripts run and report what the library computes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import one_level
from evaluate import Method, Report, build_methods, evaluate
from seed_experiments import merged

import tnrd
from tnrd.config import TNRDConfig
from tnrd.metrics import psnr, round_to_8bit
from tnrd.model import TNRD
from tnrd.noise import add_noise
from tnrd.weights import save_weights

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
    assert [row["index"] for row in rows] == [0, 1] and rows[0]["pixels"] != rows[1]["pixels"]
    content["data"] = "others"
    report.write_text(json.dumps(content))
    refused = run("evaluate.py", *options)
    assert refused.returncode != 0 and "its data differ" in refused.stderr


def test_scores_of_other_pictures_of_the_same_name_do_not_count(tmp_path: Path) -> None:
    methods = {"as it is": Method(lambda noisy, sigma: noisy, "")}
    flat, path = np.full((16, 16), 0.5), tmp_path / "made" / "report.json"

    def seconds(names: list[str], images: list[np.ndarray]) -> list[float]:
        report = Report(path, "pictures", False, 0)
        evaluate(methods, names, images, [25.0], report)
        return [row["seconds"] for row in report.of(list(methods), names, [25.0])]

    seconds(["a", "b"], [flat, flat])
    content = json.loads(path.read_text())
    for row in content["scores"]:
        row["seconds"] = 77.0  # found there
    path.write_text(json.dumps(content))
    assert seconds(["a", "b"], [flat, flat]) == [77.0, 77.0]
    changed = seconds(["a", "b"], [flat, flat / 2])
    assert changed[0] == 77.0 != changed[1]
    assert 77.0 not in seconds(["0", "a", "b"], [flat, flat, flat])  # each has another place, and other noise


def test_scores_kept_by_name_alone_count(tmp_path: Path) -> None:
    kept = {"method": "m", "weights": "", "sigma": 25.0, "image": "a", "psnr": 30.0}
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"data": "d", "color": False, "repetition": 0, "scores": [kept]}))
    found = Report(path, "d", False, 0).find("m", "", 25.0, {"image": "a", "index": 3, "pixels": "some"})
    assert found == kept


def test_colour_weights_need_pictures_in_colour() -> None:
    with pytest.raises(SystemExit, match="'color' are for pictures in colour: --color"):
        build_methods(["color"], [], blind=False, color=False)


def test_grey_weights_on_each_channel_by_itself() -> None:
    methods = build_methods(["gray-fast", "color-fast"], [], blind=False, color=True, by_channel=True)
    assert list(methods) == ["gray-fast", "gray-fast (by channel)", "color-fast"]
    noisy = np.random.default_rng(0).random((9, 12, 3))
    found = methods["gray-fast (by channel)"].denoise(noisy, 0.1)
    expected = [tnrd.denoise(noisy[..., i], 0.1, model="gray-fast") for i in range(3)]
    np.testing.assert_array_equal(found, np.stack(expected, axis=-1))


def test_the_rows_of_other_variants_stay(tmp_path: Path) -> None:
    path = tmp_path / "seeds.json"
    rows = [{"name": "5-moments", "psnr": 1.0}, {"name": "5-dct", "psnr": 2.0}]
    assert merged(path, rows) == rows
    path.write_text(json.dumps({"rows": rows}))
    new = [{"name": "5-moments", "psnr": 3.0}, {"name": "7-dct", "psnr": 4.0}]
    assert merged(path, new) == [new[0], rows[1], new[1]]


@pytest.mark.slow
def test_levels_of_other_starting_weights_need_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96), dtype=np.uint8)).save(tmp_path / "a.png")
    models = []
    for change in (0.0, 0.01):
        model = TNRD(TNRDConfig(stages=1, filters=2, kernel_size=3, nodes=9))
        with torch.no_grad():
            next(model.parameters()).add_(change)
        models.append(tmp_path / f"{change}.safetensors")
        save_weights(models[-1], model)
    report = tmp_path / "made" / "levels.json"

    def run_from(model: Path) -> None:
        folders = ["--data", str(tmp_path), "--validation", str(tmp_path), "--output", str(tmp_path / "runs")]
        options = ["--model", str(model), "--iterations", "1", "--json", str(report)]
        monkeypatch.setattr(sys, "argv", ["one_level.py", *folders, *options])
        one_level.main()

    run_from(models[0])
    run_from(models[0])
    assert set(json.loads(report.read_text())["psnr"]["one level"]) == {"15", "25", "50"}
    with pytest.raises(SystemExit):
        run_from(models[1])
    assert "belongs to another recipe: initial differ" in capsys.readouterr().err


@pytest.mark.slow
def test_evaluate_names_an_unknown_baseline(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "a.png")
    done = run("evaluate.py", "--data", str(tmp_path), "--baseline", "magic")
    assert done.returncode != 0
    assert "magic" in done.stderr and "perona_malik" in done.stderr


@pytest.mark.slow
def test_benchmark_reports_a_ratio_to_a_competitor(tmp_path: Path) -> None:
    report = tmp_path / "made" / "b.json"
    options = ["--tables", "methods", "--size", "128", "--against", "tv", "--repeat", "2"]
    done = run("benchmark.py", *options, "--json", str(report))
    assert done.returncode == 0, done.stderr
    rows = json.loads(report.read_text())["rows"]
    assert [row["method"] for row in rows] == ["tnrd gray", "tnrd 5x5x24, 5 steps", "tv"]
    assert all(row["seconds"] > 0 for row in rows)
    low, high = rows[2]["ratios"]
    assert low <= rows[2]["ratio"] <= high
    assert f"| {rows[2]['ratio']:.2f} ({low:.2f} to {high:.2f}) |" in done.stdout
    for others, sentence in (
        (["--tables", "memory"], "holds rows, which this run would not measure again"),
        (["--model", "nope"], "No weights 'nope'"),
        (["--model", "color"], "color takes colour pictures: add --color"),
        (["--repeat", "0"], "--repeat must be at least 1"),
    ):
        done = run("benchmark.py", "--against", "tv", *others, "--json", str(report))
        assert done.returncode == 2
        assert sentence in done.stderr
    assert json.loads(report.read_text())["rows"] == rows
