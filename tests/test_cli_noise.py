"""What the command knows of noise that is not white and Gaussian."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data

import tnrd
from tnrd.cli import main
from tnrd.degradations import add_poisson_gaussian
from tnrd.image_io import Picture, read_image, write_image
from tnrd.metrics import psnr

CLEAN = data.camera()[100:260, 120:280] / 255


def save(folder: Path, noisy: np.ndarray, name: str = "noisy.png") -> Path:
    path = folder / name
    Image.fromarray(np.rint(np.clip(noisy, 0, 1) * 65535).astype(np.uint16)).save(path)
    return path


@pytest.fixture
def photons(tmp_path: Path) -> Path:
    return save(tmp_path, add_poisson_gaussian(CLEAN, 1 / 60, 1 / 60, seed=0))


def test_photon_noise_is_what_the_library_gives(photons: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = photons.with_name("out.png")
    options = ["--noise", "poisson-gaussian", "--gain", "4.25", "--read-noise", "4.25", "--model", "fast", "--json"]
    assert main([str(photons), str(out), *options]) == 0
    receipt = json.loads(capfd.readouterr().out)
    assert receipt["noise"] == "poisson-gaussian"
    assert receipt["sigma"] == {"gain": 4.25, "read_noise": 4.25, "offset": 0.0, "unit": "8-bit", "source": "given"}
    expected = tnrd.denoise_photon_noise(np.asarray(Image.open(photons)), 4.25 / 255, 4.25 / 255, model="fast")
    assert np.array_equal(np.asarray(Image.open(out)), np.rint(np.clip(expected * np.float32(65535), 0, 65535)))


def test_black_may_be_given_or_measured_and_is_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A camera of 16 bits, black at 100 counts; the result is on them, too."""
    counts = 2 * np.random.default_rng(0).poisson(200 * CLEAN) + 100
    path = save(tmp_path, counts / 65535)
    options = ["--noise", "poisson-gaussian", "--model", "fast", "--json"]
    assert main([str(path), str(tmp_path / "measured.png"), *options]) == 0
    said = capfd.readouterr()
    assert ", black = 0.3" in said.err
    found = json.loads(said.out)["sigma"]
    assert found["offset"] == pytest.approx(100 / 257, rel=0.1)
    given = ["--gain", str(2 / 257), "--offset", str(100 / 257)]
    assert main([str(path), str(tmp_path / "given.png"), *options, *given]) == 0
    for name in ("measured", "given"):
        result = np.asarray(Image.open(tmp_path / f"{name}.png"))
        assert result.mean() == pytest.approx(counts.mean(), rel=0.01)
        assert np.abs(result - (400 * CLEAN + 100)).mean() < 0.5 * np.abs(counts - (400 * CLEAN + 100)).mean()


def test_photon_noise_is_measured_and_said(photons: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert (
        main([str(photons), str(photons.with_name("out.png")), "--noise", "poisson-gaussian", "--model", "fast"]) == 0
    )
    assert "The estimated photon noise: gain = 4" in capfd.readouterr().err


def psnr_of(path: Path) -> float:
    return psnr(CLEAN, np.asarray(Image.open(path)) / 65535)


def test_correlated_noise_is_said_and_has_an_option(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    noise = gaussian_filter(np.random.default_rng(0).standard_normal(CLEAN.shape), 0.7)
    path, out = save(tmp_path, CLEAN + 12 / 255 * noise / noise.std()), tmp_path / "out.png"
    assert main([str(path), str(out), "--model", "fast"]) == 0
    told = capfd.readouterr().err
    assert "--noise correlated takes sigma = 1" in told
    by_default = psnr_of(out)
    assert main([str(path), str(out), "--model", "fast", "--noise", "correlated", "--overwrite", "--json"]) == 0
    said = capfd.readouterr()
    receipt = json.loads(said.out)
    assert receipt["noise"] == "correlated"
    assert 11 < receipt["sigma"]["values"][0] < 25
    assert "--noise" not in said.err
    assert psnr_of(out) > by_default + 1.5


def test_correlated_noise_of_many_files_and_of_stacks(tmp_path: Path) -> None:
    noise = gaussian_filter(np.random.default_rng(0).standard_normal(CLEAN.shape), 0.7)
    path = save(tmp_path, CLEAN + 12 / 255 * noise / noise.std())
    options = ["--model", "fast", "--noise", "correlated", "--quiet"]
    assert main([str(path), str(tmp_path / "one.png"), *options]) == 0
    (tmp_path / "many").mkdir()
    assert main([str(path), str(tmp_path / "many"), *options]) == 0
    one = np.asarray(Image.open(tmp_path / "one.png"))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "many" / path.name)), one)
    tifffile, _ = pytest.importorskip("tifffile"), pytest.importorskip("dask")
    tifffile.imwrite(tmp_path / "stack.tif", np.asarray(Image.open(path))[None].repeat(2, 0))
    assert main([str(tmp_path / "stack.tif"), str(tmp_path / "clean.tif"), "--stack", *options]) == 0
    np.testing.assert_allclose(tifffile.imread(tmp_path / "clean.tif")[1].astype(int), one, atol=1)


