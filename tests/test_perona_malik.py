"""Perona-Malik: the invariants of the scheme, the defaults, the array contract."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from skimage import data
from torch import Tensor

from tnrd.baselines.perona_malik import (
    CONDUCTANCES,
    PRESMOOTH,
    RULES,
    STEP_BOUND,
    EdgeStopping,
    differences,
    diffuse,
    forward_differences,
    noise_in_differences,
    perona_malik,
    smooth,
)
from tnrd.kernels.step_torch import diffusion_force

FORMS = [(coupled, conductance) for coupled in (True, False) for conductance in CONDUCTANCES]
every_form = pytest.mark.parametrize(("coupled", "conductance"), FORMS)
Image = NDArray[np.float64]


def random_image(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def images() -> st.SearchStrategy[Image]:
    shapes = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7)
    return hnp.arrays(np.float64, shapes, elements=st.floats(-2, 2, width=32))


def edge_settings(presmooth: st.SearchStrategy[float]) -> st.SearchStrategy[EdgeStopping]:
    return st.builds(EdgeStopping, st.floats(0.01, 10), st.booleans(), st.sampled_from(sorted(CONDUCTANCES)), presmooth)


def four_neighbour_scheme(u: Image, kappa: float, tau: float, steps: int, coupled: bool, conductance: str) -> Image:
    """The textbook's loop: u + tau sum over the neighbours of g (neighbour - u), no flux through the border."""

    def g(squared: Image) -> Image:
        s = squared / kappa**2
        return np.exp(-s) if conductance == "exponential" else 1 / (1 + s)

    for _ in range(steps):
        down, right = np.diff(u, axis=0, append=u[-1:]), np.diff(u, axis=1, append=u[:, -1:])
        both = down**2 + right**2
        flow_down = g(both if coupled else down**2) * down
        flow_right = g(both if coupled else right**2) * right
        new = u + tau * (flow_down + flow_right)
        new[1:] -= tau * flow_down[:-1]
        new[:, 1:] -= tau * flow_right[:, :-1]
        u = new
    return u


# -- the scheme ------------------------------------------------------------------------------------------------------


@every_form
@pytest.mark.parametrize("shape", [(9, 12), (1, 1), (1, 6), (5, 1), (2, 2)])
def test_equals_the_four_neighbour_scheme(coupled: bool, conductance: str, shape: tuple[int, int]) -> None:
    u = random_image(1, 1, *shape)
    edges = EdgeStopping(0.2, coupled, conductance)
    expected = four_neighbour_scheme(u[0, 0].numpy(), 0.2, 0.2, 7, coupled, conductance)
    np.testing.assert_allclose(diffuse(u, edges, time=1.4, step=0.2)[0, 0].numpy(), expected, rtol=0, atol=1e-13)


@every_form
@pytest.mark.parametrize("channels", [1, 3])
def test_the_force_is_the_gradient_of_the_energy(coupled: bool, conductance: str, channels: int) -> None:
    u = random_image(2, channels, 5, 6).requires_grad_()
    edges = EdgeStopping(0.3, coupled, conductance)
    (gradient,) = torch.autograd.grad(edges.energy(u).sum(), u)
    force = diffusion_force(u, forward_differences(channels).to(u), edges.influence(u))
    torch.testing.assert_close(force, gradient, rtol=0, atol=1e-13)


@given(image=images(), edges=edge_settings(st.sampled_from([0.0, 0.6, 1.5])), step=st.floats(0.02, STEP_BOUND))
@settings(max_examples=80)
def test_mean_is_kept_and_range_never_left(image: Image, edges: EdgeStopping, step: float) -> None:
    u = torch.from_numpy(image)[None]
    new = diffuse(u, edges, time=3 * step, step=step)
    torch.testing.assert_close(new.mean((2, 3)), u.mean((2, 3)), rtol=0, atol=1e-13)
    assert bool((new.amin((2, 3)) >= u.amin((2, 3)) - 1e-14).all())
    assert bool((new.amax((2, 3)) <= u.amax((2, 3)) + 1e-14).all())


@given(image=images(), edges=edge_settings(st.just(0.0)), step=st.floats(0.02, STEP_BOUND))
@settings(max_examples=80)
def test_energy_falls_at_every_step(image: Image, edges: EdgeStopping, step: float) -> None:
    u = torch.from_numpy(image)[None]
    energies = [float(edges.energy(u))]
    for _ in range(4):
        u = diffuse(u, edges, time=step, step=step)
        energies.append(float(edges.energy(u)))
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(energies)), energies


