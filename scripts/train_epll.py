"""Train the Gaussian mixture of the EPLL baseline on patches of grey training pictures.

    python scripts/train_epll.py --data IMAGES --output runs/epll/epll.safetensors

Needs scikit-learn. The mixture is of patches without their mean, in the 63 coordinates of the DCT without its constant,
and every component has the mean zero (Zoran & Weiss 2011). Expectation-maximisation runs over mini-batches with a
falling step (Cappe & Moulines, J. R. Stat. Soc. B 71(3), 2009): with averages over the patches p of batch t

    n_k <- (1 - eta) n_k + eta mean(r_k),    S_k <- (1 - eta) S_k + eta mean(r_k p p^T),    eta = (t + 2)^-0.7,

r_k = P(k | p), pi_k = n_k/sum_j n_j and Sigma_k = S_k/n_k + q I. scikit-learn's GaussianMixture computes r_k and the
likelihoods; its own update would fit means, so the update above is done here. q = 1/(12 * 255^2), the variance of
rounding to 8 bits, keeps flat ground (many patches are exactly constant) from being a component without volume. A
component starts from the covariance of all patches at the energy of a patch drawn at random, stretched along it.

Every `--hold-out`-th picture only gives the likelihood that is printed. The file and its card are written anew after
each pass: a run that is stopped early leaves what fewer `--passes` give.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sklearn
import torch
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from tnrd.baselines.epll import FORMAT, SIDE, Mixture, patch_basis, save_mixture
from tnrd.training.data import load_images
from tnrd.weights import find_weights

ROUNDING = 1 / (12 * 255**2)
DECAY = 0.7
# Smaller responsibilities count as none, which saves nearly all of the update: most patches belong to a few components.
NEGLIGIBLE = 1e-4
ROWS = 8192
SOURCE = (
    "BSDS500 (Arbelaez, Maire, Fowlkes & Malik, IEEE TPAMI 33(5), 2011), its train and test parts, 400 photographs;\n"
    "the data set is offered for research use, and none of its pictures is part of these weights or of this package."
)

Floats = NDArray[np.float32]


class Statistics(NamedTuple):
    """What a mixture is estimated from: n (K,) and S (K, D, D)."""

    share: NDArray[np.float64]
    moment: NDArray[np.float64]

    def towards(self, other: Statistics, step: float) -> Statistics:
        """(1 - step) times this plus step times the other."""
        return Statistics(*((1 - step) * mine + step * theirs for mine, theirs in zip(self, other, strict=True)))


def main() -> None:
    """Parse the arguments, train, write the mixture and its card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean training pictures")
    parser.add_argument("--output", type=Path, required=True, help="a .safetensors file; its card goes beside it")
    parser.add_argument("--patches", type=int, default=800_000, help="number of training patches")
    parser.add_argument("--components", type=int, default=200)
    parser.add_argument("--passes", type=int, default=7, help="passes over the patches")
    parser.add_argument("--batch", type=int, default=12_500, help="patches of a mini-batch")
    parser.add_argument("--hold-out", type=int, default=20, help="hold out every n-th picture")
    parser.add_argument("--source", default=SOURCE, help="what the card says of the data")
    parser.add_argument("--workers", type=int, default=2, help="threads")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    start = time.monotonic()
    rng = np.random.default_rng(arguments.seed)
    pictures = load_images(arguments.data)
    held_out = pictures[:: arguments.hold_out]
    used = [picture for i, picture in enumerate(pictures) if i % arguments.hold_out]
    patches = sample_patches(used, arguments.patches, rng)
    unseen = sample_patches(held_out, arguments.patches // 16, rng)
    print(f"{len(patches)} patches of {len(used)} pictures, {len(unseen)} of {len(held_out)} others", flush=True)

    statistics = initial_statistics(patches, arguments.components, rng)
    t = 0
    for done in range(1, arguments.passes + 1):
        order = rng.permutation(len(patches))
        for begin in range(0, len(patches), arguments.batch):
            batch = patches[order[begin : begin + arguments.batch]]
            statistics = statistics.towards(
                estimate(mixture_of(statistics), batch, arguments.workers), (t + 2) ** -DECAY
            )
            t += 1
        mixture = mixture_of(statistics)
        likelihood, seconds = mixture.score(unseen), time.monotonic() - start
        print(f"pass {done}: held out {likelihood:.3f} nats, {seconds:.0f} s", flush=True)
        write(arguments, done, mixture, likelihood, seconds)


def sample_patches(pictures: list[NDArray[np.uint8]], count: int, rng: np.random.Generator) -> Floats:
    """Coordinates (count, 63) of patches drawn at random, as many from each picture, turned and flipped."""
    basis = patch_basis().numpy()
    found = []
    for i, picture in enumerate(pictures):
        wanted = count * (i + 1) // len(pictures) - count * i // len(pictures)
        windows = np.lib.stride_tricks.sliding_window_view(picture, (SIDE, SIDE))
        y, x = (rng.integers(length, size=wanted) for length in windows.shape[:2])
        patches = windows[y, x]
        for part, turn in zip(np.array_split(np.arange(wanted), 8), rng.permutation(8), strict=True):
            turned = np.rot90(patches[part], int(turn) % 4, axes=(1, 2))
            patches[part] = turned if turn < 4 else turned[:, ::-1]
        found.append((patches.reshape(wanted, -1) / 255.0 @ basis.T).astype(np.float32))
    return np.concatenate(found)


def initial_statistics(patches: Floats, components: int, rng: np.random.Generator) -> Statistics:
    """Equal shares; for each component the covariance of all at the energy of a random patch, and the patch."""
    covariance = np.cov(patches[:100_000].T.astype(np.float64))
    chosen = patches[rng.choice(len(patches), components, replace=False)].astype(np.float64)
    energy = np.square(chosen).sum(1) / np.trace(covariance)
    start = energy[:, None, None] * covariance + chosen[:, :, None] * chosen[:, None, :]
    return Statistics(np.full(components, 1 / components), start / components)


def mixture_of(statistics: Statistics) -> GaussianMixture:
    """scikit-learn's mixture with the weights and covariances of the module, the means zero, in float32."""
    share, moment = statistics
    components, size = moment.shape[:2]
    # A component that nothing belongs to keeps a share of a millionth of an equal one and the shape of rounding noise.
    share = np.maximum(share, 1e-6 / components)
    covariance = moment / share[:, None, None] + ROUNDING * np.eye(size)
    mixture = GaussianMixture(components)
    mixture.weights_ = (share / share.sum()).astype(np.float32)
    mixture.means_ = np.zeros((components, size), np.float32)
    mixture.covariances_ = covariance
    factor = np.linalg.inv(np.linalg.cholesky(covariance)).swapaxes(1, 2)
    mixture.precisions_cholesky_ = np.ascontiguousarray(factor).astype(np.float32)
    mixture.n_features_in_ = size
    return mixture


def estimate(mixture: GaussianMixture, patches: Floats, workers: int) -> Statistics:
    """mean(r_k) and mean(r_k p p^T) over the patches, r by the mixture."""
    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(lambda part: _sums(mixture, part), np.array_split(patches, workers)))
    return Statistics(*(sum(sums) / len(patches) for sums in zip(*parts, strict=True)))


