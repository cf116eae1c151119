"""What users of torch do with a model: train it distributed, compile, export, transform it, misspell its settings."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from torch import Tensor

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


def test_gradients_by_torch_func() -> None:
    model, x = TNRD(SMALL), torch.rand(1, 1, 8, 10, requires_grad=True)
    model.engine = "torch"
    (expected,) = torch.autograd.grad(model(x, 0.1).square().sum(), x)
    torch.testing.assert_close(torch.func.grad(lambda v: model(v, 0.1).square().sum())(x.detach()), expected)


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


def test_a_configuration_takes_lists_for_tuples() -> None:
    settings_ = {"stages": 1, "filters": 2, "kernel_size": 3, "norm": "free"}
    lists = TNRDConfig(**settings_, derivatives=[[0, 1], [1, 0]], vanishing_moments=[1])  # type: ignore[arg-type]
    assert lists == TNRDConfig(**settings_, derivatives=((0, 1), (1, 0)), vanishing_moments=(1,))  # type: ignore[arg-type]
    assert FilterBank(2, 3, norm="free", derivatives=[[0, 1]])().abs().max() > 0.1  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cannot hold the derivative"):
        FilterBank(2, 3, norm="free", derivatives=((3, 0),))
