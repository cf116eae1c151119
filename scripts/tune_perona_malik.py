"""Tune the constants of Perona-Malik diffusion on training pictures.

    python scripts/tune_perona_malik.py --data IMAGES --every 20 --sigma 15 25 50

For each form and conductance it runs the diffusion over a grid of contrasts, keeps the PSNR at every time, and picks
the rule

    kappa = contrast * (noise in the differences),    T = time * (sigma/25)^growth

with the best PSNR in the mean over pictures and noise levels; in the coupled form the noise is that of |grad u| over
all channels. The column "free" is the PSNR with contrast and time chosen for each level anew: what a richer rule could
gain. The result stands in tnrd/baselines/perona_malik.py.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tnrd.baselines.perona_malik import CONDUCTANCES, STEP, EdgeStopping, Rule, diffuse, noise_in_differences
from tnrd.training.data import image_paths

CONTRASTS = tuple(0.25 * 1.25**i for i in range(-6, 13))
TIMES = 0.25 * 1.05 ** np.arange(90)
GROWTHS = np.arange(0.0, 4.01, 0.125)
LONGEST = 30.0
# A curve is left once it has fallen this far, in dB, below its best: it does not rise again.
FALL = 0.05


class Tuned(NamedTuple):
    """A rule, its PSNR per noise level, and the best PSNR per noise level without a rule."""

    rule: Rule
    psnr: NDArray[np.float64]
    free: NDArray[np.float64]


def main() -> None:
    """Parse the arguments, tune every variant, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean training pictures")
    parser.add_argument("--every", type=int, default=20, help="take every n-th picture")
    parser.add_argument("--crop", type=int, default=128, help="side of the square taken from the middle")
    parser.add_argument("--sigma", type=float, nargs="+", default=[15.0, 25.0, 50.0], help="noise levels, 8-bit scale")
    parser.add_argument("--presmooth", type=float, nargs="+", default=[0.0, 0.6], help="Gaussians, in pixels")
    parser.add_argument("--form", nargs="+", default=["coupled", "decoupled"], choices=["coupled", "decoupled"])
    parser.add_argument("--conductance", nargs="+", default=list(CONDUCTANCES), choices=list(CONDUCTANCES))
    parser.add_argument("--color", action="store_true", help="tune on colour pictures")
    arguments = parser.parse_args()

    mode = "RGB" if arguments.color else "L"
    clean = load_crops(image_paths(arguments.data)[:: arguments.every], arguments.crop, mode)
    noisy = [add_noise(clean, sigma) for sigma in arguments.sigma]
    levels = " / ".join(f"{sigma:g}" for sigma in arguments.sigma)
    print(f"{len(clean)} pictures of {arguments.crop} x {arguments.crop}; PSNR in dB at sigma {levels}")
    print(f"noisy: {in_db([psnr(clean, f) for f in noisy])}\n")
    print("| form | conductance | presmooth | contrast | time | growth | rule | free |")
    print("|---" * 8 + "|", flush=True)
    variants = itertools.product(arguments.presmooth, arguments.form, arguments.conductance)
    for presmooth, form, conductance in variants:
        rule, by_rule, free = tune(clean, noisy, arguments.sigma, form == "coupled", conductance, presmooth)
        numbers = f"{rule.contrast:.2f} | {rule.time:.2f} | {rule.growth:.2f} | {in_db(by_rule)} | {in_db(free)}"
        print(f"| {form} | {conductance} | {presmooth:g} | {numbers} |", flush=True)


def load_crops(paths: list[Path], side: int, mode: str = "L") -> Tensor:
    """The middles of pictures in grey or, with the mode "RGB", in colour, (N, C, side, side), float32 in [0, 1]."""
    crops = []
    for path in paths:
        with Image.open(path) as opened:
            picture = np.atleast_3d(np.asarray(opened.convert(mode)))
        if min(picture.shape[:2]) < side:
            raise SystemExit(f"{path} is smaller than {side} x {side}: {picture.shape[:2]}.")
        y, x = ((length - side) // 2 for length in picture.shape[:2])
        crops.append(picture[y : y + side, x : x + side])
    return torch.from_numpy(np.stack(crops)).movedim(-1, 1).float() / 255


def add_noise(clean: Tensor, sigma: float) -> Tensor:
    """White Gaussian noise, sigma on the 8-bit scale; picture i has the seed 1000 sigma + i."""
    seeds = (round(1000 * sigma) + index for index in range(len(clean)))
    noise = np.stack([np.random.default_rng(seed).standard_normal(clean.shape[1:]) for seed in seeds])
    return clean + torch.from_numpy(sigma / 255 * noise).float()


def psnr(clean: Tensor, u: Tensor) -> float:
    """Of 8-bit pictures, the mean over pictures, in dB."""
    rounded = (255 * u.clamp(0, 1)).round() / 255
    return float((-10 * torch.log10((rounded - clean).square().flatten(1).mean(1))).mean())


def curve(clean: Tensor, noisy: Tensor, edges: EdgeStopping) -> NDArray[np.float64]:
    """PSNR at the times 0, STEP, 2 STEP, ... until it falls."""
    u, values = noisy, [psnr(clean, noisy)]
    while values[-1] > max(values) - FALL and len(values) * STEP < LONGEST:
        u = diffuse(u, edges, STEP)
        values.append(psnr(clean, u))
    return np.array(values)


def tune(
    clean: Tensor, noisy: list[Tensor], sigmas: list[float], coupled: bool, conductance: str, presmooth: float
) -> Tuned:
    """The best rule for one form, one conductance and one Gaussian."""
    times = TIMES[:, None, None] * (np.array(sigmas) / 25) ** GROWTHS[None, :, None]
    found = Tuned(Rule(0, 0, 0), np.full(len(sigmas), -np.inf), np.full(len(sigmas), -np.inf))
    for contrast in CONTRASTS:
        scores = np.empty(times.shape)
        free = np.empty(len(sigmas))
        for k, (f, sigma) in enumerate(zip(noisy, sigmas, strict=True)):
            gathered = clean.shape[1] ** 0.5 if coupled else 1.0
            kappa = contrast * noise_in_differences(presmooth) * gathered * sigma / 255
            values = curve(clean, f, EdgeStopping(kappa, coupled, conductance, presmooth))
            # Past the end of a curve: as bad as its last value, which is worse than its best.
            scores[..., k] = np.interp(times[..., k], STEP * np.arange(len(values)), values)
            free[k] = values.max()
        i, j = np.unravel_index(scores.mean(-1).argmax(), scores.shape[:2])
        if scores[i, j].mean() > found.psnr.mean():
            found = found._replace(rule=Rule(contrast, TIMES[i], GROWTHS[j]), psnr=scores[i, j])
        found = found._replace(free=np.maximum(found.free, free))
    return found


def in_db(values: list[float] | NDArray[np.float64]) -> str:
    """The values with two decimals."""
    return " / ".join(f"{value:.2f}" for value in values)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
