"""The EPLL baseline against its formulas, its search against a full one, and the mixture it ships."""

from __future__ import annotations

import itertools
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tnrd.baselines import epll as module
from tnrd.baselines.epll import FORMAT, FREE, SIDE, Mixture, Prior, epll, load_mixture, patch_basis, save_mixture
from tnrd.metrics import psnr
from tnrd.noise import add_noise
from tnrd.weights import WeightsError, available_models, find_weights, save_tensors

SIGMA = 25 / 255


def scene(height: int = 60, width: int = 72) -> NDArray[np.float64]:
    """A disc before a gradient, with stripes."""
    y, x = np.mgrid[0:height, 0:width]
    stripes = 0.15 * np.sin(x / 1.5) * (y > 0.6 * height)
    return np.where((y - 25) ** 2 + (x - 30) ** 2 < 15**2, 0.8, 0.2 + 0.3 * x / width) + stripes


def small_mixture(components: int = 5) -> Mixture:
    """Components that differ in energy and direction."""
    generator = torch.Generator().manual_seed(3)
    factors = 0.05 * torch.randn(components, FREE, FREE, generator=generator, dtype=torch.float64).tril()
    factors *= torch.linspace(0.05, 2, components, dtype=torch.float64)[:, None, None]
    factors.diagonal(dim1=1, dim2=2).abs_().clamp_(min=1e-3)
    return Mixture(torch.randn(components, generator=generator, dtype=torch.float64).log_softmax(0), factors)


def log_posteriors(p: Tensor, mixture: Mixture, variance: float) -> Tensor:
    """log pi_k + log N(p; 0, Sigma_k + v I) of each patch and component, by torch's own density."""
    covariance = mixture.factors @ mixture.factors.mT + variance * torch.eye(FREE, dtype=torch.float64)
    normal = torch.distributions.MultivariateNormal(torch.zeros(FREE, dtype=torch.float64), covariance)
    return mixture.log_weights + normal.log_prob(p.double()[:, None])


def slow_epll(f: NDArray[np.float64], sigma: float, mixture: Mixture) -> NDArray[np.float64]:
    """The formulas of the module, a patch at a time, in float64."""
    lam = SIDE**2 / sigma**2
    covariances = (mixture.factors @ mixture.factors.mT).numpy()
    basis = patch_basis().numpy()
    inside = np.s_[SIDE - 1 : 1 - SIDE, SIDE - 1 : 1 - SIDE]
    u = f
    for beta in np.array([1, 4, 8, 16, 32]) / sigma**2:
        padded = np.pad(u, SIDE - 1, mode="symmetric")
        corners = [(y, x) for y in range(f.shape[0] + SIDE - 1) for x in range(f.shape[1] + SIDE - 1)]
        patches = np.stack([padded[y : y + SIDE, x : x + SIDE].ravel() for y, x in corners])
        labels = log_posteriors(torch.from_numpy(patches @ basis.T), mixture, 1 / beta).argmax(1).tolist()
        total, count = np.zeros_like(padded), np.zeros_like(padded)
        for (y, x), patch, k in zip(corners, patches, labels, strict=True):
            z = basis.T @ covariances[k] @ np.linalg.solve(covariances[k] + np.eye(FREE) / beta, basis @ patch)
            total[y : y + SIDE, x : x + SIDE] += (z + patch.mean()).reshape(SIDE, SIDE)
            count[y : y + SIDE, x : x + SIDE] += 1
        u = (lam * f + beta * total[inside]) / (lam + beta * count[inside])
    return u


def test_it_computes_its_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    mixture = small_mixture()
    monkeypatch.setattr(module, "FINALISTS", 5)
    f = add_noise(scene()[20:31, 25:39], SIGMA, seed=1)
    result = module.restore_plane(torch.from_numpy(f), SIGMA, mixture, lambda done, total: None)
    expected = slow_epll(f.astype(np.float64), SIGMA, mixture)
    assert np.abs(expected - f).max() > 0.05
    np.testing.assert_allclose(result.numpy(), expected, atol=2e-5)


