"""The small convolutional network: its formula, what its architecture promises, tiles, weights file, training."""

from __future__ import annotations

import dataclasses
import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data
from torch import Tensor
from torch.nn import functional

from tnrd.baselines.contract import LEAST_SIGMA
from tnrd.baselines.srcnn import (
    FORMAT,
    LIMIT,
    SRCNN,
    TILE,
    TOP_LEVEL,
    SRCNNConfig,
    denoise_tiled,
    read_network,
    srcnn,
)
from tnrd.noise import add_noise
from tnrd.training.recipe import Phase
from tnrd.weights import WeightsError, available_models, find_weights, save_tensors

ROOT = Path(__file__).resolve().parents[1]
SMALL = SRCNNConfig(features=(4, 3), sizes=(3, 1, 5))


def random_network(config: SRCNNConfig = SMALL, seed: int = 0) -> SRCNN:
    torch.manual_seed(seed)
    network = SRCNN(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.3)
    return network.requires_grad_(False)


def picture(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(shape, dtype=np.float32))


def silent(done: int, total: int) -> None:
    pass


def weighted_sums(h: NDArray[Any], kernels: NDArray[Any]) -> NDArray[Any]:
    """(C, M, N) and (F, C, k, k) to (F, M - k + 1, N - k + 1), a sum at a time."""
    count, _, k, _ = kernels.shape
    out = np.zeros((count, h.shape[1] - k + 1, h.shape[2] - k + 1))
    for i, y, x in np.ndindex(out.shape):
        out[i, y, x] = np.sum(h[:, y : y + k, x : x + k] * kernels[i])
    return out


def by_the_formula(network: SRCNN, f: NDArray[Any], sigma: float) -> NDArray[Any]:
    """u of the module's formula for f (C, M, N), in float64."""
    p = {key: value.double().numpy() for key, value in network.state_dict().items()}
    kernels = p["patches.weight"] - p["patches.weight"].mean(axis=(2, 3), keepdims=True)
    bias = p["bias"] + min(sigma / TOP_LEVEL, 1) * p["slope"]

    def z(x: NDArray[Any]) -> NDArray[Any]:
        h = np.maximum(weighted_sums(x, kernels) + bias[:, None, None], 0)
        h = np.maximum(weighted_sums(h, p["mapping.weight"]) + p["mapping.bias"][:, None, None], 0)
        return weighted_sums(h, p["reconstruction.weight"])

    r = network.config.reach
    extended = np.pad(f, ((0, 0), (r, r), (r, r)), mode="symmetric")
    response = z(extended / sigma) - z(np.zeros_like(extended))
    return f - sigma * response / np.sqrt(1 + (response / LIMIT) ** 2)


# -- the network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(6, 5), (1, 4), (1, 1)])
@pytest.mark.parametrize("sigma", [0.02, 0.2, 0.7])
def test_equals_its_formula(channels: int, shape: tuple[int, int], sigma: float) -> None:
    network = random_network(dataclasses.replace(SMALL, channels=channels))
    f = picture(channels, *shape)
    result = network(f[None], torch.tensor([sigma]))[0].numpy()
    np.testing.assert_allclose(result, by_the_formula(network, f.double().numpy(), sigma), rtol=0, atol=2e-6)


def test_the_level_acts_as_a_constant_plane() -> None:
    network, level = random_network(), 0.4
    x, flat = picture(1, 1, 9 + 6, 8 + 6), torch.zeros(1, 1, 15, 14)
    picture_kernels = network.patches.weight - network.patches.weight.mean((2, 3), keepdim=True)
    plane_kernels = picture(4, 1, 3, 3, seed=1)
    plane_kernels *= (network.slope / plane_kernels.sum((1, 2, 3))).view(4, 1, 1, 1)

    def z(x: Tensor) -> Tensor:
        both = torch.cat([x, torch.full_like(x, level)], 1)
        h = functional.conv2d(both, torch.cat([picture_kernels, plane_kernels], 1), network.bias).relu()
        return torch.as_tensor(network.reconstruction(network.mapping(h).relu()))

    sigma = level * TOP_LEVEL
    response = z(x / sigma) - z(flat)
    expected = sigma * response / (1 + (response / LIMIT) ** 2).sqrt()
    torch.testing.assert_close(network.noise(x, torch.tensor([sigma])), expected, rtol=0, atol=1e-6)


