"""``tnrd-denoise`` on stacks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import tnrd
from tnrd.cli import main
from tnrd.inference.stabilisation import measured_white
from tnrd.photon_noise import PhotonNoise
from tnrd.pixels import to_unit

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("zarr")
pytest.importorskip("dask")


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    planes = np.random.default_rng(0).normal(30000, 2500, (3, 48, 56)).astype(np.uint16)
    path = tmp_path / "cells.ome.tif"
    tifffile.imwrite(path, planes, metadata={"axes": "ZYX"})
    return path


def test_every_plane_is_what_the_library_gives(stack: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = stack.with_name("clean.ome.tif")
    assert main([str(stack), str(out), "--stack", "--sigma", "10", "--model", "fast", "--json"]) == 0
    receipt = json.loads(capfd.readouterr().out)
    assert (receipt["planes"], receipt["sigma"]["values"]) == (3, [10.0])
    for noisy, clean in zip(tifffile.imread(stack), tifffile.imread(out), strict=True):
        unit = tnrd.denoise(noisy, 10 / 255, model="fast")
        np.testing.assert_allclose(clean, np.rint(np.clip(unit, 0, 1) * 65535), atol=1)


def test_a_zarr_needs_no_flag_and_is_not_begun_twice(stack: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = stack.with_name("clean.zarr")
    command = [str(stack), str(out), "--model", "fast", "--per-plane"]
    assert main(command) == 0
    assert "The estimated noise level is sigma = " in capfd.readouterr().err
    assert main(command) == 4
    assert "exists" in capfd.readouterr().err
    assert main([str(stack), str(stack.with_name("absent") / "clean.tif"), "--stack"]) == 4
    assert "absent" in capfd.readouterr().err


def test_photon_noise_is_given_or_measured_and_said(stack: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photons = np.random.default_rng(0).poisson(np.linspace(5, 60, 3 * 48 * 56).reshape(3, 48, 56))
    tifffile.imwrite(stack, (photons * 655).astype(np.uint16), metadata={"axes": "ZYX"})
    out, options = stack.with_name("clean.tif"), ["--stack", "--noise", "poisson-gaussian", "--model", "fast", "--json"]
    given = ["--gain", str(255 * 655 / 65535), "--read-noise", "0.5"]
    assert main([str(stack), str(out), *options, *given]) == 0
    said = capfd.readouterr()
    receipt = json.loads(said.out)
    assert receipt["noise"] == "poisson-gaussian"
    assert receipt["sigma"] == {
        "gain": pytest.approx([2.549], abs=0.001),
        "read_noise": pytest.approx([0.5]),
        "offset": [0.0],
        "unit": "8-bit",
        "source": "given",
    }
    assert said.err == ""
    noise, brightest = PhotonNoise(655 / 65535, 0.5 / 255), to_unit(tifffile.imread(stack)[2])
    white = measured_white(brightest, noise, brightest.shape)
    middle = tnrd.denoise_photon_noise(tifffile.imread(stack)[1], *noise, white=white, model="fast")
    np.testing.assert_allclose(tifffile.imread(out)[1], np.rint(np.clip(middle, 0, 1) * 65535), atol=1)
    assert main([str(stack), str(out), *options, "--per-plane", "--overwrite"]) == 0
    said = capfd.readouterr()
    receipt = json.loads(said.out)["sigma"]
    assert (len(receipt["gain"]), len(receipt["read_noise"]), receipt["source"]) == (3, 3, "estimated")
    shown = ", ".join(f"{gain:.3g}" for gain in receipt["gain"])
    assert f"The estimated photon noise: gain = {shown}, read noise = " in said.err


@pytest.mark.parametrize(
    ("options", "status", "sentence"),
    [
        (["--noise", "poisson-gaussian", "--sigma", "3"], 2, "--sigma is for Gaussian noise"),
        (["--noise", "poisson-gaussian", "--gain", "1", "--per-plane"], 2, "--gain gives it"),
        (["--per-plane", "--sigma", "3"], 2, "--sigma gives it"),
        (["--scheduler", "tcp://127.0.0.1:9"], 3, "scheduler"),
        (["--device", "mps"], 5, "Device 'mps' was asked for, but torch finds none here"),
        (["--engine", "triton"], 5, "Engine 'triton'"),
        (["--model", "none"], 5, "No weights 'none'"),
    ],
)
def test_what_cannot_be_done_is_said(
    stack: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    status: int,
    sentence: str,
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert main([str(stack), str(stack.with_name("out.tif")), "--stack", *options]) == status
    assert sentence in capfd.readouterr().err


def test_a_stack_is_one_input_and_one_output(stack: Path) -> None:
    assert main([str(stack), "a.zarr", "b.zarr"]) == 2


def test_channels_that_share_a_level_are_mentioned(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rng, path, out = np.random.default_rng(0), tmp_path / "dyes.ome.tif", tmp_path / "clean.ome.tif"
    planes = np.stack([rng.normal(3000, 50, (2, 48, 56)), rng.normal(9000, 900, (2, 48, 56))], axis=1)
    tifffile.imwrite(path, planes.astype(np.uint16), metadata={"axes": "ZCYX"})
    assert main([str(path), str(out), "--stack", "--model", "fast"]) == 0
    assert "for all 2 channels alike; --per-plane measures each of them" in capfd.readouterr().err
    assert main([str(path), str(out), "--stack", "--model", "fast", "--per-plane", "--overwrite"]) == 0
    assert "alike" not in capfd.readouterr().err
    clean = tifffile.imread(out)
    assert clean[:, 0].std() < 12
    assert clean[:, 1].std() < 200
