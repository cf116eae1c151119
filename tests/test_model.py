"""The whole diffusion as a torch module: shapes, noise levels, stopping, reach of dependence, energy, derivatives."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tnrd.config import TNRDConfig
from tnrd.influence import RadialBasisInfluence
from tnrd.model import TNRD
from tnrd.stage import DiffusionStage

TINY = TNRDConfig(stages=2, filters=3, kernel_size=3, nodes=11, reach=5.0, sigma_degree=2)
COLOUR = dataclasses.replace(TINY, channels=3, companions=2)
HALF = dataclasses.replace(TINY, grid=2, companions=3, vanishing_moments=(1, 2))
SCALES = dataclasses.replace(TINY, scales=2)
PAIRS = dataclasses.replace(HALF, filters=4, transposes=True)
CONFIGS = {
    "grey": TINY,
    "colour with companions": COLOUR,
    "half resolution": HALF,
    "two scales": SCALES,
    "transposes": PAIRS,
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def random_model(config: TNRDConfig, *, exact: bool = False, scale: float = 0.2) -> TNRD:
    """A model with no symmetry left: psi is not odd, the curves of sigma bend, all filters are mixed."""
    torch.manual_seed(0)
    model = TNRD(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn_like(parameter)
    for module in model.modules():
        if isinstance(module, RadialBasisInfluence):
            module.exact = exact
    return model.requires_grad_(False)


def picture(config: TNRDConfig, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Noisy images (N, C, H, W) for (N, H, W)."""
    n, h, w = shape
    return torch.rand((n, config.channels, h, w), generator=torch.Generator().manual_seed(1), dtype=dtype)


# --- shapes


