"""Which weights a family gives to a picture."""

from __future__ import annotations

import numpy as np
import pytest

import tnrd
from tnrd.inference.choice import EVEN, FAMILIES, candidates, choose
from tnrd.inference.levels import NoiseLevel
from tnrd.weights import available_models

GREY = np.zeros((6, 8), np.float32)
COLOUR = np.random.default_rng(0).random((6, 8, 3), dtype=np.float32)


def noise(*levels: float, planes: tuple[float, ...] | None = None) -> NoiseLevel:
    measured = None if planes is None else np.array(planes, np.float32)
    return NoiseLevel(np.array(levels, np.float32), measured)


def test_every_family_is_of_shipped_weights() -> None:
    for grey, colour in FAMILIES.values():
        assert {grey, colour} <= set(available_models())
        assert tnrd.load_model(grey).config.channels == 1


def test_names_and_paths_stand_for_themselves() -> None:
    assert candidates("gray") == ("gray",)
    assert choose("some.safetensors", COLOUR, noise(0.1, 0.1, 0.1)) == "some.safetensors"


@pytest.mark.parametrize("family", list(FAMILIES))
def test_grey_pictures_get_grey_weights(family: str) -> None:
    grey, _ = FAMILIES[family]
    assert choose(family, GREY, noise(0.1)) == grey
    assert choose(family, np.repeat(GREY[..., None], 3, axis=2), noise(0.1, 0.1, 0.1)) == grey


def test_colour_pictures_get_colour_weights_where_their_noise_is_even() -> None:
    grey, colour = FAMILIES["default"]
    assert choose("default", COLOUR, noise(0.1, 0.1, 0.1)) == colour
    assert choose("default", COLOUR, noise(0.1, 0.1, 0.1, planes=(0.1, 0.09, 0.11))) == colour
    assert choose("default", COLOUR, NoiseLevel(np.full((6, 8), 0.1, np.float32))) == colour
    assert choose("default", COLOUR, noise(0.1, 0.1, 0.1 * EVEN * 1.01)) == grey
    assert choose("default", COLOUR, noise(0.1, 0.1, 0.1, planes=(0.15, 0.05, 0.05))) == grey
    assert choose("default", COLOUR, noise(0.1, 0.1, 0.0)) == grey


def test_colour_weights_beat_grey_ones_on_even_noise_and_are_the_default() -> None:
    y, x = np.mgrid[0:96, 0:96]
    shapes = ((x - 48) ** 2 + (y - 40) ** 2 < 900).astype(float) + (x > y)
    clean = np.stack([0.2 + 0.3 * shapes, 0.6 - 0.2 * shapes, 0.3 + 0.1 * shapes], axis=-1)
    noisy = clean + 0.1 * np.random.default_rng(1).standard_normal(clean.shape)
    default = tnrd.denoise(noisy, 0.1, channel_axis=-1)
    np.testing.assert_array_equal(default, tnrd.denoise(noisy, 0.1, model="color", channel_axis=-1))
    grey = tnrd.denoise(noisy, 0.1, model="gray", channel_axis=-1)
    assert np.mean((default - clean) ** 2) < np.mean((grey - clean) ** 2)
