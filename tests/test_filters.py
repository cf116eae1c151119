"""Filter banks: vanishing moments by construction, free dimensions, norms, and the names of learned kernels."""

from __future__ import annotations

from math import factorial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from tnrd.filters import NORMS, Components, FilterBank
from tnrd.kernels.correlate_torch import correlate
from tnrd.moments import derivative_kernel, moments_from_kernel

# So that a vanishing moment is one to 1e-12, not to 1e-6.
pytestmark = pytest.mark.usefixtures("double_precision")


def scrambled(bank: FilterBank) -> FilterBank:
    """Random coefficients, the constrained ones included: those must not matter."""
    with torch.no_grad():
        bank.picture.normal_()
        bank.companion.normal_()
    return bank


def fine_kernels(bank: FilterBank) -> Tensor:
    """The kernels on the picture's own pixels, (F, channels, gk, gk)."""
    observed = bank().detach()[:, : bank.components.observed]
    return functional.pixel_shuffle(observed, bank.components.grid) if bank.components.grid > 1 else observed


def moment(kernels: Tensor, a: int, b: int) -> Tensor:
    k = torch.arange(kernels.shape[-1]) - (kernels.shape[-1] - 1) / 2
    return torch.einsum("...ij,i,j->...", kernels, k**a, k**b) / (factorial(a) * factorial(b))


LAYOUTS = [
    Components(),
    Components(channels=3),
    Components(grid=2),
    Components(channels=3, grid=2, companions=2),
    Components(grid=3),
    Components(companions=4),
]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("components", LAYOUTS, ids=str)
def test_kernels_have_exactly_the_vanishing_moments_asked_for(components: Components, norm: str) -> None:
    orders = (0, 1, 2, 3, 4)
    bank = scrambled(FilterBank(7, 3, components, vanishing_moments=orders, norm=norm))
    kernels = fine_kernels(bank)
    assert kernels.shape == (7, components.channels, 3 * components.grid, 3 * components.grid)
    for i, kernel in enumerate(kernels):
        p = orders[i % len(orders)]
        scale = float(kernel.abs().sum())
        for a in range(p + 1):
            for b in range(p + 1 - a):
                if a + b < p:
                    assert moment(kernel, a, b).abs().max() < 1e-11 * scale * (kernel.shape[-1] / 2) ** (a + b)
        leading = torch.stack([moment(kernel, a, p - a) for a in range(p + 1)])
        assert bool((leading.abs().amax(0) > 1e-6 * scale).all()), "no more moments vanish than asked for"


@pytest.mark.parametrize("size", [3, 5, 7, 9])
def test_p_vanishing_moments_leave_the_stated_number_of_free_dimensions(size: int) -> None:
    for p in range(size + 1):
        bank = FilterBank(1, size, vanishing_moments=(p,), norm="free")
        free = size**2 - p * (p + 1) // 2
        assert int(bank.free.sum()) == free
        # The kernels are linear in the coefficients: the rank of the map is what learning can reach.
        samples = []
        for _ in range(size**2 + 1):
            samples.append(scrambled(bank)().detach().flatten())
        assert int(torch.linalg.matrix_rank(torch.stack(samples), rtol=1e-10)) == free


@pytest.mark.parametrize("size", [3, 5, 7])
def test_dct_bank_removes_the_mean_and_nothing_else(size: int) -> None:
    bank = scrambled(FilterBank(6, size, basis="dct", norm="free"))
    assert int(bank.free[0].sum()) == size**2 - 1
    kernels = fine_kernels(bank)
    assert moment(kernels, 0, 0).abs().max() < 1e-12
    assert moment(kernels, 1, 0).abs().min() > 1e-6
    with_mean = scrambled(FilterBank(6, size, basis="dct", vanishing_moments=(0,), norm="free"))
    assert moment(fine_kernels(with_mean), 0, 0).abs().min() > 1e-6


