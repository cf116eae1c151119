"""Kernels as differential operators: moments, orthonormal bases, and the name of a kernel.

The moment matrix of an l x l kernel q is

    m[a, b] = 1/(a! b!) sum_{k1, k2} (k1 - c)^a (k2 - c)^b q[k1, k2],     c = (l - 1)/2,

a linear bijection m = M q M^T with M[i, k] = (k - c)^i / i!. By Taylor's formula a kernel applied to samples of a
smooth function with mesh width d is the differential operator

    sum_k q[k] u(x + d (k - c)) = sum_{a, b} m[a, b] d^(a+b) d_1^a d_2^b u(x),

so q has p vanishing moments (m[a, b] = 0 for a + b < p) exactly when it is a derivative of order p or higher
(Dong, Jiang & Shen, Multiscale Model. Simul. 15(1), 2017; Long, Lu, Ma & Dong, PDE-Net, ICML 2018). Rows are the
first axis, columns the second. Everything here is float64 numpy; learning happens in :mod:`tnrd.filters`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def moment_transform(size: int) -> FloatArray:
    """The matrix M[i, k] = (k - c)^i / i! that takes one axis of a kernel to its moments.

    Args:
        size: Side length l of the kernel, at least 1; c = (l - 1)/2 is its centre.

    Returns:
        (l, l) matrix, invertible. The map q -> M q M^T has condition number cond(M)^2: 22, 1.1e3, 8.6e4, 8.2e6
        for l = 3, 5, 7, 9.

    Raises:
        ValueError: ``size`` is below 1.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}.")
    offsets = np.arange(size) - (size - 1) / 2
    return np.stack([offsets**i / factorial(i) for i in range(size)])


def moments_from_kernel(kernel: ArrayLike) -> FloatArray:
    """Moment matrix m = M q M^T of one kernel or of a stack of them.

    Args:
        kernel: (..., l, l), square in the last two axes.

    Returns:
        (..., l, l) with m[..., a, b] the coefficient of d_1^a d_2^b on a unit mesh.

    Raises:
        ValueError: The last two axes are not equal.
    """
    q = _square(kernel, "kernel")
    M = moment_transform(q.shape[-1])
    return np.asarray(M @ q @ M.T)


def kernel_from_moments(moments: ArrayLike) -> FloatArray:
    """The kernel q = M^-1 m M^-T with the given moment matrix; inverse of :func:`moments_from_kernel`.

    Args:
        moments: (..., l, l), square in the last two axes.

    Returns:
        (..., l, l) kernels.

    Raises:
        ValueError: The last two axes are not equal.
    """
    m = _square(moments, "moments")
    M = moment_transform(m.shape[-1])
    left = np.linalg.solve(M, m)
    return np.asarray(np.swapaxes(np.linalg.solve(M, np.swapaxes(left, -1, -2)), -1, -2))


def gram_basis(size: int) -> FloatArray:
    """Discrete Legendre (Gram) polynomials, orthonormal on the taps of one axis.

    Row i is the polynomial of degree i that is orthogonal to every lower degree. Hence, for the tensor products
    P_a(k1) P_b(k2), those with a + b >= p span *exactly* the kernels with p vanishing moments: the well conditioned
    way to learn under that constraint.

    Args:
        size: Side length l, at least 1.

    Returns:
        (l, l) orthogonal matrix with positive leading coefficients.
    """
    Q, R = np.linalg.qr(moment_transform(size).T)
    return np.asarray((Q * np.sign(np.diag(R))).T)


