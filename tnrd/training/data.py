"""Training crops and validation images, in memory as 8-bit arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")  # Pillow's modes
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


def image_paths(folder: str | Path) -> list[Path]:
    """The pictures of a folder, sorted by name.

    Raises:
        ValueError: The folder has no pictures.
    """
    paths = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"No pictures ({', '.join(SUFFIXES)}) in {folder}.")
    return paths


def load_images(folder: str | Path, channels: int = 1, scales: tuple[float, ...] = (1.0,)) -> list[NDArray[np.uint8]]:
    """All pictures of a folder, sorted by name.

    Args:
        folder: Where the pictures lie.
        channels: 1 converts to ITU-R 601 luma, 3 to RGB.
        scales: Each picture is also kept at these sizes (Lanczos), each in (0, 1].

    Returns:
        Arrays (M, N) or (M, N, 3).

    Raises:
        ValueError: The folder has no pictures, or one of them is deeper than 8 bits.
    """
    from PIL import Image

    images = []
    for path in image_paths(folder):
        with Image.open(path) as opened:
            if opened.mode not in EIGHT_BIT:
                raise ValueError(f"{path} is not an 8-bit picture (mode {opened.mode}); convert it first.")
            picture = opened.convert("L" if channels == 1 else "RGB")
        for scale in scales:
            size = (round(picture.width * scale), round(picture.height * scale))
            scaled = picture if scale == 1.0 else picture.resize(size, Image.Resampling.LANCZOS)
            images.append(np.asarray(scaled, dtype=np.uint8))
    return images


class CropSampler:
    """Random crops with 8-fold flips and white Gaussian noise; batch i depends on the seed and i alone.

    Args:
        images: 8-bit pictures, (M, N) or (M, N, 3), none smaller than ``crop``.
        crop: Side of a crop in pixels.
        batch: Crops per batch.
        sigma: Noise levels lie in this interval, [0, 1] scale; one value for both ends fixes it.
        seed: Of the whole sequence.
        exponent: The levels are low + (high - low) u^p, u uniform on [0, 1].

    Raises:
        ValueError: No picture is large enough.
    """

    def __init__(
        self,
        images: list[NDArray[np.uint8]],
        crop: int,
        batch: int,
        sigma: tuple[float, float],
        seed: int,
        exponent: float = 1.0,
    ) -> None:
        self.images = [image for image in images if min(image.shape[:2]) >= crop]
        if not self.images:
            raise ValueError(f"No training picture is at least {crop} x {crop} pixels.")
        self.crop, self.batch, self.sigma, self.seed, self.exponent = crop, batch, sigma, seed, exponent

    def __call__(self, index: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Batch ``index``: clean (N, C, crop, crop), noisy of the same shape, and sigma (N,)."""
        rng = np.random.default_rng([self.seed, index])
        crops = np.stack([self._crop(rng) for _ in range(self.batch)])
        clean = torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).float() / 255
        low, high = self.sigma
        levels = low + (high - low) * rng.random(self.batch) ** self.exponent
        sigma = torch.from_numpy(levels.astype(np.float32)).to(device)
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32)).to(device)
        return clean, clean + sigma[:, None, None, None] * noise, sigma

    def _crop(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        image = self.images[rng.integers(len(self.images))]
        y, x = (int(rng.integers(side - self.crop + 1)) for side in image.shape[:2])
        crop = image[y : y + self.crop, x : x + self.crop]
        turned = np.rot90(crop[..., None] if crop.ndim == 2 else crop, int(rng.integers(4)))
        return np.asarray(turned[:, ::-1] if rng.integers(2) else turned)