def test_moments_and_dct_span_the_same_kernels_of_order_1() -> None:
    def projection(basis: str) -> Tensor:
        bank = FilterBank(1, 5, basis=basis, norm="free")
        span = torch.stack([scrambled(bank)().detach().flatten() for _ in range(24)])
        q = torch.linalg.qr(span.T)[0]
        return q @ q.T

    torch.testing.assert_close(projection("moments"), projection("dct"), rtol=0, atol=1e-9)


def test_norms() -> None:
    components = Components(companions=2)
    torch.manual_seed(1)
    banks = {norm: scrambled(FilterBank(5, 3, components, norm=norm)) for norm in NORMS}
    for bank in banks.values():
        bank.load_state_dict(banks["free"].state_dict())
        with torch.no_grad():
            bank.picture[0] *= 1e-2
            bank.companion[0] *= 1e-2
    free, unit, bounded = (banks[norm]().detach() for norm in ("free", "unit", "bounded"))
    lengths = free.flatten(1).norm(dim=1)
    assert lengths[0] < 1 < lengths[1:].min()
    torch.testing.assert_close(unit, free / lengths[:, None, None, None])
    torch.testing.assert_close(unit.flatten(1).norm(dim=1), torch.ones(5))
    torch.testing.assert_close(bounded[0], free[0])
    torch.testing.assert_close(bounded[1:], unit[1:])


@pytest.mark.parametrize("norm", NORMS)
def test_a_kernel_of_zeros_has_finite_gradients(norm: str) -> None:
    bank = FilterBank(2, 3, Components(companions=1), norm=norm)
    with torch.no_grad():
        bank.picture.zero_()
        bank.companion.zero_()
    kernels = bank()
    assert not kernels.any()
    kernels.sum().backward()
    assert bank.picture.grad is not None
    assert bool(torch.isfinite(bank.picture.grad).all())


@pytest.mark.parametrize("norm", NORMS)
def test_gradients_reach_the_free_coefficients_only(norm: str) -> None:
    bank = scrambled(FilterBank(4, 5, Components(channels=2), vanishing_moments=(1, 3), norm=norm))
    (bank() * torch.randn(4, 2, 5, 5)).sum().backward()
    gradient = bank.picture.grad
    assert gradient is not None
    constrained = (bank.free == 0).expand_as(gradient)
    assert not gradient[constrained].any()
    assert bool((gradient[~constrained] != 0).all())


def test_companions_are_read_freely() -> None:
    bank = scrambled(FilterBank(6, 3, Components(grid=2, companions=3), vanishing_moments=(2,)))
    kernels = bank().detach()
    assert kernels.shape == (6, 4 + 3, 3, 3)
    assert moment(kernels[:, 4:], 0, 0).abs().min() > 1e-6
    assert moment(kernels[:, :4].sum(1), 0, 0).abs().max() < 1e-12, "over all phases, a constant picture is not seen"


@pytest.mark.parametrize("grid", [2, 3])
def test_kernels_over_phases_are_large_kernels_with_a_stride(grid: int) -> None:
    bank = scrambled(FilterBank(5, 3, Components(channels=2, grid=grid)))
    picture = torch.randn(1, 2, 8 * grid, 7 * grid)
    over_phases = correlate(functional.pixel_unshuffle(picture, grid), bank())
    on_pixels = functional.conv2d(picture, fine_kernels(bank), stride=grid)
    torch.testing.assert_close(over_phases[..., 1:-1, 1:-1], on_pixels)


def test_banks_start_from_orthonormal_operators_of_low_order() -> None:
    bank = FilterBank(12, 5, vanishing_moments=(1,))
    flat = bank().detach().flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(12))
    names = [name for (name,) in bank.operators()]
    assert [name.order for name in names] == sorted(name.order for name in names)
    assert {name.alpha for name in names[:5]} == {(0, 1), (1, 0), (0, 2), (1, 1), (2, 0)}
    assert all(name.unexplained < 1e-9 for name in names)