def dct_basis(size: int) -> FloatArray:
    """Orthonormal DCT-II vectors on the taps of one axis, the basis of Chen & Pock; row 0 is the constant.

    Args:
        size: Side length l, at least 1.

    Returns:
        (l, l) orthogonal matrix.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}.")
    i, k = np.arange(size)[:, None], np.arange(size)[None, :]
    rows = np.sqrt(2.0 / size) * np.cos(np.pi * i * (2 * k + 1) / (2 * size))
    rows[0] /= np.sqrt(2.0)
    return np.asarray(rows)


def derivative_kernel(alpha: tuple[int, int], size: int, accuracy: int = 1) -> FloatArray:
    """The kernel of least norm that approximates the derivative d_1^a1 d_2^a2.

    It has m[alpha] = 1 and m[beta] = 0 for every other |beta| < |alpha| + accuracy, so that on a mesh of width d

        d^-|alpha| sum_k q[k] u(x + d (k - c)) = d^alpha u(x) + O(d^accuracy).

    Args:
        alpha: Orders of the derivative along rows and columns, each at least 0.
        size: Side length l of the kernel.
        accuracy: Order of the error, at least 1; 1 asks for vanishing moments of order alpha only.

    Returns:
        (l, l) kernel.

    Raises:
        ValueError: The kernel is too small for this derivative and accuracy, or one of them is out of range.
    """
    alpha = a1, a2 = int(alpha[0]), int(alpha[1])
    degree = a1 + a2 + accuracy
    if min(a1, a2) < 0 or accuracy < 1:
        raise ValueError(f"alpha must be non-negative and accuracy at least 1, got alpha {alpha}, accuracy {accuracy}.")
    if max(a1, a2) >= size:
        raise ValueError(
            f"A {size} x {size} kernel cannot hold the derivative {alpha}: it needs {max(a1, a2) + 1} taps."
        )
    M = moment_transform(size)
    wanted = [(a, b) for a in range(size) for b in range(size) if a + b < degree or (a, b) == alpha]
    rows = np.stack([np.outer(M[a], M[b]).ravel() for a, b in wanted])
    target = np.array([float(index == alpha) for index in wanted])
    q = np.asarray(np.linalg.lstsq(rows, target, rcond=None)[0]).reshape(size, size)
    # Moments of degree >= size along one axis are not free coordinates: the lower ones already fix them.
    if degree > size and not _has_vanishing(q, alpha, degree):
        raise ValueError(
            f"A {size} x {size} kernel cannot approximate {alpha} to accuracy {accuracy}; use a larger one."
        )
    return q


@dataclass(frozen=True)
class OperatorName:
    """What a kernel does to a smooth image.

    Attributes:
        order: Number p of vanishing moments: the kernel is a differential operator of order p.
        alpha: Dominant derivative of that order, (rows, columns).
        coefficient: C_alpha = m[alpha], so that the response tends to C_alpha d^p d^alpha u as the mesh width d -> 0.
        unexplained: Share in [0, 1] of the kernel's energy outside the plainest kernel of that derivative, the Gram
            product P_a P_b, which smooths over the whole kernel: 0 for Prewitt's stencil, 1/9 for Sobel's, 2/3 for the
            plain central difference, near 1 when high frequencies dominate.
    """

    order: int
    alpha: tuple[int, int]
    coefficient: float
    unexplained: float

    def __str__(self) -> str:
        parts = [f"d{axis}^{n}" if n > 1 else f"d{axis}" for axis, n in zip("yx", self.alpha, strict=True) if n]
        return f"{self.coefficient:+.3g} {' '.join(parts) or 'identity'} ({self.unexplained:.0%} unexplained)"


def name_operator(kernel: ArrayLike, tolerance: float = 1e-3) -> OperatorName:
    """Name the differential operator that a kernel approximates.

    The energy of the kernel is split over the orthonormal Gram products P_a P_b; the order is the least a + b that
    holds more than ``tolerance``^2 of it, and the dominant derivative the largest of that order.

    Args:
        kernel: (l, l), not all zero.
        tolerance: Relative amplitude under which a moment counts as vanished.

    Returns:
        The order, the dominant derivative, its coefficient and the unexplained share.

    Raises:
        ValueError: The kernel is not square, not finite or zero.
    """
    q = _square(kernel, "kernel")
    norm = float(np.linalg.norm(q))
    if q.ndim != 2 or not np.isfinite(norm) or norm == 0.0:
        raise ValueError(
            f"A kernel to be named must be one finite, non-zero square array, got shape {q.shape}, norm {norm}."
        )
    P = gram_basis(q.shape[0])
    energy = (P @ q @ P.T / norm) ** 2
    degree = np.add.outer(np.arange(q.shape[0]), np.arange(q.shape[0]))
    order = next(p for p in range(2 * q.shape[0] - 1) if energy[degree == p].sum() > tolerance**2)
    leading = np.where(degree == order, energy, -1.0)
    a1, a2 = (int(i) for i in np.unravel_index(np.argmax(leading), leading.shape))
    return OperatorName(order, (a1, a2), float(moments_from_kernel(q)[a1, a2]), max(0.0, float(1.0 - energy[a1, a2])))


def _has_vanishing(q: FloatArray, alpha: tuple[int, int], degree: int) -> bool:
    offsets = np.arange(q.shape[0]) - (q.shape[0] - 1) / 2
    scale = np.abs(q).sum()
    for a in range(degree):
        for b in range(degree - a):
            weight = np.outer(offsets**a, offsets**b) / (factorial(a) * factorial(b))
            bound = 1e-9 * scale * max(1.0, float(np.abs(weight).max()))
            if abs(float((weight * q).sum()) - float((a, b) == alpha)) > bound:
                return False
    return True


def _square(array: ArrayLike, what: str) -> FloatArray:
    values = np.asarray(array, dtype=np.float64)
    if values.ndim < 2 or values.shape[-1] != values.shape[-2]:
        raise ValueError(f"{what} must be square in its last two axes, got shape {values.shape}.")
    return values