def test_the_bound_is_sharp() -> None:
    # The largest pixel of an isolated peak falls below its neighbours as soon as tau exceeds 1/4.
    peak = np.zeros((3, 3))
    peak[1, 1] = 1.0
    at_bound = four_neighbour_scheme(peak, 1e6, STEP_BOUND, 1, True, "rational")
    beyond = four_neighbour_scheme(peak, 1e6, 1.01 * STEP_BOUND, 1, True, "rational")
    assert at_bound.min() >= 0 > beyond.min()


@pytest.mark.parametrize("step", [0.2500001, 1.0, 0.0, -0.1, float("nan")])
def test_a_step_beyond_the_bound_is_refused(step: float) -> None:
    with pytest.raises(ValueError, match=rf"step must lie in \(0, 0\.25\] .* got {step:g}\."):
        perona_malik(np.zeros((4, 4)), 0.1, step=step)


def test_time_is_divided_into_equal_steps() -> None:
    u, edges = random_image(1, 1, 8, 8), EdgeStopping(0.2)
    torch.testing.assert_close(diffuse(u, edges, 0.3, step=0.1), diffuse(u, edges, 0.3, step=0.14))
    torch.testing.assert_close(diffuse(u, edges, 0.0), u, rtol=0, atol=0)


def test_linear_diffusion_blurs_by_its_time() -> None:
    # g is 1 below a huge contrast; a unit impulse then spreads to variance 2 T along each axis, in squared pixels.
    impulse = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    impulse[0, 0, 20, 20] = 1
    for coupled, conductance in FORMS:
        spread = diffuse(impulse, EdgeStopping(1e6, coupled, conductance), time=3.0)[0, 0]
        offset = torch.arange(41, dtype=torch.float64) - 20
        assert float((spread.sum(0) * offset**2).sum()) == pytest.approx(6.0, rel=1e-6)
        assert float((spread.sum(1) * offset**2).sum()) == pytest.approx(6.0, rel=1e-6)


@every_form
def test_a_step_edge_outlives_noise(coupled: bool, conductance: str) -> None:
    u = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    u[..., 8:] = 1
    noisy = u + 0.02 * (random_image(1, 1, 16, 16) - 0.5)
    edges = EdgeStopping(0.1, coupled, conductance)
    clean = diffuse(noisy, edges, time=3.0)
    away = [0, 1, 2, 3, 12, 13, 14, 15]
    assert float((clean - u)[..., away].std()) < 0.3 * float((noisy - u)[..., away].std())
    assert float((clean[..., 8] - clean[..., 7]).min()) > 0.85


@every_form
def test_symmetries(coupled: bool, conductance: str) -> None:
    u = random_image(1, 2, 9, 7)
    edges = EdgeStopping(0.2, coupled, conductance)
    result = diffuse(u, edges, 1.0)
    torch.testing.assert_close(diffuse(u.mT, edges, 1.0).mT, result, rtol=0, atol=1e-13)
    for axis in (2, 3):
        flipped = diffuse(u.flip(axis), edges, 1.0).flip(axis)
        if coupled:  # documented: |grad u| takes the differences to one side
            assert float((flipped - result).abs().max()) > 1e-4
        else:
            torch.testing.assert_close(flipped, result, rtol=0, atol=1e-13)


@every_form
def test_scaling_image_and_contrast_scales_the_result(coupled: bool, conductance: str) -> None:
    u = random_image(1, 1, 8, 8)
    once = diffuse(u, EdgeStopping(0.2, coupled, conductance), 1.0)
    scaled = diffuse(3 * u + 5, EdgeStopping(0.6, coupled, conductance), 1.0)
    torch.testing.assert_close(scaled, 3 * once + 5, rtol=0, atol=1e-12)


def test_an_energy_is_refused_where_there_is_none() -> None:
    with pytest.raises(ValueError, match=r"presmooth is 0\.5\."):
        EdgeStopping(0.1, presmooth=0.5).energy(random_image(1, 1, 4, 4))


