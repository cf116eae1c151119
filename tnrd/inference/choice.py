"""Which weights a picture is restored with, where a name means others for colour than for grey."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tnrd.inference.levels import NoiseLevel
from tnrd.photon_noise import PhotonNoise
from tnrd.pixels import channels_equal
from tnrd.weights import WeightsFile, find_weights

# Below, grey models in luminance and chrominance are as good as those of colour, or better (docs/results.md).
_LEAST = 10 / 255


def weights_for(model: str | Path, pixels: NDArray[Any], noise: NoiseLevel | PhotonNoise) -> WeightsFile:
    """The weights that ``model`` means for a picture, (M, N) or (M, N, 3), and its noise.

    Raises:
        WeightsError: There are no such weights.
    """
    return find_weights(model, colour=suits_colour(pixels, noise))


def suits_colour(pixels: NDArray[Any], noise: NoiseLevel | PhotonNoise) -> bool:
    """Whether a model of colour serves the picture: it has colours, and noise as such models are trained for.

    That is white noise of one level in all channels, independent between them, and not weak. The noise of demosaiced
    or scanned pictures is another in luminance than in chrominance; a grey model takes each at its own level.
    """
    if pixels.ndim == 2:
        return False
    if isinstance(noise, NoiseLevel) and not (noise.is_alike and noise.amplification * noise.levels.max() >= _LEAST):
        return False
    return not channels_equal(pixels)
