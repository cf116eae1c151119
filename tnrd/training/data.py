"""Training crops and validation images, in memory as 8-bit arrays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image

EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")  # Pillow's modes
BITS_PER_SAMPLE = 258  # tag of TIFF
SATURATION = 0.5, 2.0  # least and largest change of the colours of a crop
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


def image_paths(folder: str | Path) -> list[Path]:
    """The pictures of a folder, sorted by name.

    Raises:
        ValueError: The folder has no pictures.
    """
    paths = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
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
        ValueError: The folder has no pictures, or one of them is damaged or deeper than 8 bits.
    """
    from PIL import Image

    def load(path: Path) -> list[NDArray[np.uint8]]:
        try:
            with Image.open(path) as opened:
                mode, bits = opened.mode, _bits_per_sample(opened, path)
                picture = opened.convert("L" if channels == 1 else "RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"{path} cannot be read: {error}.") from error
        if mode not in EIGHT_BIT or bits > 8:
            raise ValueError(f"{path} is not an 8-bit picture (mode {mode}, {bits} bits); convert it first.")
        images = []
        for scale in scales:
            size = (round(picture.width * scale), round(picture.height * scale))
            scaled = picture if scale == 1.0 else picture.resize(size, Image.Resampling.LANCZOS)
            images.append(np.asarray(scaled, dtype=np.uint8))
        return images

    with ThreadPoolExecutor() as pool:
        return [image for images in pool.map(load, image_paths(folder)) for image in images]


def _bits_per_sample(opened: Image.Image, path: Path) -> int:
    """As the file has them, where Pillow cuts them to 8 silently: in colours of PNG and TIFF."""
    if opened.format == "PNG":
        with open(path, "rb") as file:
            return file.read(25)[24]  # of IHDR, which is first
    if opened.format == "TIFF":
        return int(np.max(opened.getexif().get(BITS_PER_SAMPLE, 1)))  # one for all, or one for each channel
    return 8


def large_enough(images: list[NDArray[np.uint8]], crop: int) -> list[NDArray[np.uint8]]:
    """Those pictures that crops of this side can be taken from.

    Raises:
        ValueError: There are none.
    """
    fitting = [image for image in images if min(image.shape[:2]) >= crop]
    if not fitting:
        raise ValueError(f"No training picture is at least {crop} x {crop} pixels.")
    return fitting


class CropSampler:
    """Random crops with 8-fold flips and white Gaussian noise; batch i depends on seed, i and the kind of device alone.

    Args:
        images: 8-bit pictures, (M, N) or (M, N, 3); those smaller than ``crop`` are left out.
        crop: Side of a crop in pixels.
        batch: Crops per batch.
        sigma: Noise levels lie in this interval, [0, 1] scale; one value for both ends fixes it.
        seed: Of the whole sequence.
        exponent: The levels are low + (high - low) u^p, u uniform on [0, 1].
        device: Where the pictures are kept and the batches made.
        recoloured: Share of the colour crops that change their colours: the channels in any order, their distances from
            their mean multiplied by a factor from :data:`SATURATION`, its logarithm uniform, clipped to [0, 1].

    Raises:
        ValueError: No picture is large enough, or grey ones are to change colours.
    """

    def __init__(
        self,
        images: list[NDArray[np.uint8]],
        crop: int,
        batch: int,
        sigma: tuple[float, float],
        seed: int,
        exponent: float = 1.0,
        device: str | torch.device = "cpu",
        recoloured: float = 0.0,
    ) -> None:
        images = [np.atleast_3d(image) for image in large_enough(images, crop)]
        if recoloured and images[0].shape[2] == 1:
            raise ValueError(f"Grey crops have no colours to change, got recoloured = {recoloured}.")
        self.crop, self.batch, self.sigma, self.seed, self.exponent = crop, batch, sigma, seed, exponent
        self.recoloured = recoloured
        self._samples = torch.from_numpy(np.concatenate([image.reshape(-1, image.shape[2]) for image in images]))
        self._samples = self._samples.to(device)
        sizes = torch.tensor([image.shape[:2] for image in images], device=device)
        self._heights, self._widths = sizes.unbind(1)
        self._starts = sizes.prod(1).cumsum(0) - sizes.prod(1)
        self._random = torch.Generator(device)

    def __call__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Batch ``index``: clean (N, C, crop, crop), noisy of the same shape, and sigma (N,)."""
        state = np.random.SeedSequence([self.seed, index]).generate_state(1, np.uint64)
        options: dict[str, Any] = {"generator": self._random.manual_seed(int(state[0])), "device": self._samples.device}
        clean = self._samples[self._places(options)].permute(0, 3, 1, 2).contiguous().float() / 255
        low, high = self.sigma
        sigma = low + (high - low) * torch.rand(self.batch, **options) ** self.exponent
        noise = torch.randn(clean.shape, **options)
        if self.recoloured:
            clean = self._with_other_colours(clean, options)
        return clean, clean + sigma[:, None, None, None] * noise, sigma

    def _with_other_colours(self, clean: Tensor, options: dict[str, Any]) -> Tensor:
        least, most = SATURATION
        factor = least * (most / least) ** torch.rand(self.batch, 1, 1, 1, **options)
        order = torch.rand(clean.shape[:2], **options).argsort(1)
        chosen = torch.rand(factor.shape, **options) < self.recoloured
        permuted = clean.gather(1, order[:, :, None, None].expand_as(clean))
        grey = clean.mean(1, keepdim=True)
        return torch.where(chosen, (grey + factor * (permuted - grey)).clamp(0, 1), clean)

    def _places(self, options: dict[str, Any]) -> Tensor:
        """Which samples the crops hold, (N, crop, crop), each crop in one of its eight orientations."""
        image = torch.randint(len(self._starts), (self.batch,), **options)
        widths = self._widths[image]
        free = torch.stack([self._heights[image], widths]) - self.crop + 1
        top, left = (torch.rand(2, self.batch, dtype=torch.float64, **options) * free).long()
        first = (self._starts[image] + top * widths + left)[:, None, None]
        line = torch.arange(self.crop, device=self._samples.device)
        transposed, upside_down, mirrored = torch.randint(2, (3, self.batch, 1, 1), **options).bool()
        row = torch.where(transposed, line[None, :], line[:, None])
        column = torch.where(transposed, line[:, None], line[None, :])
        row = torch.where(upside_down, self.crop - 1 - row, row)
        column = torch.where(mirrored, self.crop - 1 - column, column)
        places: Tensor = first + row * widths[:, None, None] + column
        return places
