"""Training: recipes, pictures and crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tnrd.config import TNRDConfig
from tnrd.image_io import Picture, write_image
from tnrd.training.data import SATURATION, CropSampler, load_images
from tnrd.training.recipe import Phase, Recipe, read_recipe

ROOT = Path(__file__).resolve().parents[1]
TINY = TNRDConfig(stages=2, filters=4, kernel_size=3, nodes=15)


def test_every_shipped_recipe_is_readable() -> None:
    paths = sorted((ROOT / "scripts" / "recipes").glob("*.toml"))
    assert paths
    for path in paths:
        assert read_recipe(path).name == path.stem


@pytest.mark.parametrize(
    "text", ["oops = 1\n[[phases]]\n", "[model]\nstagse = 3\n[[phases]]\n", "[[phases]]\nlr = 1\n", "seed = 1\n"]
)
def test_recipe_with_an_unknown_key_or_no_phase_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"oops|stagse|lr|phases"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[phases]]\nbatch = 2.5\n", "batch must be an integer, got 2.5"),
        ("[[phases]]\nbatch = true\n", "batch must be an integer, got True"),
        ("[[phases]]\nlearning_rate = 'fast'\n", "learning_rate must be a finite number, got 'fast'"),
        ("[[phases]]\ndeep_supervision = nan\n", "deep_supervision must be a finite number, got nan"),
        ("[[phases]]\noptimizer = 3\n", "optimizer must be a string, got 3"),
        ("phases = [3]\n", "The phase settings must be a table, got 3"),
        ("model = 3\n[[phases]]\n", "The model settings must be a table, got 3"),
        ("[model]\nstages = '5'\n[[phases]]\n", "stages must be an integer, got '5'"),
        ("[model]\ntransposes = 1\n[[phases]]\n", "transposes must be true or false, got 1"),
        ("[model]\nvanishing_moments = [1, 1.5]\n[[phases]]\n", "vanishing_moments must be an integer, got 1.5"),
        ("[model]\nderivatives = [[1]]\n[[phases]]\n", r"derivatives must have 2 values, got \[1\]"),
        ("scales = 1.0\n[[phases]]\n", "scales must be a list, got 1.0"),
        ("sigma = [1]\n[[phases]]\n", r"sigma must have 2 values, got \[1\]"),
        ("validation_sigma = [nan]\n[[phases]]\n", "validation_sigma must be a finite number, got nan"),
        ("validation_sigma = [-1]\n[[phases]]\n", "validation_sigma must be at least 0"),
        ("name = ''\n[[phases]]\n", "name must be that of a file"),
        ("name = '../gray'\n[[phases]]\n", "name must be that of a file"),
        ("name = '..'\n[[phases]]\n", "name must be that of a file"),
    ],
)
def test_a_value_of_another_type_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=sentence):
        read_recipe(path)


def test_whole_numbers_and_lists_are_taken_for_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("sigma = [0, 75]\n[model]\nderivatives = [[1, 0]]\nnode_width = 1\n[[phases]]\nseconds = 3\n")
    read = read_recipe(path)
    assert read.sigma == (0.0, 75.0) and read.phases[0].seconds == 3.0
    assert read.model.derivatives == ((1, 0),) and read.model.node_width == 1.0


def test_phase_refuses_what_it_does_not_know() -> None:
    for wrong in (
        {"optimizer": "sgd"},
        {"stages": "both"},
        {"batch": 0},
        {"seconds": -1.0},
        {"loss_power": 0.0},
        {"loss_power": 1.1},
        {"loss_power": float("nan")},
    ):
        with pytest.raises(ValueError, match=r"must (be|lie)"):
            Phase(**wrong)


def test_a_batch_depends_on_seed_and_index_alone(pictures: list[np.ndarray]) -> None:
    sampler = CropSampler(pictures, 16, 5, (0.1, 0.2), seed=7)
    again = CropSampler(pictures, 16, 5, (0.1, 0.2), seed=7)
    again(0)
    for one, other in zip(sampler(9), again(9), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert not torch.equal(sampler(10)[0], sampler(9)[0])


def test_noise_of_a_batch_has_the_level_it_says(pictures: list[np.ndarray]) -> None:
    clean, noisy, sigma = CropSampler(pictures, 32, 64, (0.05, 0.3), seed=1)(0)
    assert float(sigma.min()) >= 0.05 and float(sigma.max()) <= 0.3
    measured = (noisy - clean).flatten(1).std(1)
    torch.testing.assert_close(measured, sigma, rtol=0.1, atol=0)


def test_an_exponent_shows_more_of_the_low_levels(pictures: list[np.ndarray]) -> None:
    levels = [torch.cat([CropSampler(pictures, 16, 50, (0.1, 0.3), 0, p)(i)[2] for i in range(20)]) for p in (1.0, 2.0)]
    torch.testing.assert_close(levels[1], 0.1 + (levels[0] - 0.1) ** 2 / 0.2)


def test_crops_too_large_for_every_picture_are_refused(pictures: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="64 x 64"):
        CropSampler(pictures, 64, 1, (0.1, 0.1), seed=0)


def test_load_images_refuses_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No pictures"):
        load_images(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sigma": (75.0, 0.0)},
        {"sigma": (0.0, 1.0, 2.0)},
        {"scales": (0.0,)},
        {"validate_every": 0},
        {"seed": -1},
        {"recoloured": 0.5},
        {"recoloured": -0.1},
        {"recoloured": 1.1},
    ],
)
def test_a_recipe_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        Recipe("r", TINY, (Phase(),), **wrong)


def test_pictures_deeper_than_8_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png is not an 8-bit picture"):
        load_images(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_colours_deeper_than_8_bits_are_refused(tmp_path: Path, suffix: str, channels: int) -> None:
    pixels = np.arange(8 * 8 * 3, dtype=np.uint16).reshape(8, 8, 3) * 300
    write_image(tmp_path / f"deep.{suffix}", Picture(pixels))
    with pytest.raises(ValueError, match=rf"deep\.{suffix} is not an 8-bit picture \(mode RGB, 16 bits\)"):
        load_images(tmp_path, channels)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.jpg", "a.webp"])
@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_pictures_of_8_bits_or_fewer_are_taken(tmp_path: Path, name: str, mode: str) -> None:
    Image.fromarray(np.full((16, 24, 3), 200, np.uint8)).convert(mode).save(tmp_path / name)
    (image,) = load_images(tmp_path)
    assert image.shape == (16, 24) and image.dtype == np.uint8


def test_a_truncated_picture_is_named(tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=rf"{name} cannot be read"):
            load_images(tmp_path)
        (tmp_path / name).unlink()


def test_a_folder_with_the_name_of_a_picture_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "b.png")
    assert len(load_images(tmp_path)) == 1


def test_a_share_of_the_crops_changes_its_colours_within_bounds() -> None:
    colours = np.random.default_rng(0).integers(96, 160, (40, 48, 3), dtype=np.uint8)
    plain, _, sigma = CropSampler([colours], 16, 400, (0.1, 0.2), seed=5)(3)
    clean, noisy, level = CropSampler([colours], 16, 400, (0.1, 0.2), seed=5, recoloured=0.25)(3)
    torch.testing.assert_close(level, sigma, rtol=0, atol=0)
    torch.testing.assert_close(clean.mean(1), plain.mean(1))
    distance, before = ((c - c.mean(1, keepdim=True)).sort(1).values for c in (clean, plain))
    factor = distance.flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)
    torch.testing.assert_close(distance, factor[:, None, None, None] * before)
    changed = (clean != plain).flatten(1).any(1)
    assert 70 <= int(changed.sum()) <= 130
    least, most = float(factor.min()), float(factor.max())
    assert SATURATION[0] <= least < 0.6 and 1.7 < most <= SATURATION[1]
    order = (clean - clean.mean(1, keepdim=True))[changed, :, 0, 0].argsort(1)
    assert (order != (plain - plain.mean(1, keepdim=True))[changed, :, 0, 0].argsort(1)).any(1).sum() > 50
    torch.testing.assert_close((noisy - clean).flatten(1).std(1), level, rtol=0.15, atol=0)


def test_changed_colours_stay_intensities() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    clean, _, _ = CropSampler([colours], 16, 50, (0.1, 0.2), seed=5, recoloured=1.0)(0)
    assert float(clean.min()) == 0.0 and float(clean.max()) == 1.0


def test_grey_crops_have_no_colours(pictures: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="Grey"):
        CropSampler(pictures, 16, 5, (0.1, 0.2), seed=7, recoloured=0.5)
