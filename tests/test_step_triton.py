"""The Triton engine against plain torch in float64: outputs and all gradients, on odd sizes and in poisoned memory.

Where torch sees no GPU, the kernels run in Triton's interpreter. It has to be chosen before Triton is first imported.

T' jumps at the samples of the table. All numbers that lead to a position in the table are multiples of small powers of
two, so that float32 and float64 find the same position and the same segment, and gradients agree as closely as values.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from tnrd.kernels import dispatch, step_torch

TOLERANCE = 1e-5
GRADIENTS = ("u", "f", "kernels", "table", "inner", "outer", "reaction")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load() -> ModuleType:
    """The engine, in the interpreter if there is no GPU; skips the module where neither is possible."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed", allow_module_level=True)
    name = "tnrd.kernels.step_triton"
    with pytest.MonkeyPatch.context() as patch:
        if DEVICE.type == "cpu" and "triton" not in sys.modules:
            patch.setenv("TRITON_INTERPRET", "1")
        if DEVICE.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1" and name not in sys.modules:
            pytest.skip(
                "triton was imported before, without its interpreter, and there is no GPU", allow_module_level=True
            )
        engine = importlib.import_module(name)
    if DEVICE.type == "cpu" and not engine.INTERPRETED:
        pytest.skip(
            "the kernels were loaded without Triton's interpreter, and there is no GPU", allow_module_level=True
        )
    return engine


engine = load()


@pytest.fixture(autouse=True)
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Triton's interpreter imports while it runs looks for its variable again."""
    if engine.INTERPRETED:
        monkeypatch.setenv("TRITON_INTERPRET", "1")


def problem(
    height: int, width: int, *, images: int = 1, channels: int = 1, observed: int = 1, filters: int = 5, size: int = 3,
    device: torch.device = DEVICE,
) -> list[Any]:  # fmt: skip
    """Arguments of a step; responses reach beyond both ends of the table."""
    generator = torch.Generator().manual_seed(height * 1000 + width * 10 + size)
    samples, spacing = 40, 1 / 16

    def dyadic(*shape: int, bound: int = 64) -> Tensor:
        return torch.randint(-bound, bound + 1, shape, generator=generator) / 64

    bound = max(1, round(96 / (channels**0.5 * size)))
    tensors = {
        "u": dyadic(images, channels, height, width),
        "f": dyadic(images, observed, height, width),
        "kernels": dyadic(filters, channels, size, size, bound=bound),
        "table": torch.randn(filters, samples, generator=generator),
        "inner": 2.0 ** torch.randint(-1, 3, (images, filters, 1, 1), generator=generator),
        "outer": 0.5 + torch.rand(images, filters, 1, 1, generator=generator),
        "reaction": torch.rand(images, 1, 1, 1, generator=generator),
    }
    u, f, kernels, table, *scales = (tensor.to(device) for tensor in tensors.values())
    return [u, f, kernels, table, -spacing * samples / 2, spacing, *scales]


def double(arguments: list[Any]) -> list[Any]:
    return [a.double().requires_grad_() if isinstance(a, Tensor) else a for a in arguments]


