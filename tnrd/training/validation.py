"""The protocol by which every PSNR of this project is measured.

White Gaussian noise, float and not clipped, from ``numpy.random.default_rng(1000 * sigma + index)`` with sigma on the
8-bit scale and index the position of the picture by sorted file name; the result is clipped and rounded to 8 bits
before it is scored at peak 255.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tnrd.metrics import psnr, round_to_8bit, ssim
from tnrd.model import TNRD
from tnrd.noise import add_noise

Denoiser = Callable[[NDArray[np.float32], float], NDArray[np.floating]]


@dataclass(frozen=True)
class Score:
    """How one picture came out.

    Attributes:
        psnr: dB, of the 8-bit result.
        ssim: Of the 8-bit result; NaN for pictures under 11 pixels a side.
        seconds: Wall-clock time of the call.
    """

    psnr: float
    ssim: float
    seconds: float


def protocol_seed(sigma: float, index: int, repetition: int = 0) -> int:
    """Seed of the noise for a level on the 8-bit scale and a picture; ``repetition`` > 0 gives independent draws."""
    return round(1000 * sigma) + index + 1_000_000 * repetition


def score(denoise: Denoiser, clean: NDArray[np.floating], sigma: float, index: int, repetition: int = 0) -> Score:
    """Add noise by the protocol, denoise, score.

    Args:
        denoise: ``(noisy float32 image, sigma on the [0, 1] scale) -> image``.
        clean: (M, N) or (M, N, 3), intensities in [0, 1].
        sigma: Noise level on the 8-bit scale.
        index: Position of the picture in its folder.
        repetition: Another draw of the noise, for error bars.

    Returns:
        The scores.
    """
    noisy = add_noise(clean, sigma / 255, protocol_seed(sigma, index, repetition))
    start = time.perf_counter()
    result = denoise(noisy, sigma / 255)
    seconds = time.perf_counter() - start
    rounded = round_to_8bit(result)
    similarity = ssim(clean, rounded) if min(clean.shape[:2]) >= 11 else float("nan")
    return Score(psnr(clean, rounded), similarity, seconds)


def array_denoiser(model: TNRD, strength: float = 1.0) -> Denoiser:
    """A model as a function of arrays, whole pictures at once."""

    @torch.no_grad()
    def denoise(noisy: NDArray[np.float32], sigma: float) -> NDArray[np.floating]:
        device = next(model.parameters()).device
        x = torch.from_numpy(np.moveaxis(np.atleast_3d(noisy), -1, 0)[None].copy()).to(device)
        result = model(x, sigma, strength)[0].cpu().numpy()
        return np.asarray(np.moveaxis(result, 0, -1).reshape(noisy.shape))

    return denoise
