"""Tune the constants of the fast classic denoisers on training pictures.

    python scripts/tune_baselines.py --data IMAGES --every 20 --sigma 5 15 25 50 75

For each method, noise level and choice of window (or the like) the parameters with the best PSNR are sought by
Nelder-Mead on their logarithms. The rule takes the best choice at each level and, for each parameter, a power law

    parameter = at_25 (sigma/25)^growth

fitted to the optima in the mean of squares and, where it costs more than 0.02 dB, for the best mean PSNR. "free" is the
PSNR without a law, and "optima" are its parameters: where the law loses more than 0.05 dB, they are the points of
tnrd.baselines.rules.PowerLaws. Grey pictures are scored as 8-bit pictures, the two chrominances of colour ones
(tnrd/baselines/opponents.py) as they are. The last table has the PSNR in grey and in colour of the methods with the
constants that now stand in tnrd/baselines. Pictures and noise are those of scripts/tune_perona_malik.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from tune_perona_malik import add_noise, in_db, load_crops, psnr

from tnrd.baselines import (
    BASELINES,
    bilateral,
    guided,
    heat,
    median,
    non_local_means,
    non_local_means_opencv,
    opponents,
    total_variation,
    wavelet,
    wiener,
)
from tnrd.training.data import image_paths

Planes = NDArray[np.float32]
Values = tuple[float, ...]


class Task(NamedTuple):
    """A method on grey pictures, or on chrominances.

    Attributes:
        run: (planes, sigma, choice, parameters) -> the denoised planes: all of a grey picture, the last two of three
            in colour.
        choices: Of what is not a real number.
        laws: (at_25, growth) of each parameter, where the search begins.
    """

    run: Callable[[Planes, float, Any, Values], Planes]
    choices: tuple[Any, ...]
    laws: tuple[tuple[float, float], ...]


def silent(done: int, total: int) -> None:
    """Progress that nobody follows."""


def plane_by_plane(method: Callable[[Planes, float, Any, Values], Planes]) -> Callable[..., Planes]:
    """``run`` of a :class:`Task` from a method of single planes."""

    def run(planes: Planes, sigma: float, choice: Any, values: Values) -> Planes:
        return np.stack([method(plane, sigma, choice, values) for plane in planes[-2:]])

    return run


def guided_chrominance(planes: Planes, sigma: float, radius: Any, values: Values) -> Planes:
    """The guide is the mean of the channels, denoised with the constants that now stand in the file."""
    guide = guided.guided(planes[0], sigma * opponents.LUMINANCE_NOISE)
    return np.stack([guided.fit_to_guide(guide, plane, radius, values[0]) for plane in planes[1:]])


HEAT = plane_by_plane(lambda u, _, __, v: heat.diffuse_linearly(u, v[0]))
VARIATION = plane_by_plane(lambda u, _, __, v: total_variation.least_variation(u, v[0]))
ALIKE = plane_by_plane(lambda u, s, patch, v: non_local_means.mean_of_alike(u, s, patch, v[0], silent))
OPENCV = plane_by_plane(lambda u, s, template, v: non_local_means_opencv.mean_of_alike(u, s, template, v[0]))
OPENCV_CHROMINANCE = plane_by_plane(
    lambda u, s, template, v: non_local_means_opencv.mean_of_alike(
        u, s, template, v[0], non_local_means_opencv.CHROMINANCE_RANGE
    )
)
SHRINKAGE = plane_by_plane(lambda u, s, pair, _: wavelet.shrink_details(u, pair[1] * s, silent, pair[0]))
BILATERAL = plane_by_plane(lambda u, _, __, v: bilateral.blur_among_alike(u, v[0], v[1]))
MEDIAN = plane_by_plane(lambda u, _, window, __: median.take_medians(u, median.Window(*window)))
GUIDED = plane_by_plane(lambda u, _, radius, v: guided.fit_to_guide(u, u, radius, v[0]))
WIENER = plane_by_plane(lambda u, s, radius, v: wiener.shrink_to_mean(u, s, radius, v[0]))

ANY = (None,)
WINDOWS = tuple((side, passes) for side in (1, 3, 5) for passes in (1, 2, 3, 5, 8))
BASES = tuple((basis, strength) for basis in ("haar", "db2", "sym4") for strength in (0.95, 1.0, 1.05))
# By the names in BASELINES: in grey, and on the chrominances.
TASKS = {
    "heat": (Task(HEAT, ANY, ((0.4, 1.3),)), Task(HEAT, ANY, ((3.0, 1.0),))),
    "tv": (Task(VARIATION, ANY, ((0.07, 1.25),)), Task(VARIATION, ANY, ((0.15, 1.1),))),
    "nlm": (Task(ALIKE, (3, 5, 7), ((0.06, 1.0),)), Task(ALIKE, (7, 9), ((0.08, 0.9),))),
    "nlm_opencv": (
        Task(OPENCV, (3, 5, 7), ((0.1, 1.0),)),
        Task(OPENCV_CHROMINANCE, (5, 7, 9), ((0.13, 1.15),)),
    ),
    "wavelet": (Task(SHRINKAGE, BASES, ()), Task(SHRINKAGE, BASES, ())),
    "bilateral": (
        Task(BILATERAL, ANY, ((1.3, 0.4), (0.25, 1.3))),
        Task(BILATERAL, ANY, ((3.0, 0.3), (0.3, 1.1))),
    ),
    "median": (Task(MEDIAN, WINDOWS, ()), Task(MEDIAN, WINDOWS, ())),
    "guided": (
        Task(GUIDED, (1, 2, 3), ((0.04, 2.0),)),
        Task(guided_chrominance, (2, 3, 4, 6), ((0.003, 2.0),)),
    ),
    "wiener": (Task(WIENER, (1, 2, 3, 4), ((1.3, 0.0),)), Task(WIENER, (2, 3, 4, 6), ((1.2, 0.0),))),
}

LOSS = 0.02
SEARCH = {"xatol": 0.02, "fatol": 0.002, "maxfev": 40}


class Level(NamedTuple):
    """A noise level's pictures as planes; ``clean`` and ``noisy`` hold (1, M, N) in grey, (3, M, N) in colour."""

    sigma: float
    clean: list[Planes]
    noisy: list[Planes]


