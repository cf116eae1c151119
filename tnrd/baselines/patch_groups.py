"""Groups of similar patches, denoised by weighted shrinkage of their singular values, and put back into the picture.

A group is a matrix X less its mean patch: patches by pixels or its transpose, whichever has fewer columns, m. With
X^T X = V diag(s^2) V^T the shrunk matrix is X V diag(h) V^T, h the factors of the singular values: the other singular
vectors are not needed. In float32 s^2 is right to about 1e-6 of the largest; what is kept is larger than that by far.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange

from tnrd.baselines.eigenvectors import (
    BUFFER,
    LANES,
    LARGEST,
    ONE,
    ROW,
    SOURCES,
    TURNS,
    TWO,
    ZERO,
    D,
    E,
    diagonalise,
    part,
    reflect,
    tridiagonalise,
)
from tnrd.kernels.correlate_numba import compiled

FEWEST = 4  # rows of a product that are added at a time
WIDTH = 16  # rows of matrices are padded to a multiple


@part
def _gather(y: Any, places: Any, size: Any, A: Any, mean: Any) -> None:
    """The patches of a group less their mean: rows of A if they are not fewer than their pixels, columns otherwise."""
    width, tall = y.shape[1], places.size >= mean.size
    mean[:] = ZERO
    for i in range(places.size):
        row, column = places[i] // width, places[i] % width
        for dy in range(size):
            source = y[row + dy, column : column + size]
            for dx in range(size):
                k = dy * size + dx
                mean[k] += source[dx]
                if tall:
                    A[i, k] = source[dx]
                else:
                    A[k, i] = source[dx]
    for k in range(mean.size):
        mean[k] /= np.float32(places.size)
    for i in range(max(places.size, mean.size)):
        row_of_a = A[i]
        for k in range(min(places.size, mean.size)):
            row_of_a[k] -= mean[k] if tall else mean[i]


@part
def _gram(A: Any, length: Any, G: Any) -> None:
    """G = A^T A; the rows of A that follow its ``length`` are zero."""
    G[:] = ZERO
    for start in range(0, length, FEWEST):
        a0, a1, a2, a3 = A[start], A[start + 1], A[start + 2], A[start + 3]
        for i in range(len(G)):
            row = G[i, : i + 1]
            f0, f1, f2, f3 = a0[i], a1[i], a2[i], a3[i]
            for k in range(i + 1):
                row[k] += f0 * a0[k] + f1 * a1[k] + f2 * a2[k] + f3 * a3[k]
    for i in range(len(G)):
        for k in range(i):
            G[k, i] = G[i, k]


@part
def _shrink(A: Any, length: Any, W: Any, values: Any, threshold: Any, H: Any, row: Any) -> None:
    """A <- A W^T diag(h) W with h = (1 + sqrt(1 - threshold / s^2)) / 2 where s^2 > threshold, 0 elsewhere."""
    m, width = len(W), H.shape[1]
    H[:] = ZERO
    for j in range(m):
        if values[j] > threshold:
            h, v = (ONE + np.sqrt(ONE - threshold / values[j])) / TWO, W[j]
            for i in range(m):
                target, a = H[i], h * v[i]
                for k in range(width):
                    target[k] += a * v[k]
    for i in range(length):
        own = A[i]
        row[:] = ZERO
        for j in range(0, m, FEWEST):
            h0, h1, h2, h3 = H[j], H[j + 1], H[j + 2], H[j + 3]
            f0, f1, f2, f3 = own[j], own[j + 1], own[j + 2], own[j + 3]
            for k in range(width):
                row[k] += f0 * h0[k] + f1 * h1[k] + f2 * h2[k] + f3 * h3[k]
        own[:] = row


@part
def _put_back(A: Any, places: Any, size: Any, mean: Any, top: Any, sums: Any) -> None:
    """Add the patches of a group, and how often a pixel was in one, to the sums (2, rows, N) from row ``top`` on."""
    width, tall = sums.shape[2], places.size >= mean.size
    for i in range(places.size):
        row, column = places[i] // width - top, places[i] % width
        for dy in range(size):
            values = sums[0, row + dy, column : column + size]
            counts = sums[1, row + dy, column : column + size]
            for dx in range(size):
                k = dy * size + dx
                values[dx] += mean[k] + (A[i, k] if tall else A[k, i])
                counts[dx] += ONE


@part
def _variance(y: Any, f: Any, place: Any, size: Any, sigma: Any, strength: Any) -> Any:
    """Of the noise left in a patch, strength^2 |sigma^2 - mean((P f - P y)^2)|; sigma^2 where strength is 0."""
    if strength == ZERO:
        return sigma * sigma
    row, column = place // y.shape[1], place % y.shape[1]
    removed = ZERO
    for dy in range(size):
        for dx in range(size):
            change = f[row + dy, column + dx] - y[row + dy, column + dx]
            removed += change * change
    return strength * strength * abs(sigma * sigma - removed / np.float32(size * size))


@part
def _estimate(y: Any, f: Any, places: Any, owners: Any, size: Any, numbers: Any, top: Any, sums: Any,
              memory: Any) -> None:  # fmt: skip
    """Denoise up to LANES groups and add them to the sums."""
    sigma, strength, factor = numbers
    A, means, thresholds, W, t, G, H, vectors, work = memory
    groups = len(places)
    m, length = min(places.shape[1], size * size), max(places.shape[1], size * size)
    t[:] = ZERO
    for b in range(groups):
        _gather(y, places[b], size, A[b], means[b])
        thresholds[b] = factor * _variance(y, f, owners[b], size, sigma, strength)
        _gram(A[b], length, G)
        trace = ZERO
        for i in range(m):
            trace += G[i, i]
        if trace <= thresholds[b]:  # no singular value can be kept: the eigenvectors do not matter
            G[:] = ZERO
        tridiagonalise(G, vectors[0], vectors[1], vectors[2])
        reflect(G, W[b])
        for i in range(m):
            t[i * ROW + D + b], t[i * ROW + E + b] = vectors[0, i], vectors[1, i]
    diagonalise(t, m, W, work)
    values = vectors[0]
    for b in range(groups):
        for i in range(m):
            values[i] = t[i * ROW + D + b]
        _shrink(A[b], length, W[b], values, thresholds[b], H, vectors[1])
        _put_back(A[b], places[b], size, means[b], top, sums)


@part
def _estimate_band(y: Any, f: Any, places: Any, owners: Any, size: Any, numbers: Any, top: Any, sums: Any) -> None:
    """All groups of a band, LANES at a time in the same memory."""
    m, length = min(places.shape[1], size * size), max(places.shape[1], size * size)
    pitch = (m + WIDTH - 1) // WIDTH * WIDTH
    memory = (
        np.zeros((LANES, length + FEWEST - 1, pitch), np.float32),
        np.zeros((LANES, size * size), np.float32),
        np.zeros(LANES, np.float32),
        np.zeros((LANES, m, pitch), np.float32),
        np.zeros(m * ROW, np.float32),
        np.zeros((m, m), np.float32),
        np.zeros((pitch, pitch), np.float32),
        np.zeros((3, pitch), np.float32),
        (
            np.zeros(LARGEST + LANES, np.float32),
            np.zeros((LANES, BUFFER + TURNS, m, 2), np.float32),
            np.zeros((LANES, BUFFER + TURNS), np.int64),
        ),
    )
    for start in range(0, len(places), LANES):
        stop = min(start + LANES, len(places))
        _estimate(y, f, places[start:stop], owners[start:stop], size, numbers, top, sums, memory)


def _loops(sources: int) -> Callable[..., Any]:
    """The function to compile; ``sources`` adds nothing but what it is known by."""

    def estimate(y, f, places, owners, edges, tops, size, numbers, sums):  # type: ignore[no-untyped-def]
        for band in prange(len(tops) + 0 * sources):
            first, last = edges[band], edges[band + 1]
            _estimate_band(y, f, places[first:last], owners[first:last], size, numbers, tops[band], sums[band])

    return estimate


estimate_groups = compiled(_loops(SOURCES), "the shrinkage of patch groups")
"""Denoise groups of patches of one plane, bands of groups beside each other.

Args:
    y, f: The plane and its noisy original, (M, N).
    places: (groups, n), patches as row * N + column of their first pixels.
    owners: (groups,), the patch at which the noise is judged.
    edges: (bands + 1,), the groups of each band.
    tops: (bands,), a row not below any patch of the band.
    size: Side of a patch.
    numbers: sigma, strength (0: the noise of y is sigma) and 4 c sqrt(n), as float32.
    sums: (bands, 2, rows, N); estimates, and how many there are, are added to the rows from that of ``tops`` on.
"""
