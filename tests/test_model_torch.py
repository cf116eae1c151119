"""What users of torch do with a model: train it distributed, compile, export, transform it, misspell its settings."""

from __future__ import annotations

import copy
import shutil

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from tnrd.config import TNRDConfig
from tnrd.filters import FilterBank
from tnrd.model import TNRD

SMALL = TNRDConfig(stages=2, filters=4, kernel_size=3, grid=2, companions=2, nodes=9)


@pytest.mark.parametrize("config", [TNRDConfig(stages=1, filters=2, kernel_size=3), SMALL], ids=["plain", "system"])
def test_every_parameter_has_a_gradient(config: TNRDConfig) -> None:
    """DistributedDataParallel waits for all of them."""
    model = TNRD(config)
    model(torch.rand(1, 1, 8, 8), 0.1).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_the_noise_level_is_an_input_of_an_exported_graph(engine: str) -> None:
    model, x = TNRD(SMALL).float(), torch.rand(2, 1, 8, 10).float()
    model.engine = engine
    exported = torch.export.export(model, (x, torch.tensor(0.1))).module()
    for sigma in (0.1, 0.3):
        torch.testing.assert_close(exported(x, torch.tensor(sigma)), model(x, sigma))


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler of C++")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it traces
def test_a_number_is_an_input_of_a_compiled_graph() -> None:
    """A graph for each would end at torch's limit of eight."""
    model, x = TNRD(SMALL), torch.rand(1, 1, 8, 10)
    compiled = torch.compile(lambda x, sigma: x / model.check(x, sigma), fullgraph=True)
    for i in range(10):
        torch.testing.assert_close(compiled(x, 0.1 + i / 50), x / (0.1 + i / 50))


COARSE = TNRDConfig(stages=1, filters=4, kernel_size=3, channels=3, scales=2, nodes=9)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of forward mode
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("config", [SMALL, COARSE], ids=["system", "coarse"])
def test_derivatives_in_every_mode_of_torch(config: TNRDConfig, dtype: torch.dtype, exact: bool) -> None:
    """Those of the torch engine in reverse mode, whatever engine "auto" means."""
    model = TNRD(config).to(dtype).requires_grad_(False)
    for stage in model.stages:
        stage.influence.exact = exact  # type: ignore[union-attr]
    reference = copy.deepcopy(model)
    reference.engine = "torch"
    x, v, w = (torch.rand(2, config.channels, 6, 8, dtype=dtype) for _ in range(3))
    leaf = x.clone().requires_grad_()
    y = reference(leaf, 0.1)
    (gradient,) = torch.autograd.grad(y, leaf, w)

    def denoise(x: Tensor) -> Tensor:
        return model(x, 0.1)  # type: ignore[no-any-return]

    def close(found: Tensor, expected: Tensor) -> None:
        tolerance = 1e-4 if dtype == torch.float32 else 1e-10
        torch.testing.assert_close(
            found, expected, rtol=tolerance, atol=tolerance * float(expected.detach().abs().max())
        )

    with torch.no_grad(), forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(denoise(forward_ad.make_dual(x, v))).tangent
    close((w * tangent).sum(), (gradient * v).sum())
    close(torch.func.jvp(denoise, (x,), (v,))[1], tangent)
    close(torch.func.vjp(denoise, x)[1](w)[0], gradient)
    close(torch.func.grad(lambda x: (w * denoise(x)).sum())(x), gradient)
    close(torch.func.vmap(lambda x: denoise(x[None])[0])(x), y)
    jacobians = (
        torch.func.jacrev(denoise)(x),
        torch.func.jacfwd(denoise)(x),
        torch.autograd.functional.jacobian(denoise, x, vectorize=True),
    )
    for jacobian in jacobians:
        close(torch.tensordot(w, jacobian, 4), gradient)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of forward mode
def test_the_slope_in_the_noise_level_in_forward_mode() -> None:
    model, x, step = TNRD(SMALL).double(), torch.rand(1, 1, 8, 10, dtype=torch.float64), 1e-6
    for stage in model.stages:
        stage.influence.exact = True  # type: ignore[union-attr]
    one = torch.ones((), dtype=torch.float64)
    difference = (model(x, 0.1 + step) - model(x, 0.1 - step)).detach() / (2 * step)
    slope = torch.func.jvp(lambda sigma: model(x, sigma), (0.1 * one,), (one,))[1]
    torch.testing.assert_close(slope, difference, rtol=1e-5, atol=1e-6 * float(difference.abs().max()))