class Optimum(NamedTuple):
    """The best choice and parameters of a level, and their PSNR."""

    psnr: float
    choice: Any
    values: tuple[float, ...]


def main() -> None:
    """Parse the arguments, tune every method, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean training pictures")
    parser.add_argument("--every", type=int, default=20, help="take every n-th picture")
    parser.add_argument("--crop", type=int, default=128, help="side of the square taken from the middle")
    parser.add_argument("--sigma", type=float, nargs="+", default=[5.0, 15.0, 25.0, 50.0, 75.0], help="8-bit scale")
    parser.add_argument("--method", nargs="*", default=list(TASKS), choices=list(TASKS), help="all by default")
    parser.add_argument("--only-score", action="store_true", help="only the last table")
    arguments = parser.parse_args()

    paths = image_paths(arguments.data)[:: arguments.every]
    clean = {mode: load_crops(paths, arguments.crop, mode) for mode in ("L", "RGB")}
    noisy = {mode: [add_noise(crops, sigma) for sigma in arguments.sigma] for mode, crops in clean.items()}
    levels = " / ".join(f"{sigma:g}" for sigma in arguments.sigma)
    print(f"{len(paths)} pictures of {arguments.crop} x {arguments.crop}; PSNR in dB at sigma {levels}\n")
    if not arguments.only_score:
        print(
            "| method | choice by level | law: at 25, growth | rule | free | optima |\n" + "|---" * 6 + "|", flush=True
        )
        for name in arguments.method:
            for mode, task in zip(("L", "RGB"), TASKS[name], strict=True):
                of_mode = [
                    Level(sigma / 255, as_planes(clean[mode]), as_planes(f))
                    for sigma, f in zip(arguments.sigma, noisy[mode], strict=True)
                ]
                print(row(f"{name}, {'grey' if mode == 'L' else 'chrominance'}", task, of_mode), flush=True)
        print()
    print("| method | grey | colour |\n" + "|---" * 3 + "|", flush=True)
    for name in arguments.method:
        cells = [in_db(score(name, clean[mode], noisy[mode], arguments.sigma)) for mode in clean]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def as_planes(crops: torch.Tensor) -> list[Planes]:
    """Each picture as its grey plane, or as mean and chrominances."""
    arrays = crops.numpy()
    return list(arrays) if arrays.shape[1] == 1 else [opponents.to_planes(np.moveaxis(u, 0, -1)) for u in arrays]


def score(name: str, clean: torch.Tensor, noisy: list[torch.Tensor], sigmas: list[float]) -> list[float]:
    """PSNR of a method as it stands, per level on the 8-bit scale."""
    denoise = BASELINES[name].denoise
    axis = None if clean.shape[1] == 1 else 0
    results = [
        np.stack([denoise(u[0] if axis is None else u, sigma / 255, channel_axis=axis) for u in f.numpy()])
        for f, sigma in zip(noisy, sigmas, strict=True)
    ]
    return [psnr(clean, torch.from_numpy(u.reshape(clean.shape))) for u in results]


def plane_psnr(task: Task, level: Level, choice: Any, values: tuple[float, ...]) -> float:
    """Mean over pictures; of 8-bit pictures in grey, of the bare chrominances in colour."""
    scores = []
    for u, f in zip(level.clean, level.noisy, strict=True):
        result = torch.from_numpy(task.run(f, level.sigma, choice, values))[None]
        if len(u) == 1:
            scores.append(psnr(torch.from_numpy(u)[None], result))
        else:
            scores.append(float(-10 * torch.log10((result - torch.from_numpy(u[1:])[None]).square().mean())))
    return float(np.mean(scores))


def best(task: Task, level: Level) -> Optimum:
    """The best choice and parameters at one level."""
    found = []
    for choice in task.choices:
        guess = [at * (level.sigma * 255 / 25) ** growth for at, growth in task.laws]
        values = search(lambda v, choice=choice: plane_psnr(task, level, choice, tuple(np.exp(v))), np.log(guess))
        found.append(Optimum(plane_psnr(task, level, choice, tuple(np.exp(values))), choice, tuple(np.exp(values))))
    return max(found, key=lambda optimum: optimum.psnr)


def search(objective: Any, start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the objective is largest, near the start; the start itself where there is nothing to vary."""
    if len(start) == 0:
        return start
    corners = np.vstack([start, start + 0.3 * np.eye(len(start))])
    options = {**SEARCH, "initial_simplex": corners}
    found: NDArray[np.float64] = minimize(lambda v: -objective(v), start, method="Nelder-Mead", options=options).x
    return found


