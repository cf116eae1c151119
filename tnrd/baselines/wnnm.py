"""Weighted nuclear norm minimisation: groups of similar patches are nearly of low rank, and noise is not.

With u_0 = f and k = 1 ... K, part of what was removed is put back before each step (iterative regularisation):

    y     = u_{k-1} + delta (f - u_{k-1}),      delta = 0.1.

For every reference patch of y its n most similar patches are looked for, anew every second step and each time ten
fewer. Their matrix X, less the mean patch, stands for min |X - Z|_F^2 / (2 sigma_k^2) + sum_i w_i s_i(Z) with weights
w_i = c sqrt(n) / (s_i(Z) + eps): small singular values are noise and shrink most. For eps -> 0 the fixed point of the
reweighting is closed, with C = c sqrt(n) sigma_k^2, c = 2 sqrt(2):

    s_i(Z) = (s_i + sqrt(s_i^2 - 4 C)) / 2      where s_i^2 > 4 C,      0 elsewhere.

u_k is the mean of all estimates of a pixel. What noise is left in a group is judged at its reference patch P,
sigma_k^2 = lambda^2 |sigma^2 - mean((P f - P y)^2)|, and is sigma^2 at the first step.

Size, n, K and lambda are the authors' for four ranges of sigma. References are 3 pixels apart, where the authors take 2
for sigma up to 40: less than half the time for about 0.02 dB (docs/experiments.md).

Colour: f goes into the orthonormal planes of the DCT over R, G, B (luminance and two chrominances), in which white
noise keeps its level. Patches are matched by all three planes, and each plane's matrices are shrunk by themselves,
which was the best of three ways (docs/experiments.md).

Pictures smaller than a patch are mirrored up to its size. The result does not depend on the number of threads.

Gu, Zhang, Zuo & Feng, CVPR 2014; Gu, Xie, Meng, Zuo, Feng & Zhang, IJCV 121, 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tnrd.baselines.block_matching import grid, least_candidates, match_patches
from tnrd.baselines.contract import Progress, Unit, denoiser
from tnrd.baselines.patch_groups import estimate_groups
from tnrd.colour import opponent_matrix
from tnrd.kernels.threads_numba import entrance, use_torch_threads

FEEDBACK = 0.1  # delta
WEIGHT = 2 * math.sqrt(2)  # c
RADIUS = 30  # of the window in which similar patches are looked for
STEP = 3  # pixels between references
TURNS_PER_MATCHING = 2
FEWER = 10  # patches at each matching, the first one included
BAND = 8  # rows of references whose estimates are summed by one thread
BANDS = 16  # per call of the compiled loops, between two reports of progress


class Setting(NamedTuple):
    """What depends on the noise level.

    Attributes:
        size: Side of a patch.
        patches: Patches of a group, before the first ten are taken off.
        turns: K.
        strength: lambda.
    """

    size: int
    patches: int
    turns: int
    strength: float


_SETTINGS = (  # up to a level on the 8-bit scale
    (20.0, Setting(6, 70, 8, 0.54)),
    (40.0, Setting(7, 90, 12, 0.56)),
    (60.0, Setting(8, 120, 14, 0.58)),
    (math.inf, Setting(9, 140, 14, 0.58)),
)


@denoiser
def wnnm(u: Unit, sigma: float, progress: Progress) -> Unit:
    """Denoise by weighted nuclear norm minimisation of groups of similar patches.

    Args:
        u: (M, N) or (M, N, 3) on the [0, 1] scale.
        sigma: Standard deviation of the noise, the same in all channels, on the [0, 1] scale.
        progress: Called several times in each of the 8 to 14 steps.

    Returns:
        The shape of ``u``, not clipped.
    """
    setting = setting_for(sigma)
    rows, columns = u.shape[:2]
    lack = [(0, max(0, setting.size - length)) for length in (rows, columns)]
    padded = np.pad(u, [*lack, (0, 0)][: u.ndim], mode="symmetric")
    if u.ndim == 2:
        return _iterate(padded[np.newaxis], sigma, setting, progress)[0, :rows, :columns]
    basis = opponent_matrix().numpy().astype(np.float32)
    planes = _iterate(np.ascontiguousarray(np.moveaxis(padded @ basis.T, -1, 0)), sigma, setting, progress)
    return np.moveaxis(planes, 0, -1)[:rows, :columns] @ basis


def setting_for(sigma: float) -> Setting:
    """The authors' setting for a noise level on the [0, 1] scale."""
    return next(setting for most, setting in _SETTINGS if 255 * sigma <= most)