def test_vmap_over_noise_levels_and_over_models() -> None:
    models, x = [TNRD(SMALL) for _ in range(2)], torch.rand(1, 1, 8, 10)
    sigmas = torch.tensor([0.1, 0.2])
    found = torch.func.vmap(lambda sigma: models[0](x, sigma))(sigmas)
    torch.testing.assert_close(found, torch.stack([models[0](x, float(sigma)) for sigma in sigmas]))
    with pytest.raises(ValueError, match=r"sigma must be finite and at least 0, got -0\.2"):
        torch.func.vmap(lambda sigma: models[0](x, sigma))(-sigmas)
    weights, constants = torch.func.stack_module_state(models)
    call = torch.func.vmap(lambda *state: torch.func.functional_call(models[0], state, (x, 0.1)))
    torch.testing.assert_close(call(weights, constants), torch.stack([model(x, 0.1) for model in models]))
    name = "stages.1.reaction.theta"  # which nothing else of the step depends on
    found = torch.func.vmap(lambda theta: torch.func.functional_call(models[0], {name: theta}, (x, 0.1)))(weights[name])
    torch.testing.assert_close(found[0], models[0](x, 0.1))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of forward mode
def test_an_engine_asked_for_by_name_says_what_it_lacks() -> None:
    model, x = TNRD(SMALL).float(), torch.rand(1, 1, 8, 10).float()
    model.engine = "numba"
    with pytest.raises(ValueError, match=r"'numba' has no transforms of torch\.func; 'torch' has"):
        torch.func.vmap(lambda x: model(x[None], 0.1)[0])(x)
    y = model(x.requires_grad_(), 0.1)
    with forward_ad.dual_level():
        with pytest.raises(ValueError, match="'numba' has no derivatives in forward mode; 'torch' has"):
            model(forward_ad.make_dual(x, x), 0.1)
        with pytest.raises(RuntimeError, match="'numba' has no derivatives in forward mode; 'torch' has"):
            torch.autograd.grad(y, x, forward_ad.make_dual(torch.ones_like(y), y.detach()))


def test_second_derivatives_with_exact_influence_functions() -> None:
    """Of a linear function of the result, where a table of straight pieces has none."""
    model = TNRD(SMALL).double()
    for stage in model.stages:
        stage.influence.exact = True  # type: ignore[union-attr]
    x, w, d = (torch.rand(1, 1, 8, 10, dtype=torch.float64) for _ in range(3))

    def gradient(v: Tensor) -> Tensor:
        v = v.clone().requires_grad_()
        return torch.autograd.grad((w * model(v, 0.1)).sum(), v, create_graph=True)[0]

    v = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad((w * model(v, 0.1)).sum(), v, create_graph=True)
    (second,) = torch.autograd.grad((slope * d).sum(), v)
    step = 1e-5
    difference = (gradient(x + step * d) - gradient(x - step * d)).detach() / (2 * step)
    torch.testing.assert_close(second, difference, rtol=1e-5, atol=1e-6 * float(difference.abs().max()))
    assert second.abs().max() > 0


def test_the_compiled_engine_says_that_it_has_no_second_derivatives() -> None:
    model, x = TNRD(SMALL).float(), torch.rand(1, 1, 8, 10, dtype=torch.float32, requires_grad=True)
    (slope,) = torch.autograd.grad(model(x, 0.1).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"'numba' has no second derivatives; 'torch' has"):
        slope.sum().backward()


def test_what_is_no_tensor_is_told_from_a_wrong_dtype() -> None:
    with pytest.raises(ValueError, match=r"got ndarray; tnrd\.denoise takes arrays"):
        TNRD(SMALL)(np.zeros((1, 1, 8, 8), np.float32), 0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize("sigma", [None, "0.1"])
def test_a_noise_level_that_is_no_number_is_told_as_such(sigma: object) -> None:
    with pytest.raises(
        ValueError, match=r"sigma must be a number or a torch tensor, got .*; tnrd\.denoise estimates it"
    ):
        TNRD(SMALL)(torch.rand(1, 1, 8, 10), sigma)  # type: ignore[arg-type]


def test_a_configuration_takes_lists_for_tuples() -> None:
    settings_ = {"stages": 1, "filters": 2, "kernel_size": 3, "norm": "free"}
    lists = TNRDConfig(**settings_, derivatives=[[0, 1], [1, 0]], vanishing_moments=[1])  # type: ignore[arg-type]
    assert lists == TNRDConfig(**settings_, derivatives=((0, 1), (1, 0)), vanishing_moments=(1,))  # type: ignore[arg-type]
    assert FilterBank(2, 3, norm="free", derivatives=[[0, 1]])().abs().max() > 0.1  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cannot hold the derivative"):
        FilterBank(2, 3, norm="free", derivatives=((3, 0),))
