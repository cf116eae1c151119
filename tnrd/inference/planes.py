"""What a model is given of a picture, and the way back: one plane or three, amplified where contrast is low.

A grey model restores a colour picture as luminance and chrominance (:mod:`tnrd.colour`), plane by plane; a model of
colour takes it whole. Picture and noise are multiplied by :attr:`tnrd.inference.levels.NoiseLevel.amplification`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tnrd import colour
from tnrd.inference.levels import NoiseLevel


class Plane(NamedTuple):
    """What a model is called with.

    Attributes:
        image: (C, M, N), with the channels of the model.
        sigma: Standard deviation of its noise, a single value or a map (1, M, N), in the memory of the CPU.
    """

    image: Tensor
    sigma: Tensor


def planes_of(picture: Tensor, noise: NoiseLevel, channels: int) -> list[Plane]:
    """What a model with that many channels restores of a picture.

    Args:
        picture: (M, N), or (M, N, 3), on the [0, 1] scale.
        noise: Its level.
        channels: 1, or 3 for a picture with three.

    Returns:
        One plane; or luminance and two chrominances, of colour for a grey model.
    """
    factor, level = noise.amplification, torch.from_numpy(noise.levels).to(picture.dtype)
    if factor != 1:
        picture, level = factor * picture, factor * level
    if picture.ndim == 2:
        return [Plane(picture[None], level[None] if level.ndim == 2 else level[0])]
    rgb = picture.permute(2, 0, 1)
    if channels == colour.CHANNELS:
        return [Plane(rgb, level[None] if level.ndim == 2 else level.square().mean().sqrt())]
    measured = None if noise.planes is None else factor * torch.from_numpy(noise.planes).to(picture.dtype)
    levels = colour.plane_levels(level, measured)
    return [Plane(plane[None], of_plane) for plane, of_plane in zip(colour.to_planes(rgb), levels, strict=True)]


def picture_of(planes: Sequence[Tensor], noise: NoiseLevel) -> Tensor:
    """The picture again, (M, N) or (M, N, 3), from its planes, (C, M, N) each, in the order of :func:`planes_of`."""
    if len(planes) == colour.CHANNELS:
        rgb = colour.from_planes(torch.cat(list(planes)))
    else:
        (rgb,) = planes
    picture = rgb[0] if len(rgb) == 1 else rgb.permute(1, 2, 0)
    return picture if noise.amplification == 1 else picture / noise.amplification