def test_a_bank_larger_than_its_space_starts_from_distinct_unit_kernels() -> None:
    kernels = FilterBank(15, 3, vanishing_moments=(2,))().detach().flatten(1)
    torch.testing.assert_close(kernels.norm(dim=1), torch.ones(15))
    similarity = (kernels @ kernels.T).fill_diagonal_(0)
    assert similarity.abs().max() < 1 - 1e-9


def test_the_seed_fixes_a_bank() -> None:
    def coefficients(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return FilterBank(4, 3, Components(channels=3, companions=1)).picture.detach()

    assert torch.equal(coefficients(3), coefficients(3))
    assert not torch.equal(coefficients(3), coefficients(4))


@pytest.mark.parametrize("components", [Components(), Components(3, 2, 2), Components(1, 3)], ids=str)
def test_transposes_follow_their_kernels_and_share_the_coefficients(components: Components) -> None:
    bank = scrambled(FilterBank(6, 3, components, vanishing_moments=(1, 2), transposes=True))
    assert bank.picture.shape[0] == bank.companion.shape[0] == 3
    first, last = bank().detach().chunk(2)
    torch.testing.assert_close(last[:, components.observed :], first[:, components.observed :].mT)
    fine = fine_kernels(bank)
    torch.testing.assert_close(fine[3:], fine[:3].mT)
    torch.testing.assert_close(bank().detach().flatten(1).norm(dim=1), torch.ones(6))
    assert len(bank.operators()) == 6
    fresh = FilterBank(6, 3, components, vanishing_moments=(1, 2), transposes=True)().detach().flatten(1)
    assert (fresh @ fresh.T).fill_diagonal_(0).max() < 1 - 1e-6, "kernels that begin alike would stay alike"
    for i, order in enumerate((1, 2, 1, 1, 2, 1)):
        assert order == 1 or max(moment(fine[i, 0], a, b).abs() for a, b in ((1, 0), (0, 1))) < 1e-12


@pytest.mark.parametrize("components", [Components(), Components(3), Components(1, 2, 2)], ids=str)
def test_operators_name_every_filter_on_every_channel(components: Components) -> None:
    orders = (1, 2, 3)
    bank = scrambled(FilterBank(6, 5, components, vanishing_moments=orders))
    operators = bank.operators()
    assert [len(row) for row in operators] == [components.channels] * 6
    for i, row in enumerate(operators):
        for channel, name in enumerate(row):
            assert name.order == sum(name.alpha) == orders[i % 3]
            kernel = fine_kernels(bank)[i, channel]
            assert name.coefficient == pytest.approx(float(moment(kernel, *name.alpha)))


def test_float32_banks_are_named_alike() -> None:
    torch.set_default_dtype(torch.float32)
    bank = scrambled(FilterBank(8, 7, vanishing_moments=(1, 2, 3, 4)))
    assert bank().dtype == torch.float32
    assert [row[0].order for row in bank.operators()] == [1, 2, 3, 4] * 2


@given(
    filters=st.integers(1, 6),
    size=st.sampled_from([1, 3, 5]),
    channels=st.integers(1, 3),
    grid=st.integers(1, 3),
    companions=st.integers(0, 3),
    basis=st.sampled_from(["moments", "dct"]),
)
@settings(max_examples=40)
def test_any_layout_gives_finite_kernels_of_the_right_shape(
    filters: int, size: int, channels: int, grid: int, companions: int, basis: str
) -> None:
    components = Components(channels, grid, companions)
    orders = (0,) if size * grid == 1 else (1,)
    kernels = FilterBank(filters, size, components, vanishing_moments=orders, basis=basis)()
    assert components.total == channels * grid**2 + companions
    assert kernels.shape == (filters, components.total, size, size)
    assert bool(torch.isfinite(kernels).all())
    np.testing.assert_allclose(kernels.detach().flatten(1).norm(dim=1), 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("settings_", "sentence"),
    [
        ({"filters": 0}, "at least one filter of odd size, got 0 filters of size 3"),
        ({"size": 4}, "odd size, got 2 filters of size 4"),
        ({"size": -1}, "odd size, got 2 filters of size -1"),
        ({"components": Components(channels=0)}, "channels and grid must be at least 1"),
        ({"components": Components(grid=0)}, "channels and grid must be at least 1"),
        ({"components": Components(companions=-1)}, "companions at least 0"),
        ({"basis": "fourier"}, "basis must be one of moments, dct, got 'fourier'"),
        ({"norm": "l1"}, "norm must be one of unit, bounded, free, got 'l1'"),
        ({"vanishing_moments": ()}, r"vanishing_moments must lie in \[0, 4\]"),
        ({"vanishing_moments": (-1,)}, r"vanishing_moments must lie in \[0, 4\].*got \(-1,\)"),
        ({"vanishing_moments": (5,)}, r"vanishing_moments must lie in \[0, 4\] .*size 3, got \(5,\)"),
        ({"filters": 3, "transposes": True}, "even in number, got 3"),
        ({"transposes": True, "derivatives": ((1, 0),), "norm": "free"}, "no transposes beside them"),
        ({"vanishing_moments": (2,), "basis": "dct"}, r"vanishing_moments must lie in \[0, 1\] for basis 'dct'"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings_: dict[str, object], sentence: str) -> None:
    arguments: dict[str, object] = {"filters": 2, "size": 3, **settings_}
    with pytest.raises(ValueError, match=sentence):
        FilterBank(**arguments)  # type: ignore[arg-type]


def test_the_highest_order_leaves_one_kernel() -> None:
    bank = scrambled(FilterBank(1, 3, vanishing_moments=(4,)))
    assert int(bank.free.sum()) == 1
    second = torch.tensor([1.0, -2.0, 1.0])
    torch.testing.assert_close(bank().detach()[0, 0].abs(), (torch.outer(second, second) / 6).abs())


# --- banks of derivatives


@pytest.mark.parametrize("components", [Components(), Components(channels=3), Components(grid=2, companions=2)])
@pytest.mark.parametrize("accuracy", [1, 2])
def test_a_bank_of_derivatives_keeps_its_sum_rules_whatever_is_learned(components: Components, accuracy: int) -> None:
    alphas = ((1, 0), (0, 1), (1, 1), (0, 2))
    bank = FilterBank(5, 5, components, norm="free", derivatives=alphas, accuracy=accuracy).double()
    with torch.no_grad():
        bank.picture.copy_(torch.randn_like(bank.picture))
        bank.companion.copy_(torch.randn_like(bank.companion))
    kernels = bank().detach()[:, : components.observed]
    fine = functional.pixel_shuffle(kernels, components.grid) if components.grid > 1 else kernels
    degree = np.add.outer(np.arange(fine.shape[-1]), np.arange(fine.shape[-1]))
    for i, filter_ in enumerate(fine.numpy()):
        alpha = alphas[i % len(alphas)]
        for moments in moments_from_kernel(filter_):
            ruled = degree < sum(alpha) + accuracy
            expected = np.zeros_like(moments)
            expected[alpha] = 1.0
            np.testing.assert_allclose(moments[ruled], expected[ruled], atol=1e-5)  # float32 buffers


def test_a_bank_of_derivatives_starts_as_textbook_stencils() -> None:
    bank = FilterBank(2, 3, norm="free", derivatives=((1, 0), (0, 2)), accuracy=1)
    for kernel, alpha in zip(bank().detach().numpy(), ((1, 0), (0, 2)), strict=True):
        np.testing.assert_allclose(kernel[0], derivative_kernel(alpha, 3), atol=1e-6)


@pytest.mark.parametrize("wrong", [{"norm": "unit"}, {"norm": "free", "basis": "dct"}])
def test_derivatives_with_a_norm_or_the_dct_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="derivatives need basis"):
        FilterBank(2, 3, derivatives=((1, 0),), **wrong)