def test_pictures_of_a_batch_have_levels_of_their_own() -> None:
    network, f, sigma = random_network(), picture(2, 1, 9, 8), torch.tensor([0.05, 0.2])
    both = network(f, sigma)
    for i in range(2):
        torch.testing.assert_close(both[i : i + 1], network(f[i : i + 1], sigma[i : i + 1]))


def test_untrained_it_returns_the_picture() -> None:
    f = picture(1, 1, 9, 8)
    torch.testing.assert_close(SRCNN(SMALL)(f, torch.tensor([0.1])), f, rtol=0, atol=0)


def test_a_shift_of_each_channel_passes_through() -> None:
    network = random_network(dataclasses.replace(SMALL, channels=3))
    f, shift = picture(1, 3, 9, 8), torch.tensor([0.5, -0.25, 2.0]).view(1, 3, 1, 1)
    sigma = torch.tensor([0.1])
    torch.testing.assert_close(network(f + shift, sigma), network(f, sigma) + shift, rtol=0, atol=5e-6)


@pytest.mark.parametrize("sigma", [1.0, 0.1, 1e-3, 1e-7, 1e-30])
def test_no_pixel_moves_by_more_than_its_limit(sigma: float) -> None:
    f = picture(1, 1, 30, 20).double()
    moved = (random_network().double()(f, torch.tensor([sigma], dtype=torch.float64)) - f).abs().max()
    assert float(moved) <= LIMIT * sigma + 1e-15
    if sigma == 0.1:
        assert float(moved) > 0.1 * sigma


def test_beyond_the_trained_levels_only_the_scale_changes() -> None:
    network, f = random_network(), picture(1, 1, 9, 8)
    once, thrice = (network(c * f, torch.tensor([c * TOP_LEVEL])) for c in (1.0, 3.0))
    torch.testing.assert_close(thrice, 3 * once, rtol=0, atol=1e-5)
    below = network(f / 3, torch.tensor([TOP_LEVEL / 3]))
    assert float((3 * below - once).abs().max()) > 1e-3  # within them the network may tell levels apart


# -- tiles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [1, 5, 7, 16, 100])
@pytest.mark.parametrize("shape", [(17, 23), (1, 30), (12, 1)])
def test_tiles_equal_the_whole(tile: int, shape: tuple[int, int]) -> None:
    network, f = random_network(dataclasses.replace(SMALL, channels=3)), picture(1, 3, *shape)
    whole = network(f, torch.tensor([0.1]))
    torch.testing.assert_close(denoise_tiled(network, f, 0.1, silent, tile), whole, rtol=0, atol=1e-6)


def test_a_long_picture_is_worked_on_in_parts() -> None:
    network = random_network()
    sides: list[int] = []
    whole_noise = network.noise

    def noise(extended: Tensor, sigma: Tensor) -> Tensor:
        sides.append(max(extended.shape[2:]))
        return whole_noise(extended, sigma)

    network.noise = noise  # type: ignore[method-assign]
    calls: list[tuple[int, int]] = []
    denoise_tiled(network, picture(1, 1, 2, 3 * TILE + 1), 0.1, lambda *call: calls.append(call))
    assert max(sides) == TILE + 2 * network.config.reach
    assert calls == [(i, 4) for i in range(1, 5)]


# -- the trained networks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sigma", "gain"), [(15, 5.0), (25, 6.5), (50, 9.0)])
@pytest.mark.parametrize("colour", [False, True])
def test_denoises_a_photograph(sigma: int, gain: float, colour: bool) -> None:
    clean = (data.astronaut()[:256, :256] if colour else data.camera()[100:356, 100:356]) / 255
    noisy = add_noise(clean, sigma / 255, seed=sigma)
    result = srcnn(noisy, sigma / 255, channel_axis=-1 if colour else None)
    error = np.mean((result - clean) ** 2)
    assert error < 10 ** (-gain / 10) * np.mean((noisy - clean) ** 2)