@given(
    name=st.sampled_from(sorted(CONFIGS)),
    n=st.integers(1, 3),
    height=st.integers(1, 13),
    width=st.integers(1, 13),
    kind=st.sampled_from(["number", "per image", "map"]),
)
@settings(max_examples=25)
def test_any_image_comes_back_in_its_shape(name: str, n: int, height: int, width: int, kind: str) -> None:
    config = CONFIGS[name]
    x = picture(config, n, height, width)
    sigma = {"number": 0.1, "per image": torch.full((n,), 0.1), "map": torch.full((n, 1, height, width), 0.1)}[kind]
    model = random_model(config)
    result = model(x, sigma)
    assert result.shape == x.shape
    assert result.dtype == x.dtype
    assert bool(torch.isfinite(result).all())
    assert [u.shape for u in model.trajectory(x, sigma)] == [x.shape] * (config.stages + 1)
    g, cell = config.grid, config.cell
    on_grid = (n, config.components.total, *(cell // g * math.ceil(side / cell) for side in (height, width)))
    assert [u.shape for u in model.states(x, sigma)] == [on_grid] * (config.stages + 1)


@every_config
def test_the_trajectory_starts_at_the_picture_and_ends_at_the_result(config: TNRDConfig) -> None:
    model, x = random_model(config), picture(config, 2, 7, 9)
    pictures = list(model.trajectory(x, 0.1))
    assert torch.equal(pictures[0], x)
    assert torch.equal(pictures[-1], model(x, 0.1))


@every_config
@pytest.mark.parametrize("size", [(8, 8), (7, 9)], ids=str)
def test_memory_layout_does_not_matter(config: TNRDConfig, size: tuple[int, int]) -> None:
    model, x = random_model(config), picture(config, 2, *size)
    expected = model(x, 0.1)
    n, c, h, w = x.shape
    poisoned = torch.full((n, c, h + 4, w + 4), torch.nan)
    poisoned[..., 2:-2, 2:-2] = x
    layouts = [
        x.contiguous(memory_format=torch.channels_last),
        x.transpose(2, 3).contiguous().transpose(2, 3),
        poisoned[..., 2:-2, 2:-2],
    ]
    for other in layouts:
        torch.testing.assert_close(model(other, 0.1), expected, rtol=0, atol=1e-6)
        assert torch.equal(other, x), "the input is left alone"


@pytest.mark.parametrize("scales", [1, 2])
def test_filters_with_their_transposes_treat_a_picture_and_its_transpose_alike(scales: int) -> None:
    model = random_model(dataclasses.replace(PAIRS, companions=0, scales=scales))
    x = picture(PAIRS, 1, 14, 9)
    torch.testing.assert_close(model(x.mT, 0.1), model(x, 0.1).mT, rtol=0, atol=1e-6)
    other = random_model(dataclasses.replace(HALF, companions=0, scales=scales))
    assert not torch.allclose(other(x.mT, 0.1), other(x, 0.1).mT, rtol=0, atol=1e-3)


# --- the noise level


@every_config
def test_without_noise_the_picture_is_left_as_it_is(config: TNRDConfig) -> None:
    model, x = random_model(config), picture(config, 2, 7, 6)
    for sigma in (0.0, torch.zeros(2), torch.zeros(2, 1, 7, 6)):
        assert torch.equal(model(x, sigma), x)


@every_config
def test_every_way_to_give_one_level(config: TNRDConfig) -> None:
    model, x = random_model(config), picture(config, 3, 9, 7)
    expected = model(x, 0.12)
    same: list[Any] = [torch.tensor(0.12), torch.tensor([0.12]), torch.full((3,), 0.12), torch.full((3, 1, 1, 1), 0.12)]
    for sigma in same:
        torch.testing.assert_close(model(x, sigma), expected, rtol=0, atol=1e-7)
    # A map goes another way through the engine, and through a mean of squares where cells have several pixels.
    for sigma in (torch.full((3, 1, 9, 7), 0.12), torch.full((1, 1, 9, 7), 0.12)):
        torch.testing.assert_close(model(x, sigma), expected, rtol=0, atol=2e-6)


@every_config
@pytest.mark.parametrize("maps", [False, True], ids=["levels", "maps"])
def test_images_of_a_batch_do_not_see_each_other(config: TNRDConfig, maps: bool) -> None:
    model, x = random_model(config), picture(config, 3, 8, 7)
    sigma = 0.3 * torch.rand(3, 1, 8, 7) if maps else torch.tensor([0.02, 0.1, 0.3])
    together = model(x, sigma)
    for n in range(3):
        torch.testing.assert_close(model(x[n : n + 1], sigma[n : n + 1]), together[n : n + 1], rtol=0, atol=1e-6)


def test_a_map_acts_where_it_says() -> None:
    model, x = random_model(TINY).double(), picture(TINY, 1, 12, 40, dtype=torch.float64)
    sigma = torch.zeros(1, 1, 12, 40, dtype=torch.float64)
    sigma[..., 20:] = 0.2
    result = model(x, sigma)
    reach = model.dependence_radius
    assert torch.equal(result[..., : 20 - reach], x[..., : 20 - reach])
    torch.testing.assert_close(result[..., 20 + reach :], model(x, 0.2)[..., 20 + reach :], rtol=0, atol=1e-12)


def test_a_cell_of_several_pixels_has_the_mean_of_their_variances() -> None:
    """On the half-resolution grid the noise level of a cell is the root mean square of its pixels' levels."""
    model, x = random_model(HALF), picture(HALF, 1, 8, 6)
    sigma = torch.tensor([0.05, 0.25]).repeat(3).expand(1, 1, 8, 6)
    level = math.sqrt((0.05**2 + 0.25**2) / 2)
    torch.testing.assert_close(model(x, sigma), model(x, level), rtol=0, atol=1e-5)


@every_config
def test_sigma_of_one_level_everywhere_scales_with_the_picture(config: TNRDConfig) -> None:
    """With constant curves psi_sigma(z) = sigma psi(z/sigma): a x at a sigma gives a times the result of x at sigma."""
    model = random_model(dataclasses.replace(config, sigma_degree=0)).double()
    x = picture(config, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(model(3 * x, 0.3), 3 * model(x, 0.1), rtol=1e-9, atol=1e-9)


@every_config
def test_brightness_is_carried_through(config: TNRDConfig) -> None:
    model, x = random_model(config).double(), picture(config, 1, 9, 6, dtype=torch.float64)
    # The filters' basis is kept in float32: a constant leaks by its rounding, 1e-7, not more.
    torch.testing.assert_close(model(x + 0.5, 0.1), model(x, 0.1) + 0.5, rtol=0, atol=2e-6)


# --- stopping early


@every_config
def test_strength_runs_along_the_trajectory(config: TNRDConfig) -> None:
    config = dataclasses.replace(config, stages=3)
    model, x = random_model(config), picture(config, 1, 7, 8)
    pictures = list(model.trajectory(x, 0.1))
    assert torch.equal(model(x, 0.1, strength=0.0), x)
    assert torch.equal(model(x, 0.1, strength=1.0), model(x, 0.1))
    for t in range(4):
        torch.testing.assert_close(model(x, 0.1, strength=t / 3), pictures[t], rtol=0, atol=1e-6)
    for t, part in ((0, 0.25), (1, 0.5), (2, 0.9)):
        expected = (1 - part) * pictures[t] + part * pictures[t + 1]
        torch.testing.assert_close(model(x, 0.1, strength=(t + part) / 3), expected, rtol=0, atol=1e-6)


@given(strength=st.floats(0, 1))
@settings(max_examples=15)
def test_every_strength_lies_between_two_states(strength: float) -> None:
    config = dataclasses.replace(TINY, stages=5)
    model, x = random_model(config, scale=0.05), picture(config, 1, 4, 4)
    pictures = torch.stack(list(model.trajectory(x, 0.1)))
    time = strength * 5
    before = min(int(time), 4)
    expected = torch.lerp(pictures[before], pictures[before + 1], time - before)
    torch.testing.assert_close(model(x, 0.1, strength), expected, rtol=0, atol=1e-6)


# --- the reach of dependence


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        HALF,
        COLOUR,
        dataclasses.replace(TINY, kernel_size=5),
        dataclasses.replace(TINY, kernel_size=1, vanishing_moments=(0,)),
        dataclasses.replace(HALF, stages=3, companions=0),
        dataclasses.replace(TINY, grid=3, stages=1),
        SCALES,
        dataclasses.replace(HALF, scales=2, stages=1),
        dataclasses.replace(TINY, scales=3, stages=1),
        dataclasses.replace(TINY, scales=3, stages=1, coarse_kernels="rediscretised"),
    ],
    ids=lambda c: f"k{c.kernel_size} T{c.stages} g{c.grid} C{c.channels}+{c.companions} S{c.scales}{c.coarse_kernels}",
)
def test_dependence_radius_is_safe_and_not_wasteful(config: TNRDConfig) -> None:
    model = random_model(config, scale=0.5).double()
    radius = model.dependence_radius
    side = config.cell * (2 * radius // config.cell + 4) + 1  # a whole number of cells and a pixel more
    x = picture(config, 1, side, side, dtype=torch.float64)
    result = model(x, 0.2)
    rows, columns = torch.arange(side)[:, None], torch.arange(side)[None, :]
    reached = 0
    # Every phase of a cell; which one reaches farthest depends on the direction.
    for phase in range(config.cell):
        middle = side // 2 + phase
        other = x.clone()
        other[:, :, middle, middle] += 0.5
        changed = (model(other, 0.2) != result).any(1)[0]
        distance = torch.maximum((rows - middle).abs(), (columns - middle).abs())
        reached = max(reached, int(distance[changed].max()))
    assert reached <= radius, "a pixel outside the radius was reached"
    assert reached > radius - 2 * config.cell, "the radius is larger than what is ever reached"


# --- engines and precision


@every_config
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (17, 31)], ids=str)
def test_engines_agree_on_results_and_gradients(config: TNRDConfig, size: tuple[int, int]) -> None:
    x, outcomes = picture(config, 2, *size), []
    for engine in ("torch", "numba"):
        model = random_model(config).requires_grad_(True)
        model.engine = engine
        result = model(x, torch.tensor([0.05, 0.2]))
        result.square().sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.numel()}
        outcomes.append((result.detach(), gradients))
    (expected, reference), (actual, gradients) = outcomes
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    for name, gradient in reference.items():
        assert gradient is not None, name
        # A response that rounding carries over a knot takes the slope of the next piece, so not quite 1e-5 here.
        atol = 1e-3 * float(gradient.abs().max()) + 1e-6
        torch.testing.assert_close(gradients[name], gradient, rtol=0, atol=atol, msg=name)