def _iterate(planes: Unit, sigma: float, setting: Setting, progress: Progress) -> Unit:
    """u_K of planes (C, M, N), at least a patch wide and high."""
    _, height, width = planes.shape
    rows, columns = (grid(length, setting.size, STEP) for length in (height, width))
    most = least_candidates((height, width), setting.size, RADIUS)
    wanted = setting.patches
    calls = math.ceil(len(rows) / (BAND * BANDS))
    matchings = math.ceil(setting.turns / TURNS_PER_MATCHING)
    report = _counter((setting.turns * len(planes) + matchings) * calls, progress)
    u = planes.copy()
    for turn in range(setting.turns):
        y = u + np.float32(FEEDBACK) * (planes - u)
        if turn % TURNS_PER_MATCHING == 0:
            wanted -= FEWER
            places = _match(y, setting.size, rows, columns, min(wanted, most), report)
        strength = setting.strength if turn else 0.0
        for plane, start, noisy in zip(u, y, planes, strict=True):
            plane[...] = estimate(start, noisy, places, rows, columns, setting.size, sigma, strength, report)
    return u


def _match(
    y: Unit, size: int, rows: NDArray[np.int64], columns: NDArray[np.int64], count: int, report: Callable[[], None]
) -> NDArray[np.int32]:
    """The groups of all references, as many rows of them at a time as :func:`estimate` takes."""
    places = []
    for start in range(0, len(rows), BAND * BANDS):
        with entrance():
            places.append(match_patches(y, size, rows[start : start + BAND * BANDS], columns, RADIUS, count))
        report()
    return np.concatenate(places)


def estimate(
    y: Unit, f: Unit, places: NDArray[np.int32], rows: NDArray[np.int64], columns: NDArray[np.int64], size: int,
    sigma: float, strength: float, report: Callable[[], None],
) -> Unit:  # fmt: skip
    """One step for one plane: shrink all groups, and average their patches.

    Args:
        y: Where the step starts, (M, N).
        f: The noisy plane.
        places: (len(rows), len(columns), n), the groups' patches as row * N + column of their first pixels.
        rows: First rows of the references.
        columns: First columns of the references.
        size: Side of a patch.
        sigma: Standard deviation of the noise of f.
        strength: lambda; 0 takes sigma itself for the level of y.
        report: Called now and then.

    Returns:
        The plane; every pixel must be in a patch.
    """
    reach = (BAND - 1) * int(np.diff(rows).max(initial=0)) + 2 * RADIUS + size
    owners = (rows[:, np.newaxis] * y.shape[1] + columns).astype(np.int32)
    numbers = tuple(np.float32(x) for x in (sigma, strength, 4 * WEIGHT * math.sqrt(places.shape[2])))
    # The sums of a band are its own and are added in order, so that rounding is the same for any number of threads.
    total, weight = np.zeros_like(y), np.zeros_like(y)
    for bands in _band_groups(len(rows)):
        tops = np.array([max(0, rows[band.start] - RADIUS) for band in bands])
        edges = np.array([bands[0].start, *(band.stop for band in bands)]) * len(columns)
        sums = np.zeros((len(bands), 2, reach, y.shape[1]), np.float32)
        with entrance():
            use_torch_threads()
            estimate_groups(y, f, places.reshape(-1, places.shape[2]), owners.ravel(), edges, tops, size, numbers, sums)
        for top, (values, counts) in zip(tops, sums, strict=True):
            inside = min(reach, len(y) - top)
            total[top : top + inside] += values[:inside]
            weight[top : top + inside] += counts[:inside]
        report()
    return np.asarray(total / weight, np.float32)


def _band_groups(rows: int) -> Iterator[list[range]]:
    bands = [range(start, min(start + BAND, rows)) for start in range(0, rows, BAND)]
    return (bands[start : start + BANDS] for start in range(0, len(bands), BANDS))


def _counter(total: int, progress: Progress) -> Callable[[], None]:
    done = 0

    def report() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    return report
