"""Correlation with the mirrored boundary, against SciPy and NumPy, and its exact adjoint."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate as scipy_correlate
from torch import Tensor

from tnrd.kernels.correlate_torch import correlate, correlate_adjoint, fold_mirrored, pad_mirrored

SIZES = [(1, 1), (1, 2), (2, 1), (1, 9), (7, 1), (2, 2), (2, 3), (3, 5), (4, 4), (5, 2), (8, 13), (17, 16)]
KERNEL_SIZES = [1, 3, 5, 7, 9]

geometry = {
    "height": st.integers(1, 12),
    "width": st.integers(1, 12),
    "size": st.sampled_from(KERNEL_SIZES),
    "components": st.integers(1, 3),
    "filters": st.integers(1, 4),
    "seed": st.integers(0, 2**31),
}


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def inner_product(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum())


def among_nan(tensor: Tensor) -> Tensor:
    """The same values as a view into a larger buffer of NaN: a read outside the view cannot go unnoticed."""
    n, c, h, w = tensor.shape
    buffer = torch.full((n + 1, c + 2, h + 6, w + 6), torch.nan, dtype=tensor.dtype)
    view = buffer[:n, 1 : c + 1, 3 : h + 3, 3 : w + 3]
    view.copy_(tensor)
    return view


# --- against SciPy and NumPy


@pytest.mark.parametrize("size", KERNEL_SIZES)
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_correlate_is_that_of_scipy(shape: tuple[int, int], size: int) -> None:
    u, kernels = normal(1, 2, 3, *shape), normal(2, 4, 3, size, size)
    expected = [
        [sum(scipy_correlate(image[c].numpy(), bank[c].numpy(), mode="reflect") for c in range(3)) for bank in kernels]
        for image in u
    ]
    np.testing.assert_allclose(correlate(u, kernels), np.array(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("margin", [0, 1, 2, 3, 4, 11])
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_padding_is_half_sample_symmetric_however_small_the_image(shape: tuple[int, int], margin: int) -> None:
    u = normal(3, 1, 2, *shape)
    expected = np.pad(u.numpy(), [(0, 0), (0, 0), (margin, margin), (margin, margin)], mode="symmetric")
    np.testing.assert_array_equal(pad_mirrored(u, margin), expected)


def test_a_constant_image_gives_the_sum_of_the_kernel_up_to_the_border() -> None:
    kernels = normal(4, 3, 1, 5, 5)
    response = correlate(torch.full((1, 1, 4, 6), 0.5, dtype=torch.float64), kernels)
    expected = 0.5 * kernels.sum((1, 2, 3))[None, :, None, None].expand_as(response)
    torch.testing.assert_close(response, expected)


# --- the adjoint


@given(**geometry)
@settings(max_examples=80)
def test_adjoint_identity(height: int, width: int, size: int, components: int, filters: int, seed: int) -> None:
    """<K u, v> = <u, K^T v> to 1e-10 of |K u| |v|, boundary included."""
    u, v = normal(seed, 2, components, height, width), normal(seed + 1, 2, filters, height, width)
    kernels = normal(seed + 2, filters, components, size, size)
    response = correlate(u, kernels)
    difference = inner_product(response, v) - inner_product(u, correlate_adjoint(v, kernels))
    assert abs(difference) <= 1e-10 * float(response.norm() * v.norm())


@pytest.mark.parametrize("size", [1, 3, 5, 9])
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (2, 3), (5, 4)], ids=str)
def test_adjoint_is_the_transposed_matrix(shape: tuple[int, int], size: int) -> None:
    components, filters, pixels = 2, 3, shape[0] * shape[1]
    kernels = normal(5, filters, components, size, size)

    def matrix(operator: Callable[[Tensor, Tensor], Tensor], channels: int) -> Tensor:
        units = torch.eye(channels * pixels, dtype=torch.float64).view(-1, channels, *shape)
        return operator(units, kernels).flatten(1).T

    torch.testing.assert_close(matrix(correlate_adjoint, filters), matrix(correlate, components).T)


@given(**geometry)
@settings(max_examples=40)
def test_adjoint_is_the_vector_jacobian_product(
    height: int, width: int, size: int, components: int, filters: int, seed: int
) -> None:
    kernels = normal(seed, filters, components, size, size)
    u = normal(seed + 1, 1, components, height, width).requires_grad_()
    v = normal(seed + 2, 1, filters, height, width).requires_grad_()
    (product,) = torch.autograd.grad(correlate(u, kernels), u, v.detach())
    torch.testing.assert_close(product, correlate_adjoint(v.detach(), kernels), rtol=1e-12, atol=1e-12)
    (product,) = torch.autograd.grad(correlate_adjoint(v, kernels), v, u.detach())
    torch.testing.assert_close(product, correlate(u.detach(), kernels), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("margin", [0, 1, 4, 7])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 2), (6, 7)], ids=str)
def test_folding_is_the_transpose_of_padding(shape: tuple[int, int], margin: int) -> None:
    u = normal(6, 2, 3, *shape)
    v = normal(7, 2, 3, shape[0] + 2 * margin, shape[1] + 2 * margin)
    assert inner_product(pad_mirrored(u, margin), v) == pytest.approx(inner_product(u, fold_mirrored(v, margin)))


@pytest.mark.parametrize("operator", [correlate, correlate_adjoint])
@pytest.mark.parametrize(("shape", "size"), [((1, 1), 3), ((2, 3), 5), ((4, 3), 3), ((3, 1), 5)], ids=str)
def test_first_and_second_derivatives(
    operator: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, int], size: int
) -> None:
    kernels = normal(8, 2, 2, size, size).requires_grad_()
    image = normal(9, 1, 2, *shape).requires_grad_()
    assert torch.autograd.gradcheck(operator, (image, kernels))
    assert torch.autograd.gradgradcheck(operator, (image, kernels), fast_mode=True)


# --- memory layout and dtype


@pytest.mark.parametrize("operator", [correlate, correlate_adjoint])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (9, 6)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_memory_layout_does_not_matter(
    operator: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, int], dtype: torch.dtype
) -> None:
    kernels, image = normal(10, 3, 3, 5, 5, dtype=dtype), normal(11, 2, 3, *shape, dtype=dtype)
    expected = operator(image, kernels)
    assert expected.dtype == dtype
    layouts = [
        image.contiguous(memory_format=torch.channels_last),
        image.transpose(2, 3).contiguous().transpose(2, 3),
        among_nan(image),
    ]
    for other in layouts:
        torch.testing.assert_close(operator(other, kernels), expected)
        torch.testing.assert_close(other, image, rtol=0, atol=0)


def test_gradients_in_channels_last_memory_are_the_same() -> None:
    kernels, image = normal(12, 3, 3, 5, 5), normal(13, 2, 3, 4, 7)
    grads = []
    for layout in (torch.contiguous_format, torch.channels_last):
        q, u = kernels.clone().requires_grad_(), image.clone(memory_format=layout).requires_grad_()
        correlate_adjoint(torch.tanh(correlate(u, q)), q).square().sum().backward()
        grads.append((q.grad, u.grad))
    torch.testing.assert_close(grads[0], grads[1])


# --- errors


@pytest.mark.parametrize(
    ("shape", "kernels", "sentence"),
    [
        ((1, 1, 4, 4), (2, 1, 4, 4), r"k odd, got \(2, 1, 4, 4\)"),
        ((1, 1, 4, 4), (2, 1, 3, 5), r"\(F, C, k, k\) with k odd, got \(2, 1, 3, 5\)"),
        ((1, 1, 4, 4), (1, 3, 3), r"\(F, C, k, k\) with k odd, got \(1, 3, 3\)"),
        ((1, 4, 4), (2, 1, 3, 3), r"Expected a tensor \(N, C, H, W\) with C = 1, got \(1, 4, 4\)"),
        ((1, 3, 4, 4), (2, 1, 3, 3), r"with C = 1, got \(1, 3, 4, 4\)"),
        ((1, 1, 0, 4), (2, 1, 3, 3), r"no pixels: shape \(1, 1, 0, 4\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shape: tuple[int, ...], kernels: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        correlate(torch.zeros(shape), torch.zeros(kernels))


def test_the_adjoint_counts_filters_not_components() -> None:
    with pytest.raises(ValueError, match=r"\(N, F, H, W\) with F = 2, got \(1, 3, 4, 4\)"):
        correlate_adjoint(torch.zeros(1, 3, 4, 4), torch.zeros(2, 3, 3, 3))