@every_config
def test_float32_and_float64_agree(config: TNRDConfig) -> None:
    model, x = random_model(config), picture(config, 2, 9, 8)
    single = model(x, 0.1)
    double = model.double()(x.double(), 0.1)
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=0, atol=2e-5)


@every_config
def test_table_and_exact_sum_agree(config: TNRDConfig) -> None:
    x = picture(config, 1, 9, 8, dtype=torch.float64)
    table, exact = (random_model(config, exact=exact).double()(x, 0.1) for exact in (False, True))
    difference = float((table - exact).abs().max())
    assert 0 < difference < 2e-3


def test_engine_asked_for_by_name_does_not_give_way() -> None:
    model = random_model(TINY).double()
    model.engine = "numba"
    with pytest.raises(ValueError, match=r"Engine 'numba' computes float32 on the CPU, got torch\.float64"):
        model(picture(TINY, 1, 4, 4, dtype=torch.float64), 0.1)
    model.engine = "abacus"
    with pytest.raises(ValueError, match="engine must be one of auto, torch, numba, triton, got 'abacus'"):
        model(picture(TINY, 1, 4, 4, dtype=torch.float64), 0.1)


@every_config
def test_same_bytes_from_run_to_run_and_for_a_copy(config: TNRDConfig) -> None:
    model, x = random_model(config), picture(config, 2, 33, 21)
    first = model(x, 0.1).contiguous().numpy().tobytes()
    assert model(x, 0.1).contiguous().numpy().tobytes() == first
    assert copy.deepcopy(model)(x, 0.1).contiguous().numpy().tobytes() == first


