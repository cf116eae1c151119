"""Which weights a name means: one thing for grey, and where there are weights of colour another for colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from batch_material import lines, put, tree
from numpy.typing import NDArray

import tnrd
from tnrd import weights
from tnrd.inference.batch.run import denoise_files
from tnrd.inference.choice import suits_colour, weights_for
from tnrd.inference.levels import estimate_noise, given_noise
from tnrd.photon_noise import PhotonNoise

RNG = np.random.default_rng(5)
GREY = RNG.random((24, 24), np.float32)
COLOURED = RNG.random((24, 24, 3), np.float32)
GREY_IN_COLOUR = np.repeat(GREY[..., None], 3, axis=2)


@pytest.fixture(autouse=True)
def other_weights_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in: "default" is gray-fast for colours, "best" is what it is for grey."""
    monkeypatch.setattr(weights, "COLOUR_ALIASES", {"default": "gray-fast"})


@pytest.mark.parametrize(
    ("model", "pixels", "expected"),
    [
        ("default", GREY, "gray"),
        ("default", COLOURED, "gray-fast"),
        ("default", GREY_IN_COLOUR, "gray"),
        ("best", COLOURED, "gray-best"),
        ("gray", COLOURED, "gray"),
    ],
)
def test_a_name_means_weights_for_the_picture(model: str, pixels: NDArray[np.float32], expected: str) -> None:
    assert weights_for(model, pixels, given_noise(0.1, pixels)).name == expected


def test_photon_noise_is_white_in_all_channels_once_it_is_stabilised() -> None:
    assert suits_colour(COLOURED, PhotonNoise(0.01, 0.0))
    assert not suits_colour(GREY, PhotonNoise(0.01, 0.0))


@pytest.mark.parametrize(("sigma", "suits"), [((0.1, 0.1, 0.1), True), ((0.1, 0.1, 0.14), False)])
def test_noise_that_differs_between_channels_is_not_for_models_of_colour(
    sigma: tuple[float, float, float], suits: bool
) -> None:
    noise = np.random.default_rng(1).standard_normal((256, 256, 3), np.float32) * np.float32(sigma)
    assert suits_colour(COLOURED, estimate_noise(0.5 + noise)) is suits


def test_nor_is_noise_that_the_channels_share() -> None:
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((256, 256, 1), np.float32) + 0.2 * rng.standard_normal((256, 256, 3), np.float32)
    assert not suits_colour(COLOURED, estimate_noise(0.5 + 0.1 * noise))


def test_the_library_chooses_too() -> None:
    chosen = tnrd.denoise(COLOURED, 0.1, channel_axis=-1)
    np.testing.assert_array_equal(chosen, tnrd.denoise(COLOURED, 0.1, channel_axis=-1, model="gray-fast"))
    assert not np.array_equal(chosen, tnrd.denoise(COLOURED, 0.1, channel_axis=-1, model="gray"))


def test_a_batch_takes_each_picture_by_what_it_is(tmp_path: Path) -> None:
    put(tmp_path / "in/grey.png", 1, shape=(24, 24))
    put(tmp_path / "in/colour.png", 2, shape=(24, 24, 3))
    for name, model in (("mixed", "default"), ("fast", "gray-fast"), ("slow", "gray")):
        denoise_files(tmp_path / "in", tmp_path / name, sigma=0.1, model=model)
    mixed, fast, slow = (tree(tmp_path / name) for name in ("mixed", "fast", "slow"))
    assert (mixed["grey.png"], mixed["colour.png"]) == (slow["grey.png"], fast["colour.png"])
    assert fast["grey.png"] != slow["grey.png"]
    hashes = {name: weights.find_weights(name).sha256 for name in ("gray", "gray-fast")}
    records = {record["output"]: record for record in lines(tmp_path / "mixed/tnrd-manifest.jsonl")}
    assert records["grey.png"]["weights"] == hashes["gray"]
    assert records["colour.png"]["weights"] == hashes["gray-fast"]
    for record in records.values():
        assert record["all_weights"] == {"grey": hashes["gray"], "colour": hashes["gray-fast"]}


def test_other_weights_for_colour_leave_grey_results_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "in/grey.png", 1, shape=(24, 24))
    put(tmp_path / "in/colour.png", 2, shape=(24, 24, 3))
    denoise_files(tmp_path / "in", tmp_path / "out", sigma=0.1)
    monkeypatch.setattr(weights, "COLOUR_ALIASES", {"default": "color-fast"})
    report = denoise_files(tmp_path / "in", tmp_path / "out", sigma=0.1, skip_existing=True)
    ((name, reason),) = report.failures
    assert (report.skipped, Path(name).name) == (1, "colour.png")
    assert "other settings or weights" in reason


def test_every_colour_name_is_shipped_and_of_three_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for name in weights.COLOUR_ALIASES.values():
        assert weights.load_model(name).config.channels == 3
