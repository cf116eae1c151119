"""Make the noisy pictures of ``examples/`` from public-domain pictures that scikit-image carries.

White Gaussian noise of standard deviation 25 on the 8-bit scale is added from a fixed seed; the sum is clipped and
rounded to 8 bits, as a camera's file would be. Running the script again writes the same pixels:

    python scripts/make_example.py            # rewrites examples/
    python scripts/make_example.py elsewhere  # writes there instead
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage import data

SIGMA = 25.0
SEED = 25
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def clean_pictures() -> dict[str, NDArray[np.uint8]]:
    """The clean 8-bit pictures by name: "camera" (512, 512) and "astronaut" (384, 384, 3)."""
    return {
        "camera": data.camera(),
        # Face, flag and the shuttle model; the whole picture with noise would be a file of 700 kB.
        "astronaut": data.astronaut()[:384, 64:448],
    }


def add_noise(clean: NDArray[np.uint8], sigma: float = SIGMA, seed: int = SEED) -> NDArray[np.uint8]:
    """f = round(clip(u + sigma n, 0, 255)) with n standard normal, independent in every pixel and channel.

    Args:
        clean: Any shape, 8-bit intensities.
        sigma: Standard deviation of the noise on the 8-bit scale.
        seed: Seed of ``numpy.random.default_rng``; one seed gives one picture.

    Returns:
        The noisy picture, the same shape, 8-bit intensities.
    """
    noise = np.random.default_rng(seed).standard_normal(clean.shape)
    return np.rint(np.clip(clean + sigma * noise, 0.0, 255.0)).astype(np.uint8)


def noisy_pictures() -> dict[str, NDArray[np.uint8]]:
    """The pictures of ``examples/`` by file name."""
    return {f"{name}_sigma{SIGMA:.0f}.png": add_noise(clean) for name, clean in clean_pictures().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the noisy pictures of examples/.")
    parser.add_argument("folder", nargs="?", type=Path, default=EXAMPLES, help="where to write (default: examples/)")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in noisy_pictures().items():
        Image.fromarray(picture).save(folder / name, optimize=True)
        print(f"{folder / name}: {' x '.join(map(str, picture.shape))}, {(folder / name).stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