@pytest.mark.cuda
@every_config
def test_cuda_agrees_with_the_cpu(config: TNRDConfig) -> None:
    model, x = random_model(config), picture(config, 2, 33, 21)
    expected = model(x, 0.1)
    torch.testing.assert_close(model.cuda()(x.cuda(), 0.1).cpu(), expected, rtol=0, atol=1e-4)


# --- derivatives


SMALL = dataclasses.replace(TINY, filters=2, nodes=3, sigma_degree=1)


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        dataclasses.replace(SMALL, grid=2, companions=1),
        dataclasses.replace(SMALL, channels=2, repeats=2, basis="dct", norm="free"),
    ],
    ids=["grey", "half resolution", "colour, shared, dct"],
)
def test_gradients_of_the_exact_model(config: TNRDConfig) -> None:
    model = random_model(config, exact=True).double().requires_grad_(True)
    names = [name for name, parameter in model.named_parameters() if parameter.numel()]

    def restore(x: Tensor, sigma: Tensor, *parameters: Tensor) -> Tensor:
        values = dict(zip(names, parameters, strict=True))
        result: Tensor = torch.func.functional_call(model, values, (x, sigma))
        return result

    x = picture(config, 2, 3, 3, dtype=torch.float64).requires_grad_()
    sigma = torch.tensor([0.1, 0.25], dtype=torch.float64, requires_grad=True)
    parameters = [model.get_parameter(name) for name in names]
    # The fast mode compares random projections of the Jacobian; test_stage.py compares every entry.
    assert torch.autograd.gradcheck(restore, (x, sigma, *parameters), fast_mode=True)


@every_config
@pytest.mark.parametrize("level", [0.0, 0.1, 75 / 255, 0.5])
def test_gradients_are_finite_at_every_noise_level(config: TNRDConfig, level: float) -> None:
    model = random_model(config).requires_grad_(True)
    for shape in ((), (2,), (2, 1, 6, 7)):
        x, sigma = picture(config, 2, 6, 7).requires_grad_(), torch.full(shape, level, requires_grad=True)
        model(x, sigma).sum().backward()
        for tensor in (x, sigma, *(p for p in model.parameters() if p.numel())):
            assert tensor.grad is not None
            assert bool(torch.isfinite(tensor.grad).all()), f"sigma of shape {shape}"


# --- energy


def gentle_shared_model(config: TNRDConfig) -> TNRD:
    torch.manual_seed(0)
    model = TNRD(dataclasses.replace(config, repeats=12, stages=12)).double()
    model.stage(0).influence.exact = True
    with torch.no_grad():
        model.stage(0).influence.weights.mul_(0.5)
    return model


@pytest.mark.parametrize("config", [TINY, dataclasses.replace(TINY, channels=3), dataclasses.replace(TINY, grid=2)])
def test_a_shared_model_descends_on_its_energy(config: TNRDConfig) -> None:
    model = gentle_shared_model(config)
    f = picture(config, 2, 10, 8, dtype=torch.float64)
    sigma = torch.tensor([0.1, 0.3], dtype=torch.float64)
    with torch.no_grad():
        energies = torch.stack([model.energy(u, f, sigma) for u in model.trajectory(f, sigma)])
    assert energies.shape == (13, 2)
    drops = -energies.diff(dim=0)
    assert bool((drops > 0).all())
    assert float(drops[-1].max()) < 0.1 * float(drops[0].min()), "it settles"


