"""Preparation of all steps at once: together on a GPU, kept while the weights stay where one only restores."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tnrd.config import TNRDConfig
from tnrd.filters import FilterBank
from tnrd.influence import RadialBasisInfluence
from tnrd.kernels import step_numba
from tnrd.kernels.dispatch import diffusion_step
from tnrd.kernels.plan_numba import arrange
from tnrd.model import TNRD
from tnrd.preparation import prepare_on_gpu, prepare_together
from tnrd.stage import DiffusionStage, Prepared

SHAPE = TNRDConfig(stages=4, filters=4, kernel_size=3, grid=2, companions=2, nodes=9, repeats=2, transposes=True)


pytestmark = pytest.mark.usefixtures("double_precision")


def scrambled(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)


def random_stage(coarser: int = 0) -> DiffusionStage:
    influences = [RadialBasisInfluence(4, 9, reach=4.0) for _ in range(1 + coarser)]
    stage = DiffusionStage(FilterBank(4, 3), influences[0], 0.4, 2, influences[1:])
    scrambled(stage)
    return stage


def random_model(config: TNRDConfig = SHAPE) -> TNRD:
    model = TNRD(config)
    scrambled(model)
    return model


# --- together


@pytest.mark.parametrize("coarser", [0, 1])
@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (1, 1, 4, 6)])
def test_stages_prepared_together_are_those_prepared_one_by_one(coarser: int, shape: tuple[int, ...]) -> None:
    stages = [random_stage(coarser) for _ in range(3)]
    sigma = 0.2 * torch.rand(shape)
    parameters = [p for stage in stages for p in stage.parameters()]

    def gradients(found: list[list[Prepared]]) -> tuple[Tensor, ...]:
        total = sum(t.square().sum() * (1 + i) for i, grids in enumerate(found) for grid in grids for t in grid.tensors)
        assert isinstance(total, Tensor)
        return torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)

    names = [dict(stage.named_parameters()) for stage in stages]
    together, alone = prepare_together(stages, sigma), [stage.prepare(sigma) for stage in stages]
    assert all(now[name] is p for now, stage in zip(names, stages, strict=True) for name, p in stage.named_parameters())
    for grids, expected in zip(together, alone, strict=True):
        torch.testing.assert_close([tuple(grid) for grid in grids], [tuple(grid) for grid in expected])
    torch.testing.assert_close(gradients(together), gradients(alone))


def test_stages_that_do_not_learn_are_prepared_without_a_gradient() -> None:
    stages = [random_stage().requires_grad_(t == 1) for t in range(3)]
    found = prepare_together(stages, torch.full((1, 1, 1, 1), 0.1))
    assert [any(t.requires_grad for grid in grids for t in grid.tensors) for grids in found] == [False, True, False]


def test_stages_that_do_not_learn_pass_on_derivatives_for_the_noise_level() -> None:
    stages = [random_stage().requires_grad_(t == 1) for t in range(3)]
    sigma = torch.full((1, 1, 1, 1), 0.1, requires_grad=True)

    def slope(found: list[list[Prepared]]) -> Tensor:
        total = sum(t.square().sum() for grids in found for grid in grids for t in grid.tensors)
        return torch.autograd.grad(total, sigma)[0]  # type: ignore[arg-type]

    torch.testing.assert_close(slope(prepare_together(stages, sigma)), slope([s.prepare(sigma) for s in stages]))


def test_a_buffer_of_one_stage_is_its_own() -> None:
    stages = [random_stage() for _ in range(3)]
    with torch.no_grad():
        stages[1].filters.free[0] = 0
    sigma = torch.full((1, 1, 1, 1), 0.1)
    for together, stage in zip(prepare_together(stages, sigma), stages, strict=True):
        torch.testing.assert_close([grid.tensors for grid in together], [g.tensors for g in stage.prepare(sigma)])


# --- kept


def picture(images: int = 2) -> Tensor:
    return torch.rand(images, 1, 9, 7, generator=torch.Generator().manual_seed(1))


def restored(model: TNRD, sigma: float | Tensor = 0.1, strength: float = 1.0) -> Tensor:
    with torch.no_grad():
        return model(picture(), sigma, strength)


def expected(model: TNRD, sigma: float | Tensor = 0.1, strength: float = 1.0) -> Tensor:
    """With gradients nothing is kept."""
    return model(picture(), sigma, strength).detach()


@pytest.mark.parametrize("sigma", [0.0, 0.1, (0.02, 0.3)], ids=str)
@pytest.mark.parametrize("strength", [0.0, 0.3, 0.5, 1.0])
def test_what_is_kept_gives_the_same_result(sigma: float | tuple[float, ...], strength: float) -> None:
    model = random_model()
    level = torch.tensor(sigma)
    for _ in range(2):
        torch.testing.assert_close(
            restored(model, level, strength), expected(model, level, strength), rtol=0, atol=1e-12
        )


def test_what_is_kept_gives_the_same_result_by_the_compiled_steps() -> None:
    """Also what the steps keep of kernels and tables: for pictures of any width, and until a weight changes."""
    model, level = random_model().float(), torch.tensor([0.02, 0.1, 0.3], dtype=torch.float32)
    for _ in range(2):
        for width in (7, 40, 7):
            x = torch.rand(3, 1, 9, width, dtype=torch.float32)
            alone = model(x, level).detach()
            with torch.inference_mode():
                for _ in range(2):
                    torch.testing.assert_close(model(x, level), alone, rtol=0, atol=1e-6)
        scrambled(model)


def test_a_changed_buffer_and_a_parametrization_are_seen() -> None:
    model = random_model()
    restored(model)
    with torch.no_grad():
        model.stage(0).filters.free.mul_(0.5)
    torch.testing.assert_close(restored(model), expected(model), rtol=0, atol=1e-12)

    class Doubled(nn.Module):
        factor = 2.0

        def forward(self, weights: Tensor) -> Tensor:
            return self.factor * weights

    double = Doubled()
    nn.utils.parametrize.register_parametrization(model.stage(0).influence, "weights", double)
    for double.factor in (2.0, 0.5):
        torch.testing.assert_close(restored(model), expected(model), rtol=0, atol=1e-12)


@pytest.mark.parametrize("components", [1, 5], ids=["plain", "by points"])
def test_a_compiled_step_arranges_constant_kernels_once(components: int, monkeypatch: pytest.MonkeyPatch) -> None:
    arranged: list[Tensor] = []

    def counted(kernels: Tensor, table: Tensor) -> Any:
        arranged.append(kernels)
        return arrange(kernels, table)

    monkeypatch.setattr(step_numba, "arrange", counted)
    u, one = torch.rand(1, components, 9, 20).float(), torch.ones(1, 1, 1, 1).float()
    kernels, table = torch.randn(3, components, 3, 3).float(), torch.randn(3, 40).float()
    scale, kept = one.expand(1, 3, 1, 1), dict[str, Any]()

    def step(keep: dict[str, Any] | None) -> Tensor:
        return diffusion_step(u, u[:, :1], kernels, table, -3.0, 0.15, scale, scale, 0.1 * one, "numba", keep)

    first = step(kept)
    assert torch.equal(step(kept), first) and len(arranged) == 1
    assert torch.equal(step(None), first) and len(arranged) == 2


def test_kernels_and_tables_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, made = random_model(), []

    def counted(original: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
        return lambda module: made.append(module) or original(module)

    monkeypatch.setattr(FilterBank, "forward", counted(FilterBank.forward))
    monkeypatch.setattr(RadialBasisInfluence, "table", counted(RadialBasisInfluence.table))
    for sigma in (0.1, 0.1, 0.2):
        restored(model, sigma)
    parts = [part for stage in model.stages for part in (stage.filters, stage.influence)]
    assert [part for part in made if part is not model.lift] == parts


CHANGES: dict[str, Callable[[TNRD], object]] = {
    "a weight": lambda model: model.stage(3).influence.weights.mul_(1.5),
    "a weight behind autograd's back": lambda model: model.stage(0).influence.weights.data.mul_(1.5),
    "a weight by numpy": lambda model: model.stage(0).influence.weights.detach().numpy().__imul__(1.5),
    "a curve": lambda model: model.stage(0).reaction.theta.add_(0.5),
    "a step of an optimiser": lambda model: torch._foreach_add_(list(model.parameters()), 0.1),
    "other weights": lambda model: model.load_state_dict(random_model().state_dict()),
    "other weights put in place": lambda model: model.load_state_dict(random_model().state_dict(), assign=True),
    "a setting": lambda model: setattr(model.stage(0).filters, "norm", "free"),
    "the exact sum": lambda model: setattr(model.stage(1).influence, "exact", True),
    "one step for another": lambda model: model.stages.__setitem__(0, model.stages[1]),
    "a hook": lambda model: model.stage(0).filters.register_forward_hook(lambda _, __, kernels: 0.5 * kernels),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_is_seen(change: Callable[[TNRD], object]) -> None:
    model = random_model()
    before = restored(model)
    with torch.no_grad():
        change(model)
    after = restored(model)
    torch.testing.assert_close(after, expected(model), rtol=0, atol=1e-12)
    assert not torch.equal(after, before)


def hooked(model: TNRD) -> None:
    model.stage(1).filters.register_forward_hook(lambda module, inputs, output: 2 * output)


def own_norm(model: TNRD) -> None:
    model.stage(1).filters.norm = "free"


def parametrized(model: TNRD) -> None:
    nn.utils.parametrize.register_parametrization(model.stage(0).influence, "weights", nn.Identity())


def replaced(model: TNRD) -> None:
    """As nn.DataParallel makes its replicas."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            del module._parameters[name]
            setattr(module, name, parameter * 1.0)


