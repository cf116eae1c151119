"""One step of the diffusion: the gradient of its energy, what it conserves, and its derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tnrd.filters import Components, FilterBank
from tnrd.influence import RadialBasisInfluence, SigmaCurve
from tnrd.kernels.correlate_torch import correlate
from tnrd.kernels.step_torch import diffusion_force
from tnrd.stage import DiffusionStage, initial_influence, lift_bank

LAYOUTS = [Components(), Components(channels=3), Components(grid=2, companions=2)]


pytestmark = pytest.mark.usefixtures("double_precision")


def random_stage(
    components: Components | None = None, *, exact: bool = True, filters: int = 4, size: int = 3, nodes: int = 9
) -> DiffusionStage:
    """A stage of which nothing is symmetric: random filters, influence functions that are not odd, curves that bend."""
    bank = FilterBank(filters, size, components, vanishing_moments=(1, 2))
    stage = DiffusionStage(bank, RadialBasisInfluence(filters, nodes, reach=4.0), reaction=0.4, degree=2)
    with torch.no_grad():
        for parameter in stage.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    stage.influence.exact = exact
    return stage


def state(components: Components, height: int = 5, width: int = 6, images: int = 2) -> tuple[Tensor, Tensor]:
    """A state u and an observation f on the computational grid."""
    u = torch.rand(images, components.total, height, width)
    return u, u[:, : components.observed] + 0.1 * torch.randn(images, components.observed, height, width)


def noise_level(kind: str, u: Tensor) -> Tensor:
    n, _, h, w = u.shape
    shapes = {"one level": (1, 1, 1, 1), "per image": (n, 1, 1, 1), "per pixel": (n, 1, h, w)}
    return 0.05 + 0.2 * torch.rand(shapes[kind])


# --- the step and its energy


@pytest.mark.parametrize("kind", ["one level", "per image", "per pixel"])
@pytest.mark.parametrize("components", LAYOUTS, ids=str)
def test_the_step_is_the_gradient_of_the_energy(components: Components, kind: str) -> None:
    stage = random_stage(components)
    u, f = state(components)
    sigma = noise_level(kind, u)
    step = u - stage(u, f, sigma).detach()
    for _ in range(2):
        direction = torch.randn_like(u)
        h = 1e-5
        slope = (stage.energy(u + h * direction, f, sigma) - stage.energy(u - h * direction, f, sigma)) / (2 * h)
        assert slope.shape == (2,)
        torch.testing.assert_close((step * direction).flatten(1).sum(1), slope, rtol=1e-7, atol=1e-8)


def test_the_step_from_the_table_is_nearly_the_exact_one() -> None:
    stage = random_stage()
    u, f = state(Components())
    sigma = torch.full((2, 1, 1, 1), 0.1)
    exact = stage(u, f, sigma).detach()
    stage.influence.exact = False
    _, outer = stage.scales(sigma)
    # The table's error goes through outer * K^T, whose norm from sup to sup is that of the kernels' sums.
    sums = stage.filters().detach().abs().sum((1, 2, 3))
    bound = float((outer[0, :, 0, 0] * stage.influence.table_error() * sums).sum().detach())
    difference = float((stage(u, f, sigma).detach() - exact).abs().max())
    # At the border K^T folds the margin back onto the image: up to four taps of a kernel meet there.
    assert 0 < difference <= 4 * bound


def test_the_force_follows_its_formula() -> None:
    """In the interior K^T psi is sum_i sum_y q_i[y] psi_i(x - y), written out."""
    u, kernels = torch.randn(1, 2, 7, 7), torch.randn(3, 2, 3, 3)
    psi = torch.tanh(correlate(u, kernels))
    taps = [(i, a, b) for i in range(3) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    expected = sum(float(kernels[i, 1, 1 + a, 1 + b] * psi[0, i, 3 - a, 3 - b]) for i, a, b in taps)
    assert float(diffusion_force(u, kernels, torch.tanh)[0, 1, 3, 3]) == pytest.approx(expected)


def test_an_influence_may_look_at_all_responses_at_once() -> None:
    """The coupled Perona-Malik flux g(|grad u|) grad u, whose force is the gradient of sum log(1 + |grad u|^2)/2."""
    forward = torch.zeros(2, 1, 3, 3)
    forward[0, 0, 1, 1:] = forward[1, 0, 1:, 1] = torch.tensor([-1.0, 1.0])
    u = torch.randn(1, 1, 6, 5, requires_grad=True)

    def flux(z: Tensor) -> Tensor:
        return z / (1 + z.square().sum(1, keepdim=True))

    energy = 0.5 * torch.log1p(correlate(u, forward).square().sum(1)).sum()
    (gradient,) = torch.autograd.grad(energy, u)
    torch.testing.assert_close(diffusion_force(u.detach(), forward, flux), gradient)


# --- what a step conserves


@pytest.mark.parametrize("components", LAYOUTS, ids=str)
def test_without_noise_nothing_moves(components: Components) -> None:
    u, f = state(components)
    observed = torch.cat([f, u[:, components.observed :]], dim=1)
    for sigma in (torch.zeros(1, 1, 1, 1), torch.zeros(2, 1, 5, 6)):
        assert torch.equal(random_stage(components)(observed, f, sigma), observed)


@pytest.mark.parametrize("components", LAYOUTS, ids=str)
def test_brightness_is_carried_through(components: Components) -> None:
    """Filters on the picture have a vanishing moment: u + c and f + c give the result + c."""
    stage = random_stage(components, exact=False)
    u, f = state(components)
    shift = torch.zeros_like(u)
    shift[:, : components.observed] = 0.37
    sigma = noise_level("per pixel", u)
    shifted = stage(u + shift, f + shift[:, : components.observed], sigma)
    # From the table a rounding error of the response is all that can differ.
    torch.testing.assert_close(shifted, stage(u, f, sigma) + shift, rtol=0, atol=1e-12)


@pytest.mark.parametrize("components", [Components(), Components(3), Components(grid=2)], ids=str)
def test_the_mean_is_preserved(components: Components) -> None:
    """<1, K^T psi> = <K 1, psi> = 0: the diffusion only moves intensity about, borders included."""
    stage = random_stage(components)
    u, _ = state(components)
    f = u  # no reaction
    moved = stage(u, f, noise_level("per pixel", u)).detach()
    assert float((moved - u).abs().max()) > 1e-3
    whole = (2, 3) if components.grid == 1 else (1, 2, 3)
    torch.testing.assert_close(moved.mean(whole), u.mean(whole), rtol=0, atol=1e-13)


def test_a_constant_image_stays_for_odd_influence_functions_only() -> None:
    stage = random_stage()
    constant = torch.full((1, 1, 6, 7), 0.6)
    sigma = torch.full((1, 1, 1, 1), 0.1)
    assert float((stage(constant, constant, sigma).detach() - constant).abs().max()) > 1e-6, "psi(0) is not 0"
    with torch.no_grad():
        stage.influence.weights -= stage.influence.weights.flip(1)  # odd: psi(-z) = -psi(z)
    torch.testing.assert_close(stage(constant, constant, sigma).detach(), constant, rtol=0, atol=1e-13)


@pytest.mark.parametrize("components", LAYOUTS, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (2, 1), (3, 7)], ids=str)
def test_any_size_of_image(components: Components, shape: tuple[int, int]) -> None:
    u, f = state(components, *shape)
    for exact in (True, False):
        for kind in ("per image", "per pixel"):
            after = random_stage(components, exact=exact, size=5)(u, f, noise_level(kind, u))
            assert after.shape == u.shape
            assert bool(torch.isfinite(after).all())


def test_inputs_are_not_changed() -> None:
    components = LAYOUTS[-1]
    u, f = state(components)
    sigma = noise_level("per pixel", u)
    copies = [tensor.clone() for tensor in (u, f, sigma)]
    stage = random_stage(components)
    stage(u, f, sigma)
    stage.energy(u, f, sigma)
    for tensor, copy in zip((u, f, sigma), copies, strict=True):
        assert torch.equal(tensor, copy)


# --- derivatives


@pytest.mark.parametrize(
    ("components", "kind", "exact"),
    [
        (Components(), "per pixel", True),
        (Components(), "per pixel", False),
        (Components(grid=2, companions=1), "per image", True),
    ],
    ids=["grey", "grey, from the table", "half resolution"],
)
def test_gradients_of_a_step(components: Components, kind: str, exact: bool) -> None:
    stage = random_stage(components, exact=exact, filters=2, nodes=4)
    names = [name for name, parameter in stage.named_parameters() if parameter.numel()]
    assert len(names) == 5 + (components.companions > 0)
    u, f = state(components, 2, 2, images=1)
    sigma = noise_level(kind, u)

    def step(u: Tensor, f: Tensor, sigma: Tensor, *parameters: Tensor) -> Tensor:
        values = dict(zip(names, parameters, strict=True))
        after: Tensor = torch.func.functional_call(stage, values, (u, f, sigma))
        return after

    parameters = [stage.get_parameter(name) for name in names]
    leaves = [tensor.requires_grad_() for tensor in (u, f, sigma)]
    # The fast mode compares random projections of the Jacobian, the slow one every entry.
    assert torch.autograd.gradcheck(step, (*leaves, *parameters), fast_mode=components.total > 1)


# --- how a stage starts


def test_the_initial_influence_is_edge_stopping() -> None:
    psi = initial_influence(0.2)
    z = np.linspace(-12, 12, 4801)
    values = psi(z)
    np.testing.assert_allclose(values, -psi(-z), atol=1e-15)
    assert z[np.argmax(values)] == pytest.approx(3)
    assert values.max() == pytest.approx(0.2 * 3 / 2)
    assert float(psi(np.array([1e-6]))[0]) == pytest.approx(0.2e-6)


@pytest.mark.parametrize("components", [Components(1, 1, 3), Components(3, 2, 5)], ids=str)
def test_companions_are_lifted_from_differences_of_the_picture(components: Components) -> None:
    kernels = lift_bank(components)().detach()
    assert kernels.shape == (components.companions, components.observed, 3, 3)
    flat = torch.full((1, components.observed, 4, 4), 0.8)
    assert float(correlate(flat, kernels).abs().max()) < 1e-13


@pytest.mark.parametrize("change", ["hook", "degree", "kind"])
def test_curves_of_a_step_may_be_of_their_own(change: str) -> None:
    """They are taken together only where that is what each would return."""
    sigma = torch.tensor([0.02, 0.2]).view(2, 1, 1, 1)
    filters = FilterBank(4, 3)
    stage = DiffusionStage(filters, RadialBasisInfluence(4, nodes=5), reaction=0.3, degree=2)
    before = stage.prepare(sigma)[0]
    if change == "hook":
        stage.reaction.register_forward_hook(lambda module, inputs, output: 2 * output)
    elif change == "degree":
        stage.reaction = SigmaCurve(1, 3, initial=0.6)
    else:
        stage.reaction = type("Other", (SigmaCurve,), {"forward": lambda self, sigma: 0.6 + 0 * sigma})(1)
    after = stage.prepare(sigma)[0]
    torch.testing.assert_close(after.reaction, 2 * before.reaction)
    torch.testing.assert_close((after.inner, after.outer), (before.inner, before.outer))
