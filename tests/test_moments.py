"""Moment matrices, orthonormal bases, derivative kernels, names; and kernels as differential operators on a mesh."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.fft import dct

from tnrd.moments import (
    dct_basis,
    derivative_kernel,
    gram_basis,
    kernel_from_moments,
    moment_transform,
    moments_from_kernel,
    name_operator,
)

FloatArray = NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)
SIZES = (3, 5, 7, 9)
DOCUMENTED_CONDITION = {3: 22, 5: 1.1e3, 7: 8.6e4, 9: 8.2e6}

CENTRAL = np.array([[0, 0, 0], [-1, 0, 1], [0, 0, 0]]) / 2
FORWARD = np.array([[0, 0, 0], [0, -1, 1], [0, 0, 0]])
SECOND = np.array([[0, 1, 0], [0, -2, 0], [0, 1, 0]])
PREWITT = np.array([[-1, 0, 1]] * 3)
SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
CROSS = np.array([[1, 0, -1], [0, 0, 0], [-1, 0, 1]]) / 4
LAPLACIAN = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
IDENTITY = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])


def moment(kernel: FloatArray, a: int, b: int) -> float:
    """m[a, b] by its definition, a double sum over the taps; any a, b, also beyond the size of the kernel."""
    centre = (len(kernel) - 1) / 2
    total = 0.0
    for k1, row in enumerate(kernel):
        for k2, q in enumerate(row):
            total += (k1 - centre) ** a * (k2 - centre) ** b * float(q)
    return total / (factorial(a) * factorial(b))


def orders_below(degree: int) -> list[tuple[int, int]]:
    return [(a, b) for a in range(degree) for b in range(degree - a)]


def constraints(size: int, orders: list[tuple[int, int]]) -> FloatArray:
    """One row per (a, b), such that rows @ kernel.ravel() are the moments."""
    k = np.arange(size) - (size - 1) / 2
    return np.stack([np.outer(k**a, k**b).ravel() / (factorial(a) * factorial(b)) for a, b in orders])


def random_kernel(rng: np.random.Generator, size: int, vanishing: int) -> FloatArray:
    """All Gram products from degree ``vanishing`` on, none of them with a negligible coefficient."""
    P = gram_basis(size)
    degree = np.add.outer(np.arange(size), np.arange(size))
    coefficients = rng.choice([-1, 1], (size, size)) * rng.uniform(0.5, 1.5, (size, size))
    return np.asarray(P.T @ (coefficients * (degree >= vanishing)) @ P)


# --- moment matrix <-> kernel


@given(size=st.integers(1, 9), seed=st.integers(0, 2**32 - 1), inverse_first=st.booleans())
@settings(max_examples=60)
def test_moments_and_kernel_are_inverse(size: int, seed: int, inverse_first: bool) -> None:
    given_matrix = np.random.default_rng(seed).standard_normal((size, size))
    first, second = moments_from_kernel, kernel_from_moments
    if inverse_first:
        first, second = second, first
    back = second(first(given_matrix))
    # The map is M (x) M, so its condition number cond(M)^2 is what rounding errors are multiplied by.
    bound = 4 * size * EPS * np.linalg.cond(moment_transform(size)) ** 2
    assert np.linalg.norm(back - given_matrix) <= bound * np.linalg.norm(given_matrix)
    assert bound < 1e-7


@pytest.mark.parametrize("size", SIZES)
def test_condition_number_of_the_moment_map_is_the_documented_one(size: int) -> None:
    M = moment_transform(size)
    whole_map = np.linalg.cond(np.kron(M, M))
    assert whole_map == pytest.approx(np.linalg.cond(M) ** 2, rel=1e-6)
    assert float(f"{whole_map:.1e}") == DOCUMENTED_CONDITION[size], "to the two digits that are documented"


@given(size=st.integers(1, 9), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_moments_follow_their_definition(size: int, seed: int) -> None:
    kernel = np.random.default_rng(seed).standard_normal((size, size))
    defined = [[moment(kernel, a, b) for b in range(size)] for a in range(size)]
    np.testing.assert_allclose(moments_from_kernel(kernel), defined, rtol=1e-11, atol=1e-11)


def test_stacks_of_kernels_are_transformed_one_by_one() -> None:
    stack = np.random.default_rng(0).standard_normal((2, 3, 5, 5))
    moments = moments_from_kernel(stack)
    assert moments.shape == stack.shape
    np.testing.assert_allclose(moments[1, 2], moments_from_kernel(stack[1, 2]), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(kernel_from_moments(moments), stack, rtol=0, atol=1e-11)


def test_rows_are_the_first_axis() -> None:
    moments = moments_from_kernel(CENTRAL)
    assert moments[0, 1] == pytest.approx(1)
    assert moments[1, 0] == pytest.approx(0)


@pytest.mark.parametrize("function", [moments_from_kernel, kernel_from_moments])
@pytest.mark.parametrize("shape", [(3,), (3, 5), (2, 3, 4)])
def test_matrices_that_are_not_square_are_refused(
    function: Callable[[FloatArray], FloatArray], shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"must be square in its last two axes, got shape \("):
        function(np.zeros(shape))


# --- bases


@pytest.mark.parametrize("size", [*range(1, 10), 14, 18])
def test_gram_polynomials_are_orthonormal_and_of_rising_degree(size: int) -> None:
    P = gram_basis(size)
    np.testing.assert_allclose(P @ P.T, np.eye(size), rtol=0, atol=1e-13)
    x = np.linspace(-1, 1, size) if size > 1 else np.zeros(1)
    for i in range(size):
        for lower in range(i):
            power = x**lower
            assert abs(P[i] @ power) <= 1e-9 * np.linalg.norm(power), f"P_{i} is not orthogonal to x^{lower}"
        assert P[i] @ x**i > 0, "the leading coefficient is positive"


@pytest.mark.parametrize("size", range(1, 10))
def test_dct_vectors_are_those_of_scipy(size: int) -> None:
    np.testing.assert_allclose(dct_basis(size), dct(np.eye(size), type=2, norm="ortho", axis=0), rtol=0, atol=1e-14)
    np.testing.assert_allclose(dct_basis(size) @ dct_basis(size).T, np.eye(size), rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", SIZES)
def test_dct_without_its_constant_has_one_vanishing_moment_and_no_more(size: int) -> None:
    rows = dct_basis(size)
    for i in range(1, size):
        kernel = np.outer(rows[i], rows[0])
        assert abs(moment(kernel, 0, 0)) < 1e-13
        assert (abs(moment(kernel, 1, 0)) > 1e-3) == (i % 2 == 1)


@pytest.mark.parametrize("size", [3, 4, 5, 7])
def test_gram_products_span_exactly_the_kernels_with_vanishing_moments(size: int) -> None:
    P = gram_basis(size)
    for p in range(1, size + 1):
        products = [np.outer(P[a], P[b]).ravel() for a in range(size) for b in range(size) if a + b >= p]
        assert len(products) == size**2 - p * (p + 1) // 2
        rows = constraints(size, orders_below(p))
        # The kernels with p vanishing moments are the null space of these rows; both projections must be one.
        null_space = np.linalg.svd(rows)[2][np.linalg.matrix_rank(rows) :]
        span = np.stack(products)
        np.testing.assert_allclose(span.T @ span, null_space.T @ null_space, rtol=0, atol=1e-10)


@pytest.mark.parametrize("function", [moment_transform, gram_basis, dct_basis])
def test_a_basis_without_taps_is_refused(function: Callable[[int], FloatArray]) -> None:
    with pytest.raises(ValueError, match=r"size must be at least 1, got 0\."):
        function(0)


# --- derivative kernels


@given(alpha=st.tuples(st.integers(0, 4), st.integers(0, 4)), size=st.integers(1, 9), accuracy=st.integers(1, 6))
@settings(max_examples=150)
def test_derivative_kernel_meets_its_conditions_or_none_can(alpha: tuple[int, int], size: int, accuracy: int) -> None:
    orders = sorted({*orders_below(sum(alpha) + accuracy), alpha})
    rows = constraints(size, orders)
    wanted = np.array([float(order == alpha) for order in orders])
    # Rows of length 1 keep the least squares well conditioned; on a single tap most rows are zero.
    length = np.maximum(np.linalg.norm(rows, axis=1), 1e-3)
    rows, wanted = rows / length[:, None], wanted / length
    best = np.linalg.lstsq(rows, wanted, rcond=1e-11)[0]
    if np.linalg.norm(rows @ best - wanted) > 1e-7 * np.linalg.norm(wanted):
        with pytest.raises(ValueError, match=f"{size} x {size} kernel cannot"):
            derivative_kernel(alpha, size, accuracy)
        return
    kernel = derivative_kernel(alpha, size, accuracy).ravel()
    np.testing.assert_allclose(rows @ kernel, wanted, rtol=0, atol=1e-9 * np.linalg.norm(kernel))
    # Of all kernels that meet them it is the shortest.
    np.testing.assert_allclose(kernel, best, rtol=0, atol=1e-7 * np.linalg.norm(best))


@pytest.mark.parametrize(
    ("alpha", "size", "stencil"),
    [
        ((1, 0), 3, PREWITT.T / 6),  # the least norm smooths across the derivative
        ((0, 1), 3, PREWITT / 6),
        ((1, 1), 3, CROSS),
        ((0, 0), 1, np.ones((1, 1))),
        ((0, 1), 2, np.array([[-1, 1], [-1, 1]]) / 2),
    ],
)
def test_derivative_kernels_of_least_norm_are_the_textbook_ones(
    alpha: tuple[int, int], size: int, stencil: FloatArray
) -> None:
    np.testing.assert_allclose(derivative_kernel(alpha, size), stencil, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("alpha", "size", "accuracy", "sentence"),
    [
        ((-1, 0), 3, 1, r"non-negative .* got alpha \(-1, 0\), accuracy 1\."),
        ((1, 0), 3, 0, r"accuracy at least 1, got alpha \(1, 0\), accuracy 0\."),
        ((3, 0), 3, 1, r"cannot hold the derivative \(3, 0\): it needs 4 taps\."),
        ((2, 0), 3, 3, r"cannot approximate \(2, 0\) to accuracy 3"),
    ],
)
def test_impossible_derivatives_are_refused(alpha: tuple[int, int], size: int, accuracy: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        derivative_kernel(alpha, size, accuracy)


# --- the theorem of filters as differential operators


def smooth(x: FloatArray, y: FloatArray, a: int = 0, b: int = 0) -> FloatArray:
    """d_1^a d_2^b of F(x, y) = sin(1.3 x + 0.4) exp(0.7 y)."""
    return np.asarray(1.3**a * np.sin(1.3 * x + 0.4 + a * np.pi / 2) * 0.7**b * np.exp(0.7 * y))


POINTS = np.random.default_rng(7).uniform(-1, 1, (2, 30))
MESHES = 2.0 ** -np.arange(3, 8)


def response(kernel: FloatArray, mesh: float) -> FloatArray:
    """sum_k q[k] F(x + mesh (k - c)) at every point."""
    offsets = (np.arange(len(kernel)) - (len(kernel) - 1) / 2) * mesh
    x = POINTS[0][:, None, None] + offsets[None, :, None]
    y = POINTS[1][:, None, None] + offsets[None, None, :]
    return np.asarray((kernel * smooth(x, y)).sum(axis=(1, 2)))


def measured_order(kernel: FloatArray, order: int, limit: FloatArray) -> float:
    """Slope of log(largest error) over log(mesh width), the response divided by mesh^order."""
    errors = [np.abs(response(kernel, mesh) / mesh**order - limit).max() for mesh in MESHES]
    return float(np.polyfit(np.log(MESHES), np.log(errors), 1)[0])


def with_parity(kernel: FloatArray, order: int) -> FloatArray:
    """The part of a kernel that has only moments of the parity of ``order``."""
    return np.asarray((kernel + (-1) ** order * kernel[::-1, ::-1]) / 2)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("alpha", [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (2, 1)])
def test_a_kernel_with_vanishing_moments_of_order_alpha_tends_to_that_derivative(
    alpha: tuple[int, int], size: int
) -> None:
    """mesh^-|alpha| sum_k q[k] F(x + mesh k) -> C_alpha d^alpha F, C_alpha = 1/alpha! sum_k k^alpha q[k]."""
    order = sum(alpha)
    moments = np.random.default_rng([size, *alpha]).uniform(0.5, 1.5, (size, size))
    degree = np.add.outer(np.arange(size), np.arange(size))
    coefficient = moments[alpha]
    moments[degree <= order] = 0
    moments[alpha] = coefficient
    kernel = kernel_from_moments(moments)
    limit = coefficient * smooth(*POINTS, *alpha)
    assert measured_order(kernel, order, limit) == pytest.approx(1, abs=0.15)
    assert measured_order(with_parity(kernel, order), order, limit) == pytest.approx(2, abs=0.15)
    named = name_operator(kernel)
    assert (named.order, named.alpha) == (order, alpha)
    assert named.coefficient == pytest.approx(coefficient)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_any_kernel_with_p_vanishing_moments_tends_to_an_operator_of_order_p(order: int, size: int) -> None:
    kernel = random_kernel(np.random.default_rng([size, order]), size, order)
    leading = [(a, order - a) for a in range(order + 1)]
    limit = np.sum([moment(kernel, *alpha) * smooth(*POINTS, *alpha) for alpha in leading], axis=0)
    assert measured_order(kernel, order, limit) == pytest.approx(1, abs=0.2)
    assert measured_order(with_parity(kernel, order), order, limit) == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("alpha", [(0, 0), (1, 0), (0, 2), (1, 1), (2, 1)])
@pytest.mark.parametrize("accuracy", [1, 2, 3, 4])
def test_derivative_kernels_reach_their_accuracy(alpha: tuple[int, int], accuracy: int) -> None:
    kernel = derivative_kernel(alpha, 7, accuracy)
    # The kernel of least norm has the parity of its derivative: every odd term of the error is zero.
    expected = 2 * ceil(accuracy / 2)
    measured = measured_order(kernel, sum(alpha), smooth(*POINTS, *alpha))
    assert measured == pytest.approx(expected, abs=0.25)
    assert measured > accuracy - 0.25


# --- names


@pytest.mark.parametrize(
    ("kernel", "alphas", "coefficient", "unexplained"),
    [
        (IDENTITY, {(0, 0)}, 1, 8 / 9),  # one tap of the nine that the mean P_0 P_0 is spread over
        (np.ones((3, 3)), {(0, 0)}, 9, 0),
        (CENTRAL, {(0, 1)}, 1, 2 / 3),  # one of the three rows of Prewitt's stencil, which is P_0 P_1
        (CENTRAL.T, {(1, 0)}, 1, 2 / 3),
        (PREWITT, {(0, 1)}, 6, 0),
        (SOBEL, {(0, 1)}, 8, 1 / 9),  # <(1, 2, 1), (1, 1, 1)>^2 / (6 * 3) = 8/9 is explained
        (SOBEL.T, {(1, 0)}, 8, 1 / 9),
        (CROSS, {(1, 1)}, 1, 0),
        (SECOND, {(2, 0)}, 1, 2 / 3),
        (FORWARD, {(0, 1)}, 1, 11 / 12),
        (LAPLACIAN, {(2, 0), (0, 2)}, 1, 9 / 10),  # both derivatives lead alike
    ],
)
def test_known_stencils_are_named(
    kernel: FloatArray, alphas: set[tuple[int, int]], coefficient: float, unexplained: float
) -> None:
    named = name_operator(kernel)
    assert named.alpha in alphas
    assert named.order == sum(named.alpha)
    assert named.coefficient == pytest.approx(coefficient)
    assert named.unexplained == pytest.approx(unexplained, abs=1e-12)


@given(size=st.integers(2, 9), order=st.integers(0, 4), seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-6, 1e6))
@settings(max_examples=60)
def test_names_follow_the_symmetries_of_the_kernel(size: int, order: int, seed: int, scale: float) -> None:
    order = min(order, 2 * size - 2)
    kernel = random_kernel(np.random.default_rng(seed), size, order)
    named, scaled = name_operator(kernel), name_operator(scale * kernel)
    assert named.order == order
    assert 0 <= named.unexplained <= 1
    assert (scaled.order, scaled.alpha) == (named.order, named.alpha)
    assert scaled.coefficient == pytest.approx(scale * named.coefficient, rel=1e-9)
    transposed, mirrored = name_operator(kernel.T), name_operator(kernel[::-1])
    assert transposed.alpha == named.alpha[::-1]
    assert mirrored.coefficient == pytest.approx((-1) ** named.alpha[0] * named.coefficient, rel=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_a_gram_product_is_explained_entirely(size: int) -> None:
    P = gram_basis(size)
    for a in range(size):
        for b in range(size):
            named = name_operator(np.outer(P[a], P[b]))
            assert named.alpha == (a, b)
            assert 0 <= named.unexplained <= 1e-12, "a share lies in [0, 1], rounding included"


def test_names_read_well() -> None:
    assert str(name_operator(CROSS)) == "+1 dy dx (0% unexplained)"
    assert str(name_operator(-2 * SECOND)) == "-2 dy^2 (67% unexplained)"
    assert str(name_operator(IDENTITY)) == "+1 identity (89% unexplained)"


def test_tolerance_decides_when_a_moment_has_vanished() -> None:
    kernel = PREWITT / np.linalg.norm(PREWITT) + 1e-4 * np.ones((3, 3)) / 3
    assert name_operator(kernel).order == 1
    assert name_operator(kernel, tolerance=1e-5).order == 0


@pytest.mark.parametrize(
    "kernel", [np.zeros((3, 3)), np.full((3, 3), np.nan), np.full((3, 3), np.inf), np.ones((2, 3, 3)), np.ones((3, 4))]
)
def test_what_is_no_kernel_has_no_name(kernel: FloatArray) -> None:
    with pytest.raises(ValueError, match="square"):
        name_operator(kernel)