@pytest.mark.parametrize("deviation", [0.3, 0.6, 2.0])
def test_smoothing_is_scipys_gaussian_with_a_mirrored_border(deviation: float) -> None:
    from scipy.ndimage import gaussian_filter

    u = random_image(2, 3, 6, 11)
    radius = int(np.ceil(4 * deviation))
    expected = gaussian_filter(u.numpy(), (0, 0, deviation, deviation), mode="reflect", radius=(0, 0, radius, radius))
    np.testing.assert_allclose(smooth(u, deviation).numpy(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("presmooth", [0.0, 0.6, 1.5])
def test_noise_in_differences_is_that_of_smoothed_white_noise(presmooth: float) -> None:
    noise = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 1, 300, 300)))
    seen = differences(noise if presmooth == 0 else smooth(noise, presmooth))
    assert noise_in_differences(presmooth) == pytest.approx(float(seen[..., :-1, :-1].std()), rel=0.02)


# -- the denoiser ----------------------------------------------------------------------------------------------------


def mean_square(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.mean((np.asarray(a, dtype=np.float64) - b) ** 2))


@pytest.mark.parametrize("presmooth", [0.0, PRESMOOTH])
@every_form
def test_denoises_a_photograph(coupled: bool, conductance: str, presmooth: float) -> None:
    clean = data.camera()[100:356, 100:356] / 255
    noisy = clean + 15 / 255 * np.random.default_rng(0).standard_normal(clean.shape)
    result = perona_malik(noisy, 15 / 255, coupled=coupled, conductance=conductance, presmooth=presmooth)
    assert result.dtype == np.float32
    assert mean_square(result, clean) < 10**-0.4 * mean_square(noisy, clean)  # 4 dB


def test_default_contrast_and_time_follow_the_rule() -> None:
    image, sigma = random_image(12, 10).numpy(), 0.08
    for (regularised, coupled, conductance), rule in RULES.items():
        options: dict[str, Any] = {"coupled": coupled, "conductance": conductance}
        options["presmooth"] = PRESMOOTH if regularised else 0.0
        contrast = rule.contrast * sigma * noise_in_differences(options["presmooth"])
        time = rule.time * (sigma * 255 / 25) ** rule.growth
        by_rule = perona_malik(image, sigma, **options)
        explicit = perona_malik(image, contrast=contrast, time=time, **options)
        np.testing.assert_allclose(by_rule, explicit, rtol=0, atol=1e-6)
        assert np.abs(by_rule - image).max() > 0.01


def test_every_form_has_a_rule() -> None:
    assert set(RULES) == {(regularised, *form) for regularised in (True, False) for form in FORMS}


@every_form
def test_without_noise_nothing_changes(coupled: bool, conductance: str) -> None:
    image = random_image(7, 5).float().numpy()
    result = perona_malik(image, 0.0, coupled=coupled, conductance=conductance)
    np.testing.assert_array_equal(result, image)
    assert not np.shares_memory(result, image)
    np.testing.assert_allclose(perona_malik(image, 1e-30), image, rtol=0, atol=1e-6)


def test_a_missing_level_is_estimated() -> None:
    clean = np.tile(np.linspace(0.2, 0.8, 128), (128, 1))
    noisy = clean + 0.1 * np.random.default_rng(0).standard_normal(clean.shape)
    blind, told = perona_malik(noisy), perona_malik(noisy, 0.1)
    assert 0 < mean_square(blind, told) < 0.05 * mean_square(noisy, told)
    colour = np.stack([noisy, noisy.T, noisy[::-1]])
    assert mean_square(perona_malik(colour, channel_axis=0), perona_malik(colour, 0.1, channel_axis=0)) < 1e-4


def test_the_picture_is_left_alone() -> None:
    image = random_image(6, 6).float().numpy()
    before = image.copy()
    perona_malik(image, 0.2)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_flat_picture_stays_flat(value: float) -> None:
    np.testing.assert_allclose(perona_malik(np.full((6, 9), value), 0.1), np.float32(value), rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3)])
def test_tiny_pictures(shape: tuple[int, int]) -> None:
    image = random_image(*shape).numpy()
    for coupled, conductance in FORMS:
        result = perona_malik(image, 0.1, coupled=coupled, conductance=conductance)
        assert result.shape == shape
        assert float(result.mean()) == pytest.approx(float(image.mean()), abs=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.bool_])