@pytest.mark.parametrize("config", [TINY, dataclasses.replace(TINY, grid=2)])
def test_the_step_of_a_shared_model_is_the_gradient_of_its_energy(config: TNRDConfig) -> None:
    model = random_model(dataclasses.replace(config, repeats=1, stages=1), exact=True).double()
    f = picture(config, 1, 6, 8, dtype=torch.float64)
    sigma = 0.05 + 0.1 * torch.rand(1, 1, 6, 8, dtype=torch.float64)
    step = f - model(f, sigma)
    direction = torch.randn_like(f)
    h = 1e-5
    slope = (model.energy(f + h * direction, f, sigma) - model.energy(f - h * direction, f, sigma)) / (2 * h)
    assert float(slope) == pytest.approx(float((step * direction).sum()), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(
    "config",
    [TINY, dataclasses.replace(TINY, companions=1, repeats=2), dataclasses.replace(SCALES, repeats=2)],
    ids=str,
)
def test_a_model_without_one_energy_says_so(config: TNRDConfig) -> None:
    x = picture(config, 1, 4, 4)
    with pytest.raises(ValueError, match="one set of weights, one grid and no companions"):
        TNRD(config).energy(x, x, 0.1)


def test_energy_refuses_an_observation_of_another_size() -> None:
    model = TNRD(dataclasses.replace(TINY, repeats=2))
    with pytest.raises(ValueError, match=r"\(1, 1, 4, 4\)"):
        model.energy(picture(TINY, 1, 4, 4), picture(TINY, 1, 1, 1), 0.1)


def test_shared_weights_are_stored_once() -> None:
    shared, separate = TNRD(dataclasses.replace(TINY, repeats=2)), TNRD(TINY)
    assert shared.stage(0) is shared.stage(1)
    assert separate.stage(0) is not separate.stage(1)
    assert isinstance(separate.stage(1), DiffusionStage)
    count = [sum(p.numel() for p in model.parameters()) for model in (shared, separate)]
    assert 2 * count[0] == count[1]


# --- a denoiser to plug in


@every_config
def test_a_new_model_already_denoises(config: TNRDConfig) -> None:
    """The initial edge-stopping psi is a sensible diffusion: it smooths noise and keeps a step edge."""
    torch.manual_seed(0)
    clean = torch.full((1, config.channels, 32, 32), 0.3)
    clean[..., 16:] = 0.7
    noisy = clean + 0.1 * torch.randn_like(clean)
    with torch.no_grad():
        error = (TNRD(dataclasses.replace(config, stages=5))(noisy, 0.1) - clean).square().mean()
    assert float(error) < 0.8 * float((noisy - clean).square().mean())


def test_plug_and_play_gradients_reach_the_image() -> None:
    denoiser: torch.nn.Module = random_model(TINY).eval()
    x = picture(TINY, 1, 6, 6).requires_grad_()
    loss = 0.5 * (x - denoiser(x, torch.tensor(0.1))).square().sum()
    loss.backward()
    assert x.grad is not None
    assert bool(x.grad.any())


# --- configuration


def test_config_survives_json() -> None:
    config = dataclasses.replace(HALF, node_width=0.7, repeats=2)
    assert TNRDConfig.from_dict(json.loads(json.dumps(dataclasses.asdict(config)))) == config
    assert TNRDConfig.from_dict({}) == TNRDConfig()


def test_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TINY.stages = 3  # type: ignore[misc]


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(ValueError, match=r"Unknown model setting depth, kernal_size; known are accuracy, basis"):
        TNRDConfig.from_dict({"kernal_size": 3, "depth": 2, "stages": 1})


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"stages": 0}, "stages must be at least 1, got 0"),
        ({"sigma_degree": -1}, "sigma_degree must be at least 0, got -1"),
        ({"kernel_size": 4}, "odd size, got 3 filters of size 4"),
        ({"filters": 0}, "at least one filter"),
        ({"channels": 0}, "channels and grid must be at least 1"),
        ({"nodes": 1}, "2 nodes or more"),
        ({"reach": -1.0}, "positive reach"),
        ({"basis": "haar"}, "basis must be one of"),
        ({"norm": "big"}, "norm must be one of"),
        ({"transposes": "false"}, "transposes must be true or false, got 'false'"),
        ({"transposes": True}, "even in number, got 3"),
        ({"vanishing_moments": (9,)}, "vanishing_moments must lie in"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TNRD(dataclasses.replace(TINY, **setting))


# --- bad input

BAD_IMAGES = {
    "colour": (torch.rand(1, 3, 8, 8), r"Expected images \(N, 1, H, W\) with pixels, got \(1, 3, 8, 8\)\."),
    "2 axes": (torch.rand(8, 8), r"Expected images \(N, 1, H, W\) with pixels, got \(8, 8\)\."),
    "3 axes": (torch.rand(1, 8, 8), r"got \(1, 8, 8\)\."),
    "no rows": (torch.rand(1, 1, 0, 8), r"with pixels, got \(1, 1, 0, 8\)\."),
    "no images": (torch.rand(0, 1, 8, 8), r"with pixels, got \(0, 1, 8, 8\)\."),
    "integers": (
        torch.ones(1, 1, 8, 8, dtype=torch.uint8),
        r"Expected float32 or float64 images .*, got torch\.uint8\.",
    ),
    "half": (torch.rand(1, 1, 8, 8).half(), r"got torch\.float16\."),
}
BAD_LEVELS: dict[str, tuple[Any, str]] = {
    "nan": (math.nan, "sigma must be finite and at least 0, got nan to nan"),
    "infinite": (math.inf, "finite and at least 0, got inf to inf"),
    "negative": (-0.1, r"finite and at least 0, got -0\.1"),
    "one negative": (torch.tensor([0.1, -0.2]), r"got -0\.2.* to 0\.1"),
    "3 for 2 images": (torch.rand(3), r"one value, \(N,\) or \(N, 1, H, W\), got \(3,\) for \(2, 1, 8, 8\)"),
    "3 maps for 2 images": (torch.rand(3, 1, 8, 8), r"one value, .*, got \(3, 1, 8, 8\) for \(2, 1, 8, 8\)"),
    "a matrix": (torch.rand(2, 2), r"got \(2, 2\) for \(2, 1, 8, 8\)"),
    "a bare map": (torch.rand(8, 8), r"got \(8, 8\) for \(2, 1, 8, 8\)"),
    "a small map": (torch.rand(2, 1, 4, 4), r"A noise map must have the size of the image, got \(2, 1, 4, 4\)"),
    "a map per channel": (torch.rand(2, 3, 8, 8), r"got \(2, 3, 8, 8\)"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_what_is_no_batch_of_images_is_refused(kind: str) -> None:
    x, sentence = BAD_IMAGES[kind]
    with pytest.raises(ValueError, match=sentence):
        random_model(TINY)(x, 0.1)


@pytest.mark.parametrize("kind", BAD_LEVELS)
def test_what_is_no_noise_level_is_refused(kind: str) -> None:
    sigma, sentence = BAD_LEVELS[kind]
    with pytest.raises(ValueError, match=sentence):
        random_model(TINY)(picture(TINY, 2, 8, 8), sigma)


@pytest.mark.parametrize("strength", [-0.1, 1.1, math.nan, math.inf])
def test_strength_out_of_range_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match=rf"strength must lie in \[0, 1\], got {strength}"):
        random_model(TINY)(picture(TINY, 1, 4, 4), 0.1, strength)


def test_bad_input_is_refused_at_strength_0_too() -> None:
    model = random_model(TINY)
    for x, sentence in BAD_IMAGES.values():
        with pytest.raises(ValueError, match=sentence):
            model(x, 0.1, strength=0.0)
    for sigma, sentence in BAD_LEVELS.values():
        with pytest.raises(ValueError, match=sentence):
            model(picture(TINY, 2, 8, 8), sigma, strength=0.0)


@pytest.mark.parametrize("image", [torch.float32, torch.float64])
def test_an_image_of_another_precision_than_the_model_is_refused(image: torch.dtype) -> None:
    other = torch.float64 if image == torch.float32 else torch.float32
    model = random_model(TINY).to(other)
    with pytest.raises(ValueError, match=rf"{image}.*{other}|{other}.*{image}"):
        model(picture(TINY, 1, 4, 4, dtype=image), 0.1)


def test_strength_0_gives_a_copy() -> None:
    x = picture(TINY, 1, 4, 4)
    result = random_model(TINY)(x, 0.1, strength=0.0)
    assert torch.equal(result, x)
    assert result.data_ptr() != x.data_ptr()


def test_energy_refuses_sides_that_are_not_whole_cells() -> None:
    model = TNRD(dataclasses.replace(TINY, repeats=2, grid=2))
    x = picture(TINY, 1, 7, 8)
    with pytest.raises(ValueError, match="multiples of the grid 2"):
        model.energy(x, x, 0.1)