@pytest.mark.parametrize("colour", [(0.0, 0.0, 0.0), (0.9, 0.1, 0.4), (-3.0, 7.0, 1.0), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("sigma", [1e-4, 0.05, 0.3, 1.0])
def test_one_colour_stays_as_it_is(colour: tuple[float, float, float], sigma: float) -> None:
    image = np.tile(np.array(colour, np.float32), (11, 9, 1))
    np.testing.assert_allclose(srcnn(image, sigma, channel_axis=-1), image, rtol=0, atol=1e-5)
    grey = np.full((11, 9), colour[0], np.float32)
    np.testing.assert_allclose(srcnn(grey, sigma), grey, rtol=0, atol=1e-5)


def test_weak_noise_leaves_the_picture() -> None:
    image = picture(20, 30).numpy()
    for sigma in (1e-2, 1e-4, 1e-12):  # weaker noise than LEAST_SIGMA is taken as that
        assert np.abs(srcnn(image, sigma) - image).max() <= LIMIT * max(sigma, LEAST_SIGMA) + 1e-7


@pytest.mark.parametrize("name", ["srcnn", "srcnn-color"])
def test_the_shipped_weights_and_their_card(name: str) -> None:
    file = find_weights(name)
    network = read_network(file)
    assert network.config == SRCNNConfig(channels=1 if name == "srcnn" else 3)
    assert name not in available_models()  # it is no model of this project
    card = file.path.with_suffix(".md").read_text(encoding="utf-8")
    assert f"{sum(p.numel() for p in network.parameters()):,} parameters" in card and file.sha256 in card


# -- its weights file ------------------------------------------------------------------------------------------------


def saved(folder: Path, network: SRCNN, **changes: str) -> Path:
    path = folder / "net.safetensors"
    config = json.dumps(dataclasses.asdict(network.config))
    save_tensors(path, network.state_dict(), {"format": FORMAT, "config": config, **changes})
    return path


def test_weights_survive_the_file_and_draw_nothing(tmp_path: Path) -> None:
    network = random_network(dataclasses.replace(SMALL, channels=3))
    before = torch.get_rng_state()
    again = read_network(find_weights(saved(tmp_path, network)))
    torch.testing.assert_close(torch.get_rng_state(), before, rtol=0, atol=0)
    f, sigma = picture(1, 3, 9, 8), torch.tensor([0.1])
    torch.testing.assert_close(again(f, sigma), network(f, sigma), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": "tnrd-1"}, "format 'srcnn-1'"),
        ({"config": "{"}, "do not fit their own configuration"),
        ({"config": '{"channels": 3}'}, "do not fit their own configuration: .* size mismatch"),
        ({"config": '{"channels": 2}'}, r"channels must be 1 or 3, got 2\."),
        ({"config": '{"features": [0, 4]}'}, r"features must be two numbers in \[1, 1024\], got \(0, 4\)\."),
        ({"config": '{"sizes": [9, 2, 5]}'}, r"sizes must be three odd numbers in \[1, 31\], got \(9, 2, 5\)\."),
        ({"config": '{"depth": 4}'}, "depth"),
        ({"config": "[3]"}, r"must be a JSON object, got \[3\]\."),
    ],
)
def test_a_file_that_does_not_fit_gets_a_sentence(tmp_path: Path, changes: dict[str, str], sentence: str) -> None:
    path = saved(tmp_path, random_network(), **changes)
    with pytest.raises(WeightsError, match=sentence):
        read_network(find_weights(path))


# -- training --------------------------------------------------------------------------------------------------------

PHASE = Phase(iterations=8, batch=2, crop=16, learning_rate=1e-2, warmup=2)


def training_pictures() -> list[NDArray[np.uint8]]:
    return [np.asarray(data.camera()[y : y + 40, 200:240]) for y in (100, 200, 300)]


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "train_srcnn.py"))
    train, surroundings = script["train"], script["train"].__globals__
    surroundings["CHECKPOINT_EVERY"] = 3
    straight = train(SMALL, PHASE, training_pictures(), tmp_path / "straight")
    update = surroundings["update"]

    def killed(*arguments: Any) -> float:
        if arguments[-1] == 5:
            raise KeyboardInterrupt
        return float(update(*arguments))

    surroundings["update"] = killed
    with pytest.raises(KeyboardInterrupt):
        train(SMALL, PHASE, training_pictures(), tmp_path / "killed")
    surroundings["update"] = update
    resumed = train(SMALL, PHASE, training_pictures(), tmp_path / "killed")
    for key, value in straight.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[key], value, rtol=0, atol=0)
    assert float(straight.reconstruction.weight.abs().max()) > 0
    with pytest.raises(ValueError, match="belongs to another run"):
        train(SMALL, dataclasses.replace(PHASE, batch=3), training_pictures(), tmp_path / "killed")