def test_integers_are_scaled_as_scikit_image_does(dtype: type[np.generic]) -> None:
    from skimage.util import img_as_float

    image = np.random.default_rng(0).integers(0, 2 if dtype is np.bool_ else 120, (8, 9)).astype(dtype)
    if np.issubdtype(dtype, np.integer):
        image[0, :2] = np.iinfo(dtype).min, np.iinfo(dtype).max
    np.testing.assert_allclose(perona_malik(image, 0.1), perona_malik(img_as_float(image), 0.1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("channel_axis", [0, 1, 2, -1])
def test_channel_axis(channel_axis: int) -> None:
    image = random_image(6, 8, 3).numpy()
    last = perona_malik(image, 0.1, channel_axis=-1)
    moved = perona_malik(np.moveaxis(image, -1, channel_axis), 0.1, channel_axis=channel_axis)
    np.testing.assert_array_equal(np.moveaxis(moved, channel_axis, -1), last)
    assert moved.flags.c_contiguous


@pytest.mark.parametrize("conductance", list(CONDUCTANCES))
def test_channels_share_a_gradient_when_coupled_only(conductance: str) -> None:
    image = random_image(9, 8, 3).numpy()

    def separately(**options: Any) -> NDArray[np.float32]:
        return np.stack([perona_malik(image[..., c], 0.1, **options) for c in range(3)], axis=-1)

    decoupled = perona_malik(image, 0.1, coupled=False, conductance=conductance, channel_axis=-1)
    np.testing.assert_allclose(decoupled, separately(coupled=False, conductance=conductance), rtol=0, atol=1e-6)
    coupled = perona_malik(image, 0.1, conductance=conductance, channel_axis=-1)
    assert np.abs(coupled - separately(conductance=conductance)).max() > 1e-3


@every_form
def test_a_grey_picture_in_three_channels_is_treated_as_grey(coupled: bool, conductance: str) -> None:
    image = random_image(9, 8).numpy()
    options: dict[str, Any] = {"coupled": coupled, "conductance": conductance, "time": 2.0}
    gathered = 3**0.5 if coupled else 1.0  # |grad u| over three equal channels
    colour = perona_malik(np.stack([image] * 3, axis=-1), channel_axis=-1, contrast=0.2 * gathered, **options)
    np.testing.assert_allclose(colour[..., 1], perona_malik(image, contrast=0.2, **options), rtol=0, atol=1e-6)


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sigma": -0.1}, r"sigma must lie in \[0, 1\] .* got -0\.1\."),
        ({"sigma": 25}, r"sigma must lie in \[0, 1\] .* got 25\."),
        ({"sigma": -3.0, "contrast": 0.1, "time": 1.0}, r"sigma must lie in \[0, 1\] .* got -3\."),
        ({"sigma": float("nan")}, r"sigma must lie in \[0, 1\] .* got nan\."),
        ({"contrast": 0.0}, r"contrast must be finite and greater than 0, got 0\."),
        ({"contrast": float("inf")}, r"contrast must be finite and greater than 0, got inf\."),
        ({"time": -1.0}, r"time must be finite and at least 0, got -1\."),
        ({"time": float("inf")}, r"time must be finite and at least 0, got inf\."),
        ({"presmooth": -0.5}, r"presmooth must be finite and at least 0, got -0\.5\."),
        ({"conductance": "tukey"}, r"conductance must be one of exponential, rational, got 'tukey'\."),
    ],
)
def test_bad_options_get_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        perona_malik(np.zeros((4, 4)), **{"sigma": 0.1, **options})


@pytest.mark.parametrize(
    ("image", "channel_axis", "sentence"),
    [
        (np.array([[0.5, np.nan]]), None, r"must be finite, got 1 values"),
        (np.array([[np.inf, -np.inf]]), None, r"must be finite, got 2 values"),
        (np.array([[1e200, 0.0]]), None, r"must be finite, got 1 values"),
        (np.zeros((0, 4)), None, r"no pixels: its shape is \(0, 4\)"),
        (np.zeros((4, 4, 3)), None, r"\(M, N\), got \(4, 4, 3\); for colour name its axis"),
        (np.zeros(4), None, r"\(M, N\), got \(4,\)"),
        (np.zeros((4, 4)), -1, r"three axes, one of them channel_axis=-1, got \(4, 4\)"),
        (np.zeros((4, 4, 3)), 3, r"three axes, one of them channel_axis=3"),
        (np.zeros((4, 4), complex), None, r"real numbers, got an array of complex128"),
    ],
)
def test_bad_images_get_a_sentence(image: NDArray[Any], channel_axis: int | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        perona_malik(image, 0.1, channel_axis=channel_axis)