def row(name: str, task: Task, levels: list[Level]) -> str:
    """Tune one task, and describe what came out."""
    free = [best(task, level) for level in levels]
    x = np.log([level.sigma * 255 / 25 for level in levels])
    fits = [np.polyfit(x, np.log([optimum.values[k] for optimum in free]), 1) for k in range(len(task.laws))]
    constants = np.array([(fit[1], fit[0]) for fit in fits]).ravel()

    def by_rule(laws: NDArray[np.float64]) -> list[float]:
        pairs = laws.reshape(-1, 2)
        return [
            plane_psnr(task, level, optimum.choice, tuple(np.exp(pairs[:, 0] + pairs[:, 1] * place)))
            for level, optimum, place in zip(levels, free, x, strict=True)
        ]

    scores, ideal = by_rule(constants), [optimum.psnr for optimum in free]
    if len(constants) and max(np.subtract(ideal, scores)) > LOSS:
        constants = search(lambda laws: float(np.mean(by_rule(laws))), constants)
        scores = by_rule(constants)
    laws = ", ".join(f"{np.exp(at):.4g} ^{growth:.3f}" for at, growth in constants.reshape(-1, 2))
    choices = " ".join(str(optimum.choice) for optimum in free)
    optima = ", ".join(" ".join(f"{optimum.values[k]:.4g}" for optimum in free) for k in range(len(task.laws)))
    return f"| {name} | {choices} | {laws} | {in_db(scores)} | {in_db(ideal)} | {optima} |"


if __name__ == "__main__":
    with torch.inference_mode():
        main()