def hooked_backward(model: TNRD) -> None:
    model.stage(1).filters.register_full_backward_hook(lambda module, to_inputs, to_outputs: None)


@pytest.mark.parametrize("change", [None, hooked, own_norm, parametrized, replaced])
def test_what_tells_steps_apart_is_seen_on_a_gpu_too(change: Callable[[TNRD], None] | None) -> None:
    model, sigma = random_model(), torch.full((1, 1, 1, 1), 0.1, dtype=torch.float64)
    if change is not None:
        change(model)
    stages = [model.stage(t) for t in range(model.config.stages)]
    for found, stage in zip(prepare_on_gpu(model, stages, sigma), stages, strict=True):
        for tensor, wanted in zip(found[0].tensors, stage.prepare(sigma)[0].tensors, strict=True):
            torch.testing.assert_close(tensor, wanted)


@pytest.mark.parametrize("engine", ["auto", "torch"])
@pytest.mark.parametrize("gradients", [False, True])
def test_autocast_does_not_reach_the_model(engine: str, gradients: bool) -> None:
    model, x = random_model().float(), picture().float()
    model.engine = engine
    with torch.set_grad_enabled(gradients):
        before = model(x, 0.1)
        with torch.autocast("cpu", torch.bfloat16):
            during = model(x, 0.1)
            states = [torch.is_autocast_enabled("cpu") for _ in model.states(x, 0.1)]
        after = model(x, 0.1)
    assert all(states), "what the caller does with a state is the caller's"
    assert torch.equal(during, before)
    assert torch.equal(after, before)


