"""Expected patch log likelihood (EPLL): every patch of the result should be likely under a mixture of Gaussians.

    min over u of  32/sigma^2 ||u - f||^2 - sum_i log p(P_i u),    p(v) = sum_k pi_k N(v - mean(v); 0, Sigma_k)

with P_i u all overlapping patches of 8 x 8. Half-quadratic splitting gives every patch a copy z_i of its own, at the
price beta/2 ||P_i u - z_i||^2, and alternates, for beta = 1, 4, 8, 16, 32 times 1/sigma^2 from u = f on,

    k_i = argmax_k  log pi_k + log N(p_i; 0, Sigma_k + I/beta),    p_i = P_i u - mean(P_i u),
    z_i = mean(P_i u) + Sigma_k (Sigma_k + I/beta)^-1 p_i,    k = k_i (Wiener),
    u   = (lam f + beta sum_i P_i^T z_i)/(lam + beta sum_i P_i^T P_i),    lam = 64/sigma^2.

The picture is mirrored (half-sample symmetric) for the patches across its border, so that 64 patches cover every pixel
and u = (sigma^-2 f + beta mean of z)/(sigma^-2 + beta), where the paper takes the patches inside the picture only. lam
and beta are as published; nothing is tuned. The mixture of 200 components was trained for this project
(``scripts/train_epll.py``, weights/epll.md).

k_i is found in two rounds, see :class:`Prior`, in less than half the time of a full search and without loss of PSNR
(docs/experiments.md).

Zoran & Weiss, From learning models of natural image patches to whole image restoration, ICCV 2011.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tnrd.baselines.contract import Progress, Unit, denoiser
from tnrd.baselines.opponents import by_plane
from tnrd.kernels.correlate_torch import pad_mirrored
from tnrd.moments import dct_basis
from tnrd.weights import WeightsError, find_weights, read_tensors, save_tensors

FORMAT = "epll-1"
SIDE = 8
FREE = SIDE * SIDE - 1  # dimensions of a patch without its mean
FACTORS = (1, 4, 8, 16, 32)  # beta sigma^2
LOW = 27  # the frequencies with fx + fy <= 6 but the constant
FINALISTS = 2
TILE = 128  # patches a side; bounds the memory
CHUNK = 2048  # patches compared at once: their products p_i p_j stay in the cache


class Mixture(NamedTuple):
    """A mixture of Gaussians of mean zero over the 63 coordinates of :func:`patch_basis`, float64.

    Attributes:
        log_weights: log pi_k, (K,).
        factors: Lower triangular L_k with Sigma_k = L_k L_k^T, (K, 63, 63).
    """

    log_weights: Tensor
    factors: Tensor


def patch_basis() -> Tensor:
    """Orthonormal coordinates of patches without their mean, (63, 64) float64: the DCT, low frequencies first."""
    frequency = np.arange(SIDE)
    order = np.argsort(np.add.outer(frequency, frequency).ravel(), kind="stable")
    return torch.from_numpy(np.kron(dct_basis(SIDE), dct_basis(SIDE))[order[1:]])


def save_mixture(path: str | Path, mixture: Mixture, metadata: dict[str, str]) -> None:
    """Write a mixture as float32 safetensors: the log weights and the lower triangles row by row."""
    i, j = torch.tril_indices(FREE, FREE)
    tensors = {"log_weights": mixture.log_weights.float(), "factors": mixture.factors[:, i, j].float()}
    save_tensors(path, tensors, {**metadata, "format": FORMAT, "components": str(len(mixture.log_weights))})


def load_mixture(weights: str | Path = "epll") -> Mixture:
    """Read a mixture.

    Args:
        weights: Name of shipped weights, or path of a .safetensors file.

    Raises:
        WeightsError: The file cannot be found, or holds no mixture of 8 x 8 patches.
    """
    file = find_weights(weights)
    tensors, metadata = read_tensors(file, FORMAT)
    shapes = {name: tuple(tensor.shape) for name, tensor in sorted(tensors.items())}
    components = shapes.get("log_weights", (0,))[0]
    i, j = torch.tril_indices(FREE, FREE)
    if shapes != {"factors": (components, len(i)), "log_weights": (components,)} or components == 0:
        raise WeightsError(f"{file.path} holds no mixture over {SIDE} x {SIDE} patches; its tensors are {shapes}.")
    if metadata.get("components") != str(components):
        raise WeightsError(f"{file.path} says {metadata.get('components')} components and holds {components}.")
    factors = torch.zeros(components, FREE, FREE, dtype=torch.float64)
    factors[:, i, j] = tensors["factors"].double()
    if not (factors.diagonal(dim1=1, dim2=2) > 0).all():
        raise WeightsError(f"{file.path} holds a covariance that is not positive definite.")
    return Mixture(tensors["log_weights"].double(), factors)


class Prior:
    """The mixture seen through white noise of a variance v = 1/beta: which component, and its Wiener filter; float32.

    The likelihoods of a patch under all K components would take nearly all the time of the method. So they are first
    computed with block-diagonal covariances: the LOW lowest frequencies as they are, every other frequency as if it
    were independent of the rest. The FINALISTS most probable by this are then compared by their true likelihood.

    Args:
        mixture: Of K components.
        variance: v >= 0, intensities in [0, 1].
    """

    def __init__(self, mixture: Mixture, variance: float) -> None:
        covariance = mixture.factors @ mixture.factors.mT + variance * torch.eye(FREE, dtype=torch.float64)
        self.variance = variance
        precision, half_logdet = _invert(covariance)
        self.precision = precision.float()
        self.offset = (mixture.log_weights - half_logdet).float()
        block, half_logdet = _invert(covariance[:, :LOW, :LOW])
        rest = covariance.diagonal(dim1=1, dim2=2)[:, LOW:]
        i, j = torch.triu_indices(LOW, LOW)
        forms = [torch.where(i == j, -0.5, -1.0) * block[:, i, j], -0.5 / rest]
        self.rough_forms = torch.cat(forms, dim=1).T.float().contiguous()
        self.rough_offset = (mixture.log_weights - half_logdet - 0.5 * rest.log().sum(1)).float()

    def finalists(self, p: Tensor) -> Tensor:
        """The FINALISTS components most probable by the block-diagonal covariances, (n, F) from (n, 63)."""
        count = min(FINALISTS, len(self.offset))
        parts = [
            torch.addmm(self.rough_offset, _rough_products(part.T.contiguous()).T, self.rough_forms).topk(count).indices
            for part in torch.split(p, CHUNK)
        ]
        return torch.cat(parts)

    def noise(self, p: Tensor) -> Tensor:
        """p - z = v (Sigma_k + v I)^-1 p, what the filter of the most probable component takes away, (n, 63)."""
        components = self.finalists(p)
        labels, order = components.flatten().sort(stable=True)
        counts = torch.bincount(labels, minlength=len(self.offset)).tolist()
        patches = p.index_select(0, order.div(components.shape[1], rounding_mode="floor"))
        whitened = torch.empty_like(patches)
        groups = zip(torch.split(patches, counts), torch.split(whitened, counts), self.precision, strict=True)
        for group, result, precision in groups:
            torch.mm(group, precision, out=result)
        log_posterior = self.offset[labels] - 0.5 * (patches * whitened).sum(1)
        where = torch.empty_like(order)
        where[order] = torch.arange(len(order))
        where = where.view(components.shape)
        best = log_posterior[where].argmax(1, keepdim=True)
        return self.variance * whitened.index_select(0, where.gather(1, best)[:, 0])


def _invert(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """The inverses of positive definite matrices and half the logarithms of their determinants."""
    factors = torch.linalg.cholesky(matrices)
    return torch.cholesky_inverse(factors), factors.diagonal(dim1=1, dim2=2).log().sum(1)


def _rough_products(p: Tensor) -> Tensor:
    """p_i p_j for i <= j < LOW in the order of ``torch.triu_indices``, then p_i^2 for i >= LOW, from (63, n)."""
    pairs = LOW * (LOW + 1) // 2
    products = p.new_empty(pairs + FREE - LOW, p.shape[1])
    begin = 0
    for i in range(LOW):
        torch.mul(p[i:LOW], p[i], out=products[begin : begin + LOW - i])
        begin += LOW - i
    torch.mul(p[LOW:], p[LOW:], out=products[pairs:])
    return products


def average_noise(u: Tensor, prior: Prior, report: Callable[[], None]) -> Tensor:
    """Mean over the 64 patches that cover a pixel of what the filter takes away there, (M, N) from (M, N)."""
    margin = SIDE - 1
    padded = pad_mirrored(u[None, None], margin)[0, 0]
    total = torch.zeros_like(padded)
    windows = padded.unfold(0, SIDE, 1).unfold(1, SIDE, 1)
    basis = patch_basis().float()
    for y in range(0, windows.shape[0], TILE):
        for x in range(0, windows.shape[1], TILE):
            tile = windows[y : y + TILE, x : x + TILE]
            h, w = tile.shape[:2]
            noise = prior.noise(tile.reshape(h * w, -1) @ basis.T)
            planes = (basis.T @ noise.T).reshape(SIDE, SIDE, h, w)
            for i in range(SIDE):
                for j in range(SIDE):
                    total[y + i : y + i + h, x + j : x + j + w] += planes[i, j]
            report()
    return total[margin:-margin, margin:-margin] / SIDE**2


def restore_plane(f: Tensor, sigma: float, mixture: Mixture, progress: Progress) -> Tensor:
    """The module's scheme on one plane, float32, (M, N); ``progress`` is called after each tile of each step."""
    tiles = math.prod(math.ceil((side + SIDE - 1) / TILE) for side in f.shape)
    done = 0

    def report() -> None:
        nonlocal done
        done += 1
        progress(done, tiles * len(FACTORS))

    u = f
    for factor in FACTORS:
        z = u - average_noise(u, Prior(mixture, sigma**2 / factor), report)
        u = (f + factor * z) / (1 + factor)
    return u


@denoiser
@torch.inference_mode()
def epll(u: Unit, sigma: float, progress: Progress) -> Unit:
    """EPLL with a Gaussian mixture over 8 x 8 patches, the module's scheme with the shipped mixture.

    Colour is restored as luminance and chrominance (:mod:`tnrd.baselines.opponents`), each plane by itself with this
    prior of grey pictures; it was not trained on chrominances.

    Arguments, result and errors as in :class:`tnrd.baselines.contract.Denoiser`; mirrored boundary. Also raises
    :class:`tnrd.weights.WeightsError` where the shipped mixture is missing or damaged.
    """
    mixture = _shipped()

    def plane(u: Unit, sigma: float, progress: Progress) -> Unit:
        return np.asarray(restore_plane(torch.from_numpy(u), sigma, mixture, progress))

    return by_plane(u, sigma, progress, grey=plane, chrominance=plane)


@functools.cache
def _shipped() -> Mixture:
    return load_mixture()