def test_white_noise_gets_no_hint(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path, CLEAN + 12 / 255 * np.random.default_rng(0).standard_normal(CLEAN.shape))
    assert main([str(path), str(tmp_path / "out.png"), "--model", "fast"]) == 0
    assert "--noise" not in capfd.readouterr().err


def test_photon_noise_taken_for_white_gets_a_hint(photons: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([str(photons), str(photons.with_name("out.png")), "--model", "fast"]) == 0
    said = capfd.readouterr().err
    assert "--noise poisson-gaussian treats it so" in said
    assert "in steps of the file" in said


def test_floats_on_a_scale_of_their_own_are_said_in_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    noisy = 4000 * (CLEAN + 12 / 255 * np.random.default_rng(0).standard_normal(CLEAN.shape))
    write_image(tmp_path / "counts.tif", Picture(noisy.astype(np.float32)))
    assert main([str(tmp_path / "counts.tif"), str(tmp_path / "out.tif"), "--model", "fast"]) == 0
    said = capfd.readouterr().err
    assert re.search(r"sigma = 1[89]\d\.?\d* in the file's own unit\.", said)
    assert "models cover" not in said
    assert psnr(CLEAN, read_image(tmp_path / "out.tif").pixels / 4000) > psnr(CLEAN, noisy / 4000) + 4
    assert main([str(tmp_path / "counts.tif"), str(tmp_path / "b.tif"), "--sigma", "20", "--model", "fast"]) == 0
    assert "counts 255 steps up to 1" in capfd.readouterr().err


def test_many_files_with_photon_noise(photons: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [str(photons), str(out), "--noise", "poisson-gaussian", "--model", "fast", "--quiet"]
    out.mkdir()
    assert main(command) == 0
    line = json.loads((out / "tnrd-manifest.jsonl").read_text())
    assert line["noise"] == "poisson-gaussian"
    assert line["gain"] == pytest.approx(255 / 60, rel=0.2)
    assert line["noise_source"] == "estimated"
    expected = tnrd.denoise_photon_noise(np.asarray(Image.open(photons)), model="fast")
    found = np.asarray(Image.open(out / "noisy.png"))
    assert np.array_equal(found, np.rint(np.clip(expected * np.float32(65535), 0, 65535)))
    assert main([*command, "--skip-existing"]) == 0
    assert main([str(photons), str(out), "--model", "fast", "--quiet", "--skip-existing"]) == 6  # other settings


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--gain", "2"], "need --noise poisson-gaussian"),
        (["--offset", "2"], "need --noise poisson-gaussian"),
        (["--noise", "poisson-gaussian", "--offset", "2"], "--offset says nothing without --gain"),
        (["--noise", "poisson-gaussian", "--sigma", "5"], "--sigma is for Gaussian noise"),
        (["--noise", "poisson-gaussian", "--read-noise", "5"], "says nothing without --gain"),
        (["--noise", "correlated", "--sigma", "5"], "--noise correlated measures the level"),
        (["--noise", "correlated", "--gain", "5"], "need --noise poisson-gaussian"),
        (["--noise", "poisson-gaussian", "--gain", "0"], "gain must lie in"),
        (["--noise", "poisson-gaussian", "--gain", "-1"], "gain must lie in"),
    ],
)
def test_options_that_do_not_fit(
    photons: Path, capfd: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    assert main([str(photons), str(photons.with_name("out.png")), *options]) == 2
    assert sentence in capfd.readouterr().err


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_signed_integers_such_as_of_computed_tomography(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], compression: str | None
) -> None:
    tifffile = pytest.importorskip("tifffile")
    clean = 2000 * CLEAN - 1000  # Hounsfield units
    noisy = np.rint(clean + 80 * np.random.default_rng(0).standard_normal(clean.shape)).astype(np.int16)
    tifffile.imwrite(tmp_path / "ct.tif", noisy, compression=compression, predictor=compression is not None)
    assert np.array_equal(read_image(tmp_path / "ct.tif").pixels, noisy)
    assert main([str(tmp_path / "ct.tif"), str(tmp_path / "out.tif"), "--model", "fast"]) == 0
    assert re.search(r"[78]\d\.?\d* in steps of the file", capfd.readouterr().err)
    result = tifffile.imread(tmp_path / "out.tif")
    assert result.dtype == np.int16
    assert np.sqrt(np.mean((result - clean) ** 2)) < 40
    assert main([str(tmp_path / "ct.tif"), str(tmp_path / "out.png"), "--model", "fast"]) == 4
    assert "signed 16-bit" in capfd.readouterr().err
    pytest.importorskip("dask")
    stack = np.stack([noisy, noisy[::-1]])
    tifffile.imwrite(tmp_path / "stack.tif", stack)
    assert main([str(tmp_path / "stack.tif"), str(tmp_path / "clean.tif"), "--stack", "--model", "fast"]) == 0
    found = tifffile.imread(tmp_path / "clean.tif")
    assert found.dtype == np.int16
    assert np.sqrt(np.mean((found[1, ::-1] - clean) ** 2)) < 40