def test_autocast_does_not_reach_the_energy() -> None:
    model, x = TNRD(TNRDConfig(stages=2, repeats=2, filters=3, kernel_size=3)).float(), picture().float()
    energy = model.energy(x, x.flip(-1), 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.energy(x, x.flip(-1), 0.1), energy)


def test_a_copy_keeps_its_own() -> None:
    model = random_model()
    before = restored(model)
    size = len(pickle.dumps(random_model()))
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.stage(0).influence.weights.mul_(2)
    torch.testing.assert_close(restored(twin), expected(twin), rtol=0, atol=1e-12)
    assert torch.equal(restored(model), before)
    assert len(pickle.dumps(model)) == size, "what is kept travels with the model"


def test_parameters_put_in_place_for_a_call_are_used() -> None:
    model = random_model()
    before = restored(model)
    others = {name: 1.1 * p.detach() for name, p in model.named_parameters()}
    with torch.no_grad():
        result = torch.func.functional_call(model, others, (picture(), 0.1))
    assert (result - before).abs().max() > 1e-6
    assert torch.equal(restored(model), before)
    model.load_state_dict(others)
    torch.testing.assert_close(result, expected(model), rtol=0, atol=1e-12)


def test_a_model_made_in_inference_mode() -> None:
    with torch.inference_mode():
        model = random_model()
        before = restored(model)
        model.stage(0).influence.weights.mul_(2)
        assert not torch.equal(restored(model), before)


def test_what_was_kept_in_inference_mode_does_not_stop_a_gradient() -> None:
    model, x = random_model(), picture()
    with torch.inference_mode():
        kept = model(x, 0.1)
    y = x.clone().requires_grad_()
    model(y, 0.1).sum().backward()
    assert y.grad is not None
    with torch.no_grad():
        torch.testing.assert_close(model(x, 0.1), kept, rtol=0, atol=1e-12)


def test_backward_hooks_on_parts_of_a_step_are_seen() -> None:
    from tnrd.preparation import tensors_of

    model = random_model()
    assert tensors_of(model, buffers=False)
    hooked_backward(model)
    assert tensors_of(model, buffers=False) is None
