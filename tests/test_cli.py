"""``tnrd-denoise``: what it writes, what it says, how it ends."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms
from safetensors.torch import save_file

import tnrd
import tnrd.cli
from tnrd.cli import command, main, options, reporting
from tnrd.config import TNRDConfig
from tnrd.image_io import DEFAULT_MAX_PIXELS, Metadata, Picture, read_image, write_image
from tnrd.inference.levels import given_noise
from tnrd.inference.restore import restore
from tnrd.model import TNRD
from tnrd.weights import find_weights, load_model, save_weights

RUN = "from tnrd.cli import main; raise SystemExit(main())"
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# Little-endian TIFF with one entry: orientation 6, a quarter turn.
EXIF = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"


class Run(NamedTuple):
    status: int
    out: bytes
    err: str


Cli = Callable[..., Run]


@pytest.fixture
def cli(capfdbinary: pytest.CaptureFixture[bytes]) -> Cli:
    """Run the command in this process."""

    def run(*arguments: object) -> Run:
        status = main([str(argument) for argument in arguments])
        captured = capfdbinary.readouterr()
        return Run(status, captured.out, captured.err.decode())

    return run


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quick model, so that the tests measure the command and not the diffusion."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "quick.safetensors"
    save_weights(path, TNRD(TNRDConfig(stages=2, filters=4, kernel_size=3)))
    return path


def noisy_pixels(
    shape: tuple[int, ...] = (48, 64), dtype: str = "uint8", sigma: float = 20 / 255, seed: int = 0
) -> NDArray[Any]:
    shade = np.linspace(0.2, 0.8, shape[1]).reshape(1, -1, *[1] * (len(shape) - 2))
    noisy = shade + sigma * np.random.default_rng(seed).standard_normal(shape)
    if dtype == "float32":
        return noisy.astype(np.float32)
    top = np.iinfo(dtype).max
    return np.clip(np.rint(noisy * top), 0, top).astype(dtype)


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    path = tmp_path / "noisy.png"
    write_image(path, Picture(noisy_pixels()))
    return path


def one_sentence(err: str) -> str:
    """The single line on stderr, without the program's name; no traceback."""
    (line,) = err.splitlines()
    assert line.startswith("tnrd-denoise: ")
    assert "Traceback" not in err
    return line.removeprefix("tnrd-denoise: ")


# --- A picture in, a picture out --------------------------------------------------------------------------------------


def test_denoises_and_says_what_it_estimated(cli: Cli, noisy: Path, tmp_path: Path) -> None:
    run = cli(noisy, tmp_path / "clean.png")
    assert (run.status, run.out) == (0, b"")
    found = re.fullmatch(r"The estimated noise level is sigma = ([\d.]+) on the 8-bit scale\.", one_sentence(run.err))
    assert found is not None
    assert abs(float(found[1]) - 20) < 4
    clean = read_image(tmp_path / "clean.png").pixels
    assert clean.shape == (48, 64)
    assert clean.dtype == np.uint8
    assert np.diff(clean.astype(float)).std() < 0.3 * np.diff(noisy_pixels().astype(float)).std()


def test_a_level_beyond_the_models_is_taken_as_the_most_that_they_cover(cli: Cli, tmp_path: Path) -> None:
    """That of so few pixels says little, and no scale would help integers."""
    Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).save(tmp_path / "tiny.png")
    run = cli(tmp_path / "tiny.png", tmp_path / "clean.png")
    assert run.status == 0
    assert "sigma = 100.0 on the 8-bit scale." in run.err
    assert "That is the most that the models cover" in run.err


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_it_writes_what_the_library_computes(
    cli: Cli, tmp_path: Path, weights: Path, shape: tuple[int, ...], dtype: str
) -> None:
    pixels = noisy_pixels(shape, dtype)
    write_image(tmp_path / "in.tif", Picture(pixels))
    run = cli(tmp_path / "in.tif", tmp_path / "out.tif", "--sigma", 20, "--model", weights, "--tile", 30)
    assert run == (0, b"", "")
    expected = restore(pixels, load_model(weights), given_noise(20 / 255, pixels), tile=30, dtype=pixels.dtype)
    np.testing.assert_array_equal(read_image(tmp_path / "out.tif").pixels, expected)