def _sums(mixture: GaussianMixture, patches: Floats) -> Statistics:
    components, size = mixture.means_.shape
    share, moment = np.zeros(components), np.zeros((components, size, size))
    for begin in range(0, len(patches), ROWS):
        part = patches[begin : begin + ROWS]
        belongs = mixture.predict_proba(part)
        belongs[belongs < NEGLIGIBLE] = 0
        share += belongs.sum(0, dtype=np.float64)
        for k in range(components):
            rows = np.flatnonzero(belongs[:, k])
            weighted = part[rows] * np.sqrt(belongs[rows, k])[:, None]
            moment[k] += weighted.T @ weighted
    return Statistics(share, moment)


def write(
    arguments: argparse.Namespace, passes: int, mixture: GaussianMixture, likelihood: float, seconds: float
) -> None:
    """The weights file and its card."""
    factors = torch.linalg.cholesky(torch.from_numpy(mixture.covariances_))
    settings = {name: str(getattr(arguments, name)) for name in ("patches", "batch", "hold_out", "seed")}
    settings["passes"] = str(passes)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    save_mixture(
        arguments.output,
        Mixture(torch.from_numpy(mixture.weights_).double().log(), factors),
        {**settings, "held_out_nats": f"{likelihood:.3f}", "scikit_learn": sklearn.__version__},
    )
    digest = find_weights(arguments.output).sha256
    command = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())
    card = f"""# {arguments.output.stem}

The Gaussian mixture of the EPLL baseline (Zoran & Weiss, ICCV 2011): {arguments.components} components of mean zero
over 8 x 8 patches of grey pictures, each patch without its mean; log weights and Cholesky factors of the covariances,
float32, format {FORMAT}. Trained anew for this project; not the mixture that the authors released.

SHA-256 `{digest}`

## Data

{arguments.source}

## Training

`scripts/train_epll.py {command} --components {arguments.components}`, scikit-learn {sklearn.__version__},
{seconds / 60:.0f} minutes with {arguments.workers} threads. Patches of held-out pictures have the mean log-likelihood
{likelihood:.2f} nats (a density over the 63 coordinates, intensities in [0, 1]).

## Limits

A prior of photographs at their usual contrast and of intensities in [0, 1]. The denoiser around it expects white
Gaussian noise of a known level; its scores are in docs/results.md.
"""
    arguments.output.with_suffix(".md").write_text(card, encoding="utf-8")
    print(f"wrote {arguments.output} ({arguments.output.stat().st_size / 1e6:.2f} MB), SHA-256 {digest}")


if __name__ == "__main__":
    # Many products of a small matrix: threads that each work on patches of their own, not on one product together.
    with threadpool_limits(1):
        main()
