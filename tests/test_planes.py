"""What a model is given of a picture, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tnrd import colour
from tnrd.inference.levels import NoiseLevel
from tnrd.inference.planes import picture_of, planes_of

RGB = torch.rand(5, 7, 3, generator=torch.Generator().manual_seed(0))
LEVELS = np.float32([0.02, 0.03, 0.05])


@pytest.mark.parametrize("span", [1.0, 0.1, 40.0])
@pytest.mark.parametrize(("picture", "channels", "count"), [(RGB[..., 0], 1, 1), (RGB, 3, 1), (RGB, 1, 3)])
def test_there_and_back(picture: torch.Tensor, channels: int, count: int, span: float) -> None:
    noise = NoiseLevel(LEVELS[:1] if picture.ndim == 2 else LEVELS, span=span)
    planes = planes_of(picture, noise, channels)
    assert [plane.image.shape for plane in planes] == [(channels, 5, 7)] * count
    torch.testing.assert_close(picture_of([plane.image for plane in planes], noise), picture)


def test_picture_and_noise_are_amplified_alike() -> None:
    usual, weak = (NoiseLevel(LEVELS, LEVELS[::-1].copy(), span) for span in (1.0, 0.3))
    assert weak.amplification == 2
    for channels in (1, 3):
        for plain, doubled in zip(planes_of(RGB, usual, channels), planes_of(RGB, weak, channels), strict=True):
            torch.testing.assert_close(doubled.image, 2 * plain.image)
            torch.testing.assert_close(doubled.sigma, 2 * plain.sigma)


def test_a_grey_model_gets_luminance_and_chrominance_with_their_levels() -> None:
    planes = planes_of(RGB, NoiseLevel(LEVELS), 1)
    torch.testing.assert_close(torch.cat([plane.image for plane in planes]), colour.to_planes(RGB.permute(2, 0, 1)))
    torch.testing.assert_close(
        torch.stack([plane.sigma for plane in planes]), colour.plane_levels(torch.from_numpy(LEVELS))
    )
    measured = planes_of(RGB, NoiseLevel(LEVELS, LEVELS), 1)
    torch.testing.assert_close(measured[1].sigma, torch.tensor(0.03))


def test_a_model_of_colour_gets_one_level_of_their_power() -> None:
    (plane,) = planes_of(RGB, NoiseLevel(LEVELS), 3)
    torch.testing.assert_close(plane.sigma, torch.tensor(float(np.sqrt(np.mean(LEVELS**2)))))


@pytest.mark.parametrize(("channels", "count"), [(3, 1), (1, 3)])
def test_a_map_goes_to_every_plane(channels: int, count: int) -> None:
    levels = np.full((5, 7), 0.1, np.float32)
    assert [plane.sigma.shape for plane in planes_of(RGB, NoiseLevel(levels), channels)] == [(1, 5, 7)] * count