def test_a_16_bit_rgba_png_keeps_everything(cli: Cli, tmp_path: Path, weights: Path) -> None:
    alpha = np.random.default_rng(1).integers(0, 65536, (48, 64)).astype(np.uint16)
    picture = Picture(noisy_pixels((48, 64, 3), "uint16"), alpha, "PNG", Metadata(icc=ICC, exif=EXIF))
    write_image(tmp_path / "in.png", picture)
    assert cli(tmp_path / "in.png", tmp_path / "out.png", "--model", weights).status == 0
    result = read_image(tmp_path / "out.png")
    assert result.pixels.dtype == np.uint16
    assert not np.array_equal(result.pixels, picture.pixels)
    np.testing.assert_array_equal(result.alpha, alpha)
    assert (result.metadata.icc, result.metadata.exif) == (ICC, EXIF)


def test_the_same_run_gives_the_same_bytes(cli: Cli, noisy: Path, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        assert cli(noisy, tmp_path / name, "--tile", 32).status == 0
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_a_picture_without_noise_stays_as_it_is(cli: Cli, tmp_path: Path) -> None:
    pixels = np.add.outer(np.arange(64) * 2, np.arange(80)).astype(np.uint8)
    write_image(tmp_path / "in.png", Picture(pixels))
    run = cli(tmp_path / "in.png", tmp_path / "out.png")
    assert run.status == 0
    assert "sigma = 0.0 on" in run.err
    assert "That is no noise: the picture stays as it is." in run.err
    np.testing.assert_array_equal(read_image(tmp_path / "out.png").pixels, pixels)


def test_colour_names_a_level_for_each_channel(cli: Cli, tmp_path: Path, weights: Path) -> None:
    write_image(tmp_path / "in.png", Picture(noisy_pixels((48, 64, 3))))
    run = cli(tmp_path / "in.png", tmp_path / "out.png", "--model", weights, "--json")
    assert re.search(r"sigma = [\d.]+, [\d.]+, [\d.]+ \(red, green, blue\) on the 8-bit scale\.", run.err)
    sigma = json.loads(run.out)["sigma"]
    assert len(sigma["values"]) == len(sigma["luminance_chrominance"]) == 3
    assert np.linalg.norm(sigma["values"]) == pytest.approx(np.linalg.norm(sigma["luminance_chrominance"]), rel=1e-4)


def test_strength_0_leaves_the_picture_as_it_is(cli: Cli, noisy: Path, tmp_path: Path) -> None:
    assert cli(noisy, tmp_path / "out.png", "--sigma", 25, "--strength", 0).status == 0
    np.testing.assert_array_equal(read_image(tmp_path / "out.png").pixels, noisy_pixels())


def test_strength_lies_between(cli: Cli, noisy: Path, tmp_path: Path, weights: Path) -> None:
    results = []
    for strength in (0, 0.5, 1):
        path = tmp_path / f"{strength}.png"
        assert cli(noisy, path, "--sigma", 25, "--model", weights, "--strength", strength).status == 0
        results.append(read_image(path).pixels.astype(float))
    assert 0 < np.abs(results[1] - results[0]).mean() < np.abs(results[2] - results[0]).mean()


def test_quiet_says_nothing(cli: Cli, noisy: Path, tmp_path: Path) -> None:
    assert cli(noisy, tmp_path / "out.bmp", "--quiet") == (0, b"", "")


def test_lost_metadata_is_mentioned(cli: Cli, tmp_path: Path, weights: Path) -> None:
    write_image(tmp_path / "in.png", Picture(noisy_pixels(), metadata=Metadata(icc=ICC)))
    run = cli(tmp_path / "in.png", tmp_path / "out.bmp", "--sigma", 20, "--model", weights)
    assert one_sentence(run.err) == "BMP has no place for the picture's ICC profile."


def test_floats_far_beyond_1_are_mentioned(cli: Cli, tmp_path: Path, weights: Path) -> None:
    write_image(tmp_path / "in.tif", Picture(255 * noisy_pixels(dtype="float32")))
    run = cli(tmp_path / "in.tif", tmp_path / "out.tif", "--sigma", 20, "--model", weights)
    assert run.status == 0
    assert "what is given of the noise counts 255 steps up to 1" in one_sentence(run.err)


# --- The receipt ------------------------------------------------------------------------------------------------------


def test_the_receipt_of_a_blind_run(cli: Cli, noisy: Path, tmp_path: Path) -> None:
    output = tmp_path / "clean.tif"
    run = cli(noisy, output, "--json", "--engine", "numba", "--tile", 32, "--strength", 0.9, "--quiet")
    receipt = json.loads(run.out)
    assert (run.status, run.err) == (0, "")
    assert receipt["version"] == tnrd.__version__
    assert receipt["input"] == {
        "name": str(noisy), "format": "PNG", "width": 64, "height": 48, "channels": 1, "alpha": False, "depth": "uint8",
    }  # fmt: skip
    sha256 = hashlib.sha256(output.read_bytes()).hexdigest()
    assert receipt["output"] == {"name": str(output), "format": "TIFF", "sha256": sha256}
    (level,) = receipt["sigma"]["values"]
    assert level == pytest.approx(255 * tnrd.estimate_sigma(noisy_pixels()), abs=1e-3)
    assert (receipt["sigma"]["source"], receipt["sigma"]["unit"]) == ("estimated", "8-bit")
    assert receipt["weights"] == {"name": "gray", "sha256": find_weights("gray").sha256}
    assert (receipt["engine"], receipt["device"], receipt["tile"], receipt["strength"]) == ("numba", "cpu", 32, 0.9)
    assert receipt["threads"] == torch.get_num_threads()
    assert list(receipt["seconds"]) == ["read", "start", "estimate", "load", "denoise", "write"]
    assert all(seconds >= 0 for seconds in receipt["seconds"].values())


def test_the_receipt_of_a_given_level_in_colour(cli: Cli, tmp_path: Path, weights: Path) -> None:
    picture = Picture(noisy_pixels((48, 64, 3), "uint16"), np.zeros((48, 64), np.uint16))
    write_image(tmp_path / "in.png", picture)
    run = cli(tmp_path / "in.png", tmp_path / "out.png", "--json", "--sigma", 12.5, "--model", weights)
    receipt = json.loads(run.out)
    sigma = {"values": [12.5] * 3, "luminance_chrominance": None, "unit": "8-bit", "source": "given"}
    assert receipt["sigma"] == sigma
    assert receipt["weights"] == {"name": str(weights), "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    assert (receipt["input"]["channels"], receipt["input"]["alpha"], receipt["input"]["depth"]) == (3, True, "uint16")


# --- stdin and stdout -------------------------------------------------------------------------------------------------


def give_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.parametrize(("arguments", "format"), [([], "TIFF"), (["--format", "png"], "PNG")])
def test_from_stdin_to_stdout(
    cli: Cli, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], format: str
) -> None:
    write_image(tmp_path / "in.tif", Picture(noisy_pixels()))
    give_stdin(monkeypatch, (tmp_path / "in.tif").read_bytes())
    run = cli("-", "-", "--sigma", 20, "--model", weights, "--json", *arguments)
    result = read_image(run.out)
    assert result.format == format
    receipt = json.loads(run.err)
    assert (receipt["input"]["name"], receipt["output"]["name"]) == ("-", "-")
    assert receipt["output"]["sha256"] == hashlib.sha256(run.out).hexdigest()
    assert cli(tmp_path / "in.tif", tmp_path / "out.tif", "--sigma", 20, "--model", weights).status == 0
    np.testing.assert_array_equal(result.pixels, read_image(tmp_path / "out.tif").pixels)


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x89PNG\r\n\x1a\n", bytes(5000)])
def test_garbage_on_stdin(cli: Cli, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    give_stdin(monkeypatch, data)
    run = cli("-", "-")
    assert (run.status, run.out) == (reporting.INPUT, b"")
    one_sentence(run.err)


@pytest.mark.parametrize(("stream", "arguments"), [("stdin", ("-", "out.png")), ("stdout", ("in.png", "-"))])
def test_a_terminal_gives_and_takes_no_picture(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, stream: str, arguments: tuple[str, str]
) -> None:
    monkeypatch.setattr(getattr(sys, stream), "isatty", lambda: True)
    run = cli(*arguments)
    assert run.status == reporting.USAGE
    assert "terminal" in one_sentence(run.err)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("arguments", [("-",), ("out.png", "--json")])
def test_a_full_disk_behind_stdout(
    cli: Cli, noisy: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        run = cli(noisy, *arguments, "--sigma", 20, "--model", weights)
    assert run.status == reporting.OUTPUT
    assert one_sentence(run.err) == "The output cannot be written to stdout: No space left on device."


def test_a_reader_that_is_gone(noisy: Path, weights: Path) -> None:
    arguments = [str(noisy), "-", "--sigma", "20", "--model", str(weights)]
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run([sys.executable, "-c", RUN, *arguments], stdout=writer, stderr=subprocess.PIPE, timeout=120)
    os.close(writer)
    assert run.returncode == reporting.OUTPUT
    assert one_sentence(run.stderr.decode()) == "The output cannot be written to stdout: Broken pipe."


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors of POSIX")
@pytest.mark.parametrize(
    ("closed", "arguments", "status", "sentence"),
    [
        (2, ("noisy.png", "-"), 0, ""),
        (2, ("noisy.png", "out.png"), 0, ""),
        (0, ("-", "out.png"), reporting.INPUT, "empty"),
        (1, ("noisy.png", "-"), reporting.OUTPUT, "stdout: it is closed"),
        (1, ("noisy.png", "out.png", "--json"), reporting.OUTPUT, "stdout: it is closed"),
    ],
)
def test_a_closed_stream(
    noisy: Path, weights: Path, closed: int, arguments: tuple[str, ...], status: int, sentence: str
) -> None:
    """What would have been said there does not end up elsewhere, least of all in the picture."""
    run = subprocess.run(
        [sys.executable, "-c", RUN, *arguments, "--model", str(weights)],
        cwd=noisy.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        preexec_fn=lambda: os.close(closed),
    )
    assert run.returncode == status
    assert run.stderr == b"" if not sentence else sentence in one_sentence(run.stderr.decode())
    if "-" in arguments[1:] and not status:
        assert read_image(run.stdout).pixels.shape == (48, 64)
    else:
        assert run.stdout == b""
        assert (noisy.parent / "out.png").exists() == (status == 0)


# --- Wrong options ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "required: input, output"),
        (["in.png"], "required: output"),
        (["in.png", "out.png", "--sigma", "-3"], "sigma must lie in [0, 100] on the 8-bit scale, got -3"),
        (["in.png", "out.png", "--sigma", "1000"], "got 1000"),
        (["in.png", "out.png", "--sigma", "nan"], "got nan"),
        (["in.png", "out.png", "--sigma", "inf"], "got inf"),
        (["in.png", "out.png", "--sigma", "abc"], "got abc"),
        (["in.png", "out.png", "--sigma", ""], "sigma must lie in"),
        (["in.png", "out.png", "--strength", "1.5"], "strength must lie in [0, 1], got 1.5"),
        (["in.png", "out.png", "--tile", "0"], "whole number of at least 1, got 0"),
        (["in.png", "out.png", "--tile", "big"], "whole number of at least 1, got big"),
        (["in.png", "out.png", "--max-pixels", "-1"], "got -1"),
        (["in.png", "out.png", "--device", "tpu"], "'tpu'"),
        (["in.png", "out.png", "--engine", "fortran"], "'fortran'"),
        (["in.png", "out.png", "--form", "png"], "unrecognized"),
        (["in.png", "out.png", "--format", "png"], "--format is for stdout only"),
        (["in.png", "-", "--format", "gif"], "'GIF'"),
        (["in.png", "out.png", "--channel-axis", "0"], "--channel-axis is for stacks: add --stack"),
        (["in", "out", "--per-plane"], "--per-plane is for stacks"),
        (["in.tif", "out.tif", "--stack", "--shard", "1/2"], "--shard is not for stacks"),
        (["in.tif", "out.zarr", "--max-pixels", "9"], "--max-pixels is not for stacks"),
    ],
)
def test_wrong_options(cli: Cli, arguments: list[str], sentence: str) -> None:
    run = cli(*arguments)
    assert (run.status, run.out) == (reporting.USAGE, b"")
    assert sentence in one_sentence(run.err)


def test_a_tile_below_a_cell(cli: Cli, noisy: Path, tmp_path: Path) -> None:
    run = cli(noisy, tmp_path / "out.png", "--tile", 1)
    assert run.status == reporting.USAGE
    assert "tile must be at least 2" in one_sentence(run.err)


def test_version_and_models(cli: Cli) -> None:
    assert cli("--version") == (0, f"tnrd-denoise {tnrd.__version__}\n".encode(), "")
    run = cli("--list-models")
    assert run.status == 0
    assert re.search(rb"^gray +\S", run.out, re.MULTILINE)
    assert re.search(rb"^default +the same as gray; for colour pictures usually color$", run.out, re.MULTILINE)


def test_help_names_every_status(cli: Cli) -> None:
    run = cli("--help")
    assert run.status == 0
    assert f"default: {DEFAULT_MAX_PIXELS}" in run.out.decode()
    codes = (0, reporting.UNEXPECTED, reporting.USAGE, reporting.INPUT, reporting.OUTPUT, reporting.WEIGHTS)
    codes += (reporting.SOME_FAILED, reporting.INTERRUPTED, reporting.TERMINATED)
    told = re.findall(r"^  (\d+) +\S", options.EPILOG, re.MULTILINE)
    assert [int(code) for code in told] == list(codes)
    assert options.EPILOG in run.out.decode()


# --- Unusable input ---------------------------------------------------------------------------------------------------


def bad_inputs(folder: Path) -> dict[str, Path]:
    whole = folder / "whole.png"
    write_image(whole, Picture(noisy_pixels()))
    files = {
        "text": b"this is no picture",
        "empty": b"",
        "truncated": whole.read_bytes()[:-500],
        "animated": _animation(),
    }
    for name, data in files.items():
        (folder / f"{name}.png").write_bytes(data)
    (folder / "folder.png").mkdir()
    floats = noisy_pixels(dtype="float32")
    floats[3, 4] = np.nan
    Image.fromarray(floats).save(folder / "nan.tif")
    return {path.stem: path for path in folder.iterdir()} | {"missing": folder / "missing.png"}


def _animation() -> bytes:
    stream = io.BytesIO()
    frames = [Image.fromarray(noisy_pixels(seed=seed)) for seed in (0, 1)]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    return stream.getvalue()


@pytest.mark.parametrize("name", ["text", "empty", "truncated", "animated", "folder", "nan", "missing"])
def test_unusable_input(cli: Cli, tmp_path: Path, name: str) -> None:
    path = bad_inputs(tmp_path)[name]
    before = sorted(tmp_path.iterdir())
    run = cli(path, tmp_path / "out.png")
    assert (run.status, run.out) == (reporting.INPUT, b"")
    assert str(path) in one_sentence(run.err)
    assert sorted(tmp_path.iterdir()) == before


def test_more_pixels_than_allowed(cli: Cli, noisy: Path, tmp_path: Path) -> None:
    run = cli(noisy, tmp_path / "out.png", "--max-pixels", 64 * 48 - 1)
    assert run.status == reporting.INPUT
    assert "above the limit of 3071" in one_sentence(run.err)


def test_a_noise_level_beyond_the_model(cli: Cli, tmp_path: Path) -> None:
    write_image(tmp_path / "in.tif", Picture(noisy_pixels(dtype="float32", sigma=0.6)))
    run = cli(tmp_path / "in.tif", tmp_path / "out.tif", "--quiet")
    assert run.status == reporting.INPUT
    assert "The estimated noise level" in one_sentence(run.err)


# --- Outputs that cannot be -------------------------------------------------------------------------------------------


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if the input is even looked at."""

    def read(*_: object) -> None:
        raise AssertionError("the input was read")

    monkeypatch.setattr(command, "_read", read)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("exists.png", "exists already"),
        ("noisy.png", "it is the input itself"),
        ("link.png", "it is the input itself"),
        ("hard.png", "it is the input itself"),
        ("folder.png", "a folder or a device"),
        ("absent/out.png", "does not exist"),
        ("out.gif", 'got ".gif"'),
        ("out", "got no suffix"),
    ],
)
def test_unusable_output_is_found_before_any_work(
    cli: Cli, noisy: Path, tmp_path: Path, output: str, sentence: str
) -> None:
    (tmp_path / "exists.png").write_bytes(b"precious")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to(noisy)
    (tmp_path / "hard.png").hardlink_to(noisy)
    run = cli(noisy, tmp_path / output)
    assert run.status == reporting.OUTPUT
    assert sentence in one_sentence(run.err)
    assert (tmp_path / "exists.png").read_bytes() == b"precious"
    np.testing.assert_array_equal(read_image(noisy).pixels, noisy_pixels())


@pytest.mark.parametrize("name", ["other.png", "noisy.png"])
def test_overwrite(cli: Cli, noisy: Path, tmp_path: Path, weights: Path, name: str) -> None:
    (tmp_path / "other.png").write_bytes(b"old")
    run = cli(noisy, tmp_path / name, "--overwrite", "--sigma", 20, "--model", weights)
    assert run.status == 0
    assert not np.array_equal(read_image(tmp_path / name).pixels, noisy_pixels())


@pytest.mark.parametrize(
    ("picture", "output", "sentence"),
    [
        (Picture(noisy_pixels(dtype="uint16")), "out.jpg", "JPEG cannot hold 16-bit pixels"),
        (Picture(noisy_pixels(), noisy_pixels()), "out.jpg", "JPEG cannot hold the picture's transparency"),
        (Picture(noisy_pixels(dtype="float32")), "out.png", "PNG cannot hold floating-point pixels"),
    ],
)
def test_a_format_that_cannot_hold_the_picture(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: Picture, output: str, sentence: str
) -> None:
    write_image(tmp_path / "in.tif", picture)
    monkeypatch.setattr(command, "_load", lambda *_: pytest.fail("the model was loaded"))
    run = cli(tmp_path / "in.tif", tmp_path / output)
    assert run.status == reporting.OUTPUT
    assert sentence in one_sentence(run.err)
    assert not (tmp_path / output).exists()


def test_an_output_that_appears_meanwhile_is_kept(
    cli: Cli, noisy: Path, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.png"
    denoise = command._restored

    def appear(*arguments: Any) -> Picture:
        output.write_bytes(b"somebody else's")
        return denoise(*arguments)

    monkeypatch.setattr(command, "_restored", appear)
    assert cli(noisy, output, "--sigma", 20, "--model", weights).status == reporting.OUTPUT
    assert output.read_bytes() == b"somebody else's"


# --- Unusable weights and devices -------------------------------------------------------------------------------------


def bad_weights(folder: Path, name: str) -> str:
    path = folder / f"{name}.safetensors"
    tensors = {"a": torch.zeros(2)}
    config = json.dumps({"stages": 1})
    if name == "random":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif name == "foreign":
        save_file(tensors, path)
    elif name == "config":
        save_file(tensors, path, metadata={"format": "tnrd-1", "config": '{"stages": "many"}'})
    elif name == "tensors":
        save_file(tensors, path, metadata={"format": "tnrd-1", "config": config})
    elif name == "colour":
        save_weights(path, TNRD(TNRDConfig(stages=1, filters=4, kernel_size=3, channels=3)))
    elif name == "folder":
        path.mkdir()
    elif name == "unknown":
        return "grey"
    return str(path)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("random", "not a readable safetensors file"),
        ("foreign", "does not hold weights of the format"),
        ("config", "do not fit their own configuration"),
        ("tensors", "do not fit their own configuration"),
        ("colour", "The model takes 3 channels, the image has 1"),
        ("folder", "Cannot read the weights"),
        ("missing", "Cannot read the weights"),
        ("unknown", "No weights 'grey': give one of color, color-best, color-fast, gray"),
    ],
)
def test_unusable_weights(cli: Cli, noisy: Path, tmp_path: Path, name: str, sentence: str) -> None:
    run = cli(noisy, tmp_path / "out.png", "--model", bad_weights(tmp_path, name))
    assert run.status == reporting.WEIGHTS
    assert sentence in run.err
    assert "Traceback" not in run.err
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there(
    cli: Cli, noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    run = cli(noisy, tmp_path / "out.png", "--device", device)
    assert run.status == reporting.WEIGHTS
    assert f"Device '{device}' was asked for" in one_sentence(run.err)


# --- Interruptions and faults -----------------------------------------------------------------------------------------


def failing(error: BaseException) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (KeyboardInterrupt(), reporting.INTERRUPTED, "Interrupted."),
        (MemoryError(), reporting.UNEXPECTED, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), reporting.UNEXPECTED, "not enough memory"),
    ],
)
def test_work_that_breaks_off(
    cli: Cli, noisy: Path, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch,
    error: BaseException, status: int, sentence: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("tnrd.inference.noise_model.restore", failing(error))
    run = cli(noisy, tmp_path / "out.png", "--sigma", 20, "--model", weights)
    assert run.status == status
    assert sentence in one_sentence(run.err)
    assert list(tmp_path.iterdir()) == [noisy]


def test_a_result_that_is_not_finite_is_never_written(cli: Cli, noisy: Path, tmp_path: Path) -> None:
    """Finite weights whose arithmetic overflows: the picture would be all black."""
    model = TNRD(TNRDConfig(stages=1, filters=2, kernel_size=3))
    with torch.no_grad():
        model.stage(0).value_scale.theta[:, 0] = 400.0
    save_weights(tmp_path / "wild.safetensors", model)
    run = cli(noisy, tmp_path / "out.png", "--sigma", 20, "--model", tmp_path / "wild.safetensors")
    assert run.status == reporting.WEIGHTS
    assert "not finite" in one_sentence(run.err)
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("error", [ZeroDivisionError("x / 0"), RuntimeError("strange")])
def test_a_fault_of_the_program_shows_where(
    cli: Cli, noisy: Path, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr("tnrd.inference.noise_model.restore", failing(error))
    run = cli(noisy, tmp_path / "out.png", "--sigma", 20, "--model", weights)
    assert run.status == reporting.UNEXPECTED
    assert "Traceback" in run.err
    assert str(error) in run.err
    assert "please report it" in run.err.splitlines()[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_amid_the_work_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    noisy = tmp_path / "noisy.png"
    write_image(noisy, Picture(noisy_pixels((2000, 2000))))
    arguments = [str(noisy), str(tmp_path / "out.png"), "--tile", "16"]
    # A background job of a shell ignores SIGINT and its children inherit that; a person's terminal does not.
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    assert b"estimated noise level" in process.stderr.readline()  # said just before the diffusion begins
    time.sleep(0.2)
    process.send_signal(number)
    rest = process.communicate(timeout=120)[1]
    said = {
        signal.SIGINT: (reporting.INTERRUPTED, b"tnrd-denoise: Interrupted.\n"),
        signal.SIGTERM: (reporting.TERMINATED, b"tnrd-denoise: Terminated.\n"),
        signal.SIGKILL: (-signal.SIGKILL, b""),
    }
    assert (process.returncode, rest) == said[number]
    assert list(tmp_path.iterdir()) == [noisy]


# --- Progress and start-up --------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("quiet", "stream"), [(True, Terminal()), (False, io.StringIO())])
def test_no_progress_bar_when_quiet_or_not_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, quiet: bool, stream: io.StringIO
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with reporting.progress(quiet) as report:
        assert report is None


@pytest.mark.parametrize(("total", "shown"), [(reporting.FEW_TILES + 1, True), (reporting.FEW_TILES, False)])
def test_a_progress_bar_for_long_work(monkeypatch: pytest.MonkeyPatch, total: int, shown: bool) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with reporting.progress(quiet=False) as report:
        assert report is not None
        time.sleep(1.05)  # shorter work shows none
        for done in range(1, total + 1):
            report(done, total)
            time.sleep(0.02)
    assert (f"/{total}" in terminal.getvalue()) == shown


def test_a_wrong_path_does_not_wait_for_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from tnrd.cli import main; "
        "status = main(sys.argv[1:]); print(status, 'torch' in sys.modules, 'numba' in sys.modules)"
    )
    arguments = [str(tmp_path / "missing.png"), str(tmp_path / "out.png")]
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert run.stdout.split() == ["3", "False", "False"]


def test_python_m(tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "tnrd", str(tmp_path / "missing.png"), str(tmp_path / "out.png")]
    run = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert run.returncode == reporting.INPUT
    assert "missing.png" in one_sentence(run.stderr)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_100_megapixels_fit_into_2_gib(tmp_path: Path, weights: Path) -> None:
    # The peak is affine in the number of pixels, so two smaller pictures of many tiles tell that of a large one.
    code = (
        "import re, sys; from tnrd.cli import main; status = main(sys.argv[1:]); "
        "print(status, re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])"
    )
    peaks = []
    sides = (1600, 3200)
    for side in sides:
        noisy = tmp_path / f"{side}.png"
        write_image(noisy, Picture(np.tile(noisy_pixels((400, 400, 3)), (side // 400, side // 400, 1))))
        arguments = [str(noisy), str(tmp_path / f"{side}-clean.png"), "--model", str(weights)]
        run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=600)
        status, peak = map(int, run.stdout.split())
        assert status == 0
        peaks.append(1024 * peak)
    per_pixel = (peaks[1] - peaks[0]) / (sides[1] ** 2 - sides[0] ** 2)
    assert per_pixel > 5.5, "the noisy and the clean picture alone take 6 bytes a pixel: nothing was measured"
    assert peaks[0] + per_pixel * (100e6 - sides[0] ** 2) < 2 * 1024**3