def cotangent(u: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(u.numel())
    return (torch.randint(-64, 65, u.shape, generator=generator) / 64).to(u.device)


def error(found: Tensor, expected: Tensor) -> float:
    """Largest deviation, relative to the largest value."""
    assert found.shape == expected.shape
    assert found.dtype == torch.float32
    expected = expected.detach()
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


def errors(arguments: list[Any]) -> dict[str, float]:
    """Of the output and of all gradients."""
    leaves = double(arguments)
    expected = step_torch.diffusion_step(*leaves)
    g = cotangent(arguments[0])
    wanted = torch.autograd.grad(expected, [leaf for leaf in leaves if isinstance(leaf, Tensor)], g.double())
    found = engine.step_backward(g, *arguments)
    result = {"output": error(engine.step(*arguments), expected)}
    return result | {name: error(x, y) for name, x, y in zip(GRADIENTS, found, wanted, strict=True)}


# --- parity

CASES = {
    "one pixel": {"height": 1, "width": 1},
    "one pixel, mirrored often": {"height": 1, "width": 1, "size": 9, "channels": 3, "observed": 1},
    "smaller than the filters": {"height": 2, "width": 3, "size": 9, "images": 2},
    "filters of one pixel": {"height": 3, "width": 40, "size": 1, "channels": 2},
    "k = 3": {"height": 17, "width": 9, "size": 3, "images": 2},
    "k = 5": {"height": 17, "width": 9, "size": 5, "channels": 3, "observed": 3, "filters": 18},
    "k = 7": {"height": 17, "width": 33, "size": 7, "filters": 48},
    "k = 9": {"height": 33, "width": 40, "size": 9, "filters": 3},
    "many components": {"height": 5, "width": 34, "size": 3, "channels": 16, "observed": 4, "filters": 20},
    "more outputs than a block": {"height": 2, "width": 3, "size": 7, "channels": 16, "observed": 16, "filters": 17},
}


@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients_equal_the_reference(case: str) -> None:
    found = errors(problem(**CASES[case]))
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.cuda
@pytest.mark.parametrize("size", [5, 7, 9])
@pytest.mark.parametrize("channels", [1, 3, 16])
def test_output_and_gradients_equal_the_reference_on_large_images(size: int, channels: int) -> None:
    found = errors(problem(512, 512, images=2, channels=channels, observed=1, filters=size * size - 1, size=size))
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.parametrize(("height", "width"), [(2, engine.LINE + 3), (2 * engine.STRIPS[0] + 1, engine.BROAD + 1)])
@pytest.mark.parametrize("filters", [2, 34])
def test_images_larger_than_a_block(height: int, width: int, filters: int) -> None:
    arguments = problem(height, width, filters=filters, size=5)
    assert error(engine.step(*arguments), step_torch.diffusion_step(*double(arguments))) < TOLERANCE


def test_the_range_is_that_of_the_whole_image() -> None:
    arguments = problem(33, 40, images=2)
    arguments[0][1, 0, 32, 39] = 500.0
    assert error(engine.step(*arguments), step_torch.diffusion_step(*double(arguments))) < TOLERANCE


@pytest.mark.parametrize("varying", [("inner", "outer"), ("reaction",), ("inner", "outer", "reaction")])
def test_noise_maps(varying: tuple[str, ...]) -> None:
    arguments = problem(6, 35, images=2, channels=2)
    for name in varying:
        place = ("u", "f", "kernels", "table", "", "", "inner", "outer", "reaction").index(name)
        n, rows = arguments[place].shape[:2]
        arguments[place] = arguments[place] * (0.5 + torch.rand(n, rows, 6, 35, device=DEVICE))
    assert error(engine.step(*arguments), step_torch.diffusion_step(*double(arguments))) < TOLERANCE


def test_scales_shared_by_all_images() -> None:
    arguments = problem(4, 5, images=2)
    for place in (6, 7, 8):
        arguments[place] = arguments[place][:1].expand(2, -1, -1, -1)
    found = errors(arguments)
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.parametrize("channels", [1, 3])
def test_more_images_than_a_grid_holds_are_taken_in_turn(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = problem(4, 5, images=5, channels=channels)
    for place in (6, 8):
        arguments[place] = arguments[place][:1]
    before, sizes, once = errors(arguments), [], engine.arranged
    monkeypatch.setattr(engine, "MOST_PROGRAMS", 2 * channels)
    monkeypatch.setattr(engine, "arranged", lambda *given: sizes.append(1) or once(*given))
    found = errors(arguments)
    assert len(sizes) == 6  # three parts, forward and backward
    assert max(*before.values(), *found.values()) < TOLERANCE, (before, found)


# --- products of 11 bits, as convolutions


@pytest.fixture
def eleven_bits() -> Iterator[None]:
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision("highest")


ROUNDED = TOLERANCE if DEVICE.type == "cpu" else 1e-3  # a CPU's convolutions round nothing


@pytest.mark.usefixtures("eleven_bits")
@pytest.mark.parametrize("case", [name for name in CASES if CASES[name].get("channels", 1) > 3])
def test_convolutions_equal_the_reference(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "respond", None)  # what would be used instead
    monkeypatch.setattr(engine, "_gradients", None)
    found = errors(problem(**CASES[case]))
    assert max(found.values()) < ROUNDED, found


@pytest.mark.usefixtures("eleven_bits", "poisoned_memory")
@pytest.mark.parametrize(("height", "width", "size"), [(1, 1, 3), (1, 2, 5), (9, 33, 3), (2, 2, 9)])
def test_convolutions_of_small_and_odd_images(height: int, width: int, size: int) -> None:
    found = errors(problem(height, width, images=2, channels=5, observed=3, filters=6, size=size))
    assert max(found.values()) < ROUNDED, found


@pytest.mark.usefixtures("eleven_bits")
def test_convolutions_under_noise_maps() -> None:
    arguments = problem(6, 35, images=2, channels=4)
    for place, rows in ((6, 5), (7, 5), (8, 1)):
        arguments[place] = arguments[place] * (0.5 + torch.rand(2, rows, 6, 35, device=DEVICE))
    assert error(engine.step(*arguments), step_torch.diffusion_step(*double(arguments))) < ROUNDED


@pytest.mark.usefixtures("eleven_bits")
def test_convolutions_take_any_strides_and_scales_shared_by_images() -> None:
    arguments = problem(6, 7, channels=5, observed=2, images=2)
    for place in (6, 7, 8):
        arguments[place] = arguments[place][:1].expand(2, -1, -1, -1)
    found = errors(arguments)
    assert max(found.values()) < ROUNDED, found
    strided = [
        a.to(memory_format=torch.channels_last) if isinstance(a, Tensor) and a.ndim == 4 else a for a in arguments
    ]
    g = cotangent(arguments[0])[:1].expand(2, -1, -1, -1)
    torch.testing.assert_close(engine.step(*strided), engine.step(*arguments))
    torch.testing.assert_close(engine.step_backward(g, *strided), engine.step_backward(g.contiguous(), *arguments))


@pytest.mark.usefixtures("eleven_bits")
def test_autocast_does_not_reach_convolutions() -> None:
    """Of backward(), which may be called within it."""
    arguments = problem(6, 7, channels=5, observed=2, images=2)
    with torch.autocast(DEVICE.type, torch.bfloat16):
        found = errors(arguments)
    assert max(found.values()) < ROUNDED, found


@pytest.mark.usefixtures("eleven_bits")
def test_a_nan_stays_near_its_pixel_in_convolutions() -> None:
    arguments = problem(12, 40, size=3, channels=4)
    arguments[0][0, 0, 5, 20] = torch.nan
    found, expected = engine.step(*arguments), step_torch.diffusion_step(*double(arguments)).detach()
    assert found.isnan().sum() == 25 * 4
    torch.testing.assert_close(found, expected.float(), equal_nan=True, rtol=ROUNDED, atol=ROUNDED)


# torch's tracing and its own checks use parts of torch and Python that are to go.
@pytest.mark.usefixtures("eleven_bits")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_convolutions_keep_torch_s_contract() -> None:
    arguments = problem(3, 4, channels=4, images=2, filters=3)
    leaves = [a.requires_grad_() if isinstance(a, Tensor) else a for a in arguments]
    torch.library.opcheck(torch.ops.tnrd.diffusion_step_triton.default, leaves)


@pytest.mark.usefixtures("eleven_bits")
def test_convolutions_are_left_alone_where_torch_may_not_round_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(engine.step_convolved_triton, "step", None)
    arguments = problem(3, 4, channels=5)
    assert error(engine.step(*arguments), step_torch.diffusion_step(*double(arguments))) < 1e-3


# --- memory


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Fresh memory is full of NaN."""
    torch.use_deterministic_algorithms(True)
    assert torch.zeros(1).new_empty(8).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("case", ["smaller than the filters", "k = 3", "many components"])
def test_nothing_is_read_before_it_is_written(case: str) -> None:
    found = errors(problem(**CASES[case]))
    assert max(found.values()) < TOLERANCE, found


def test_strides_do_not_matter() -> None:
    arguments = problem(6, 7, channels=3, observed=2, images=2)
    expected = engine.step_backward(cotangent(arguments[0]), *arguments)
    strided = [
        a.to(memory_format=torch.channels_last) if isinstance(a, Tensor) and a.ndim == 4 else a for a in arguments
    ]
    strided[3] = strided[3].t().contiguous().t()
    g = cotangent(arguments[0]).to(memory_format=torch.channels_last)
    torch.testing.assert_close(engine.step(*strided), engine.step(*arguments))
    torch.testing.assert_close(engine.step_backward(g, *strided), expected)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_nan_stays_near_its_pixel(channels: int) -> None:
    arguments = problem(12, 40, size=3, channels=channels)
    arguments[0][0, 0, 5, 20] = torch.nan
    found, expected = engine.step(*arguments), step_torch.diffusion_step(*double(arguments)).detach()
    assert found.isnan().sum() == 25 * channels
    torch.testing.assert_close(found, expected.float(), equal_nan=True, rtol=TOLERANCE, atol=TOLERANCE)
    assert torch.isfinite(engine.step_backward(cotangent(arguments[0]), *arguments)[0][0, 0, 8:]).all()


def test_huge_values_read_the_ends_of_the_table() -> None:
    arguments = problem(5, 6, size=1)
    arguments[0][0, 0, 2] = 1e30
    arguments[0][0, 0, 3] = -1e30
    arguments[2] = arguments[2].abs() + 1
    expected = step_torch.diffusion_step(*double(arguments)).detach()
    torch.testing.assert_close(engine.step(*arguments), expected.float(), rtol=TOLERANCE, atol=TOLERANCE)


# --- the operator


# torch's tracing and its own checks use parts of torch and Python that are to go.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_operator_keeps_torch_s_contract() -> None:
    arguments = problem(3, 4, channels=2, images=2, filters=3)
    leaves = [a.requires_grad_() if isinstance(a, Tensor) else a for a in arguments]
    torch.library.opcheck(torch.ops.tnrd.diffusion_step_triton.default, leaves)


def test_gradients_have_the_strides_that_are_told_beforehand() -> None:
    arguments = problem(3, 4, channels=2, observed=2, images=2, filters=3)
    g = cotangent(arguments[0]).to(memory_format=torch.channels_last)
    backward = torch.ops.tnrd.diffusion_step_triton_backward.default
    torch.library.opcheck(backward, [g, *arguments], test_utils=("test_schema", "test_faketensor"))


def test_the_operator_is_differentiable() -> None:
    arguments = problem(3, 4)
    leaves = [a.clone().requires_grad_() if isinstance(a, Tensor) else a for a in arguments]
    g = cotangent(arguments[0])
    found = torch.autograd.grad(engine.diffusion_step(*leaves), [x for x in leaves if isinstance(x, Tensor)], g)
    torch.testing.assert_close(found, engine.step_backward(g, *arguments))


def test_the_engine_is_chosen_on_a_gpu_and_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        assert dispatch.resolve_engine("auto", torch.device("cuda")) == "torch"
        patch.delenv("TRITON_INTERPRET")
        assert dispatch.resolve_engine("auto", torch.device("cuda")) == "triton"
    assert dispatch.resolve_engine("auto", torch.device("cuda"), torch.float64) == "torch"
    assert dispatch.resolve_engine("triton", torch.device("cuda")) == "triton"
    assert dispatch.resolve_engine("triton", DEVICE) == "triton"
    arguments = problem(5, 4)
    torch.testing.assert_close(dispatch.diffusion_step(*arguments, engine="triton"), engine.step(*arguments))
    with pytest.raises(ValueError, match=r"Engine 'triton' computes float32, got torch.float64; 'torch' can do this\."):
        dispatch.diffusion_step(*double(arguments), engine="triton")
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(ValueError, match="computes on a CUDA device, or with TRITON_INTERPRET=1 on the CPU, got cpu"):
        dispatch.resolve_engine("triton", torch.device("cpu"))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs the package triton, which is not installed; 'torch' can do this"):
        dispatch.resolve_engine("triton", torch.device("cuda"))
    assert dispatch.resolve_engine("auto", torch.device("cuda")) == "torch"


def test_an_old_gpu_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert dispatch.resolve_engine("auto", torch.device("cuda")) == "torch"
    with pytest.raises(ValueError, match=r"needs an NVIDIA GPU of compute capability 8\.0 or more; 'torch' can"):
        dispatch.resolve_engine("triton", torch.device("cuda"))


@pytest.mark.parametrize("scale", [2.0**-60, 2.0**-10, 1.0, 2.0**20, 2.0**60])
def test_any_range_of_intensities_keeps_its_digits(scale: float) -> None:
    u, f, kernels, table, origin, spacing, inner, outer, reaction = problem(5, 4)
    expected = engine.step(u, f, kernels, table, origin, spacing, inner, outer, reaction)
    found = engine.step(scale * u, scale * f, kernels, table, origin, spacing, inner / scale, scale * outer, reaction)
    torch.testing.assert_close(found / scale, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_finite_leaves_other_pixels_their_digits(wrong: float) -> None:
    u, *others = problem(20, 12, images=2)
    u = 16 * u
    expected = engine.step(u, *others)
    u[0, 0, 0, 0] = wrong
    found = engine.step(u, *others)
    assert not torch.isfinite(found[0, 0, 0, 0])
    torch.testing.assert_close(found[1], expected[1])
    torch.testing.assert_close(found[0, :, 16:], expected[0, :, 16:])


def test_one_product_keeps_eleven_bits() -> None:
    arguments = problem(7, 6)
    exact = step_torch.diffusion_step(*double(arguments)).detach().float()
    torch.set_float32_matmul_precision("high")
    try:
        rounded = engine.step(*arguments)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert 1e-6 < float((rounded - exact).norm() / exact.norm()) < 1e-3
    assert float((engine.step(*arguments) - exact).norm() / exact.norm()) < TOLERANCE