def test_the_coordinates_are_orthonormal_and_leave_out_the_mean() -> None:
    basis = patch_basis()
    torch.testing.assert_close(basis @ basis.T, torch.eye(FREE, dtype=torch.float64))
    torch.testing.assert_close(basis.sum(1), torch.zeros(FREE, dtype=torch.float64))


@pytest.mark.parametrize("factor", [1, 32])
def test_the_search_in_two_rounds_loses_little(factor: int) -> None:
    mixture, variance = load_mixture(), SIGMA**2 / factor
    photograph = skimage.data.camera()[100:196, 200:296] / 255
    noisy = torch.from_numpy(add_noise(photograph, SIGMA / factor**0.5, seed=2))
    p = noisy.unfold(0, SIDE, 3).unfold(1, SIDE, 3).reshape(-1, SIDE**2) @ patch_basis().float().T
    exact = log_posteriors(p, mixture, variance)
    found = exact.gather(1, Prior(mixture, variance).finalists(p)).max(1).values
    lost = exact.max(1).values - found
    assert (lost == 0).double().mean() > 0.8
    assert lost.mean() < 0.3


def test_the_search_in_two_rounds_costs_no_psnr(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = skimage.data.camera()[100:140, 200:240] / 255
    noisy = add_noise(clean, SIGMA, seed=8)
    quick = psnr(clean, epll(noisy, SIGMA))
    monkeypatch.setattr(module, "FINALISTS", 200)
    full = psnr(clean, epll(noisy, SIGMA))
    assert quick != full
    assert quick > full - 0.02


def test_the_filter_is_that_of_the_better_finalist() -> None:
    mixture, variance = load_mixture(), SIGMA**2
    p = torch.from_numpy(add_noise(scene(), SIGMA, seed=3)).unfold(0, SIDE, 5).unfold(1, SIDE, 5).reshape(-1, SIDE**2)
    p = p @ patch_basis().float().T
    prior = Prior(mixture, variance)
    finalists = prior.finalists(p)
    best = finalists.gather(1, log_posteriors(p, mixture, variance).gather(1, finalists).argmax(1, keepdim=True))[:, 0]
    covariance = (mixture.factors @ mixture.factors.mT)[best]
    kept = covariance @ torch.linalg.solve(covariance + variance * torch.eye(FREE), p.double()[..., None])
    torch.testing.assert_close(p - prior.noise(p), kept[..., 0].float(), atol=1e-4, rtol=0)


def test_tiles_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    f = add_noise(scene(), SIGMA, seed=4)
    whole = epll(f, SIGMA)
    monkeypatch.setattr(module, "TILE", 19)
    np.testing.assert_allclose(epll(f, SIGMA), whole, atol=1e-4)


def test_brightness_is_carried_through() -> None:
    f = add_noise(scene(), SIGMA, seed=5)
    np.testing.assert_allclose(epll(f + 0.25, SIGMA), epll(f, SIGMA) + 0.25, atol=2e-3)


def test_it_takes_most_of_the_noise_and_keeps_edges() -> None:
    clean = scene()
    noisy = add_noise(clean, SIGMA, seed=6)
    result = epll(noisy, SIGMA)
    assert np.mean((result - clean) ** 2) < 0.12 * np.mean((noisy - clean) ** 2)


@pytest.mark.parametrize("sigma", [1e-160, 1e-30, 1e-6, 1.0])
def test_extreme_levels_stay_finite(sigma: float) -> None:
    f = scene(20, 24).astype(np.float32)
    result = epll(f, sigma)
    assert np.isfinite(result).all()
    if sigma < 1e-3:
        np.testing.assert_allclose(result, f, atol=1e-5)


def test_a_grey_picture_in_colour_has_the_noise_of_its_mean() -> None:
    f = add_noise(scene(30, 40), SIGMA / 3**0.5, seed=7)
    colour = epll(np.stack([f] * 3, axis=-1), SIGMA, channel_axis=-1)
    np.testing.assert_allclose(colour, np.stack([epll(f, SIGMA / 3**0.5)] * 3, axis=-1), atol=2e-3)


def test_cancelling_from_the_progress_callback() -> None:
    class CancelledError(Exception):
        pass

    def cancel(done: int, total: int) -> None:
        raise CancelledError

    with pytest.raises(CancelledError):
        epll(scene(), SIGMA, progress=cancel)


def test_the_shipped_mixture() -> None:
    mixture = load_mixture()
    assert len(mixture.log_weights) == 200
    assert float(mixture.log_weights.exp().sum()) == pytest.approx(1, abs=1e-4)
    assert len(find_weights("epll").content) < 3e6
    assert "epll" not in available_models()


def test_a_mixture_is_what_was_saved(tmp_path: Path) -> None:
    mixture = small_mixture()
    save_mixture(tmp_path / "m.safetensors", mixture, {"seed": "1"})
    loaded = load_mixture(tmp_path / "m.safetensors")
    torch.testing.assert_close(loaded.factors, mixture.factors, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(loaded.log_weights, mixture.log_weights, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("damage", ["shape", "name", "diagonal", "count", "format"])
def test_a_damaged_mixture_is_refused(tmp_path: Path, damage: str) -> None:
    weights, triangles = torch.zeros(3), torch.ones(3, FREE * (FREE + 1) // 2)
    metadata = {"format": FORMAT, "components": "3"}
    if damage == "shape":
        triangles = triangles[:, :-1]
    if damage == "diagonal":
        triangles[1, 0] = 0
    if damage == "count":
        metadata["components"] = "200"
    if damage == "format":
        metadata["format"] = "tnrd-1"
    file = tmp_path / "m.safetensors"
    save_tensors(file, {"log_weights": weights, "other" if damage == "name" else "factors": triangles}, metadata)
    with pytest.raises(WeightsError, match=r"m\.safetensors (holds|says|does not hold)"):
        load_mixture(file)


def test_expectation_maximisation_finds_a_known_mixture(root: Path) -> None:
    pytest.importorskip("sklearn", reason="training the mixture needs scikit-learn")
    script = runpy.run_path(str(root / "scripts" / "train_epll.py"))
    rng = np.random.default_rng(9)
    factors = [0.02 * rng.standard_normal((FREE, FREE)), 0.1 * rng.standard_normal((FREE, FREE))]
    patches = np.concatenate([rng.standard_normal((3000 * (2 - i), FREE)) @ factor for i, factor in enumerate(factors)])
    patches = patches.astype(np.float32)
    statistics = script["initial_statistics"](patches, 2, rng)
    likelihoods = []
    for _ in range(12):
        mixture = script["mixture_of"](statistics)
        likelihoods.append(mixture.score(patches))
        statistics = script["estimate"](mixture, patches, workers=2)
    assert all(after > before - 1e-3 for before, after in itertools.pairwise(likelihoods))
    small = int(np.argmax(mixture.weights_))
    assert mixture.weights_[small] == pytest.approx(2 / 3, abs=0.01)
    truth = factors[0].T @ factors[0]
    assert np.linalg.norm(mixture.covariances_[small] - truth) < 0.15 * np.linalg.norm(truth)
    np.testing.assert_array_equal(mixture.means_, 0)


def test_the_script_trains_a_mixture_that_loads(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="training the mixture needs scikit-learn")
    for i, corner in enumerate((0, 100, 200)):
        Image.fromarray(skimage.data.camera()[corner : corner + 90, 150:250]).save(tmp_path / f"{i}.png")
    target = tmp_path / "mixture.safetensors"
    options = {"data": tmp_path, "output": target, "patches": 1000, "components": 4, "passes": 2, "hold-out": 3}
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, str(root / "scripts" / "train_epll.py"), *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert len(load_mixture(target).log_weights) == 4
    assert find_weights(target).sha256 in target.with_suffix(".md").read_text(encoding="utf-8")
