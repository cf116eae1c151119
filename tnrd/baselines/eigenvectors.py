"""Eigenvectors of many small symmetric matrices, compiled, as a part of :mod:`tnrd.baselines.patch_groups`.

Householder's tridiagonalisation, then QL sweeps with explicit shifts (Bowdler, Martin, Reinsch & Wilkinson, Numer.
Math. 11, 1968). A sweep waits for a square root at every row, so :data:`LANES` matrices are swept together; to keep
them in step, no sweep stops at a split, where this form of the method simply starts afresh. All is float32: eigenvalues
are right to about 1e-6 of the largest. Several times as fast as a call of LAPACK for each matrix.

Rows of eigenvectors are padded with zeros, so that loops over them have no odd ends.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from tnrd.kernels.correlate_numba import FAST

# What the compiled callers are known by on disk, see the same name in correlate_numba.
SOURCES = int.from_bytes(hashlib.sha256(Path(__file__).read_bytes()).digest()[:7], "big")

LANES = 32  # matrices swept together
TURNS = 30  # sweeps for an eigenvalue at most; one or two are the rule
BUFFER = 48  # sweeps whose rotations are kept before they are applied, and TURNS more
PRECISION = np.float32(2**-24)
TINY = np.float32(1e-30)
ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)
# Rows of LANES numbers: of a tridiagonal matrix its diagonals and a rotation, and of a sweep its state.
D, E, C, S, P, ACTIVE, MOVED, TOTAL, LARGEST = range(0, 9 * LANES, LANES)
ROW = 4 * LANES
# No check of divisors: an exception in a loop would keep it from being vectorised.
part = njit(nogil=True, fastmath=FAST, error_model="numpy")


@part
def tridiagonalise(G: Any, d: Any, e: Any, q: Any) -> None:
    """G = Q T Q^T; the diagonals of T go into d and e. Left in G: the reflections, and 2 / |v|^2 on the diagonal."""
    for i in range(len(G) - 1, 0, -1):
        v = G[i, :i]
        d[i] = G[i, i]
        G[i, i] = ZERO
        e[i - 1] = v[i - 1]
        below = ZERO
        for k in range(i - 1):
            below += v[k] * v[k]
        if below <= TINY:  # as good as zero, and its square would underflow
            continue
        norm = np.sqrt(below + v[i - 1] * v[i - 1])
        e[i - 1] = -norm if v[i - 1] > ZERO else norm
        v[i - 1] -= e[i - 1]
        scale = -ONE / (e[i - 1] * v[i - 1])
        G[i, i] = scale
        q[:i] = ZERO
        for j in range(i):
            row, a = G[j, :i], scale * v[j]
            for k in range(i):
                q[k] += a * row[k]
        inner = ZERO
        for k in range(i):
            inner += q[k] * v[k]
        inner *= scale / TWO
        for k in range(i):
            q[k] -= inner * v[k]
        for j in range(i):
            row, a, b = G[j, :i], v[j], q[j]
            for k in range(i):
                row[k] -= a * q[k] + b * v[k]
    d[0] = G[0, 0]
    e[len(G) - 1] = ZERO


@part
def reflect(G: Any, W: Any) -> None:
    """W = Q^T, from what :func:`tridiagonalise` left in G."""
    W[:] = ZERO
    W[0, 0] = ONE
    for i in range(1, len(G)):
        v, scale = G[i, :i], G[i, i]
        W[i, i] = ONE
        if scale == ZERO:
            continue
        for j in range(i):
            row = W[j, :i]
            inner = ZERO
            for k in range(i):
                inner += row[k] * v[k]
            inner *= scale
            for k in range(i):
                row[k] -= inner * v[k]


@part
def _shift(t: Any, m: Any, first: Any, state: Any) -> None:
    """Subtract each active matrix's shift, an eigenvalue of its block at first, from its diagonal."""
    for b in range(LANES):
        state[MOVED + b] = ZERO
        if state[ACTIVE + b] > ZERO:
            two = t[first * ROW : (first + 2) * ROW]
            g, e = two[D + b], two[E + b]
            p = (two[ROW + D + b] - g) / (TWO * e)
            r = np.sqrt(p * p + ONE)
            q = p + (r if p >= ZERO else -r)
            two[D + b] = e / q
            two[ROW + D + b] = e * q
            state[MOVED + b] = g - e / q
            state[TOTAL + b] += state[MOVED + b]
    for i in range(first + 2, m):
        row = t[i * ROW : (i + 1) * ROW]
        for b in range(LANES):
            row[D + b] -= state[MOVED + b]


@part
def _sweep(t: Any, m: Any, first: Any, state: Any) -> None:
    """One QL sweep of the active matrices from the last row up to first; its rotations go beside the rows."""
    for b in range(LANES):
        state[P + b], state[C + b], state[S + b] = t[(m - 1) * ROW + D + b], ONE, ZERO
    for i in range(m - 2, first - 1, -1):
        two = t[i * ROW : (i + 2) * ROW]  # rows i and i + 1 as one array: the compiler sees that they do not overlap
        for b in range(LANES):
            active = state[ACTIVE + b] > ZERO
            p, cosine, sine, d, e = state[P + b], state[C + b], state[S + b], two[D + b], two[E + b]
            g, h = cosine * e, cosine * p
            r = np.sqrt(p * p + e * e)
            whole = r > ZERO
            inverse = ONE / (r if whole else ONE)
            s = e * inverse
            c = p * inverse if whole else ONE
            two[ROW + E + b] = sine * r if active else two[ROW + E + b]
            two[ROW + D + b] = h + s * (c * g + s * d) if active else two[ROW + D + b]
            two[C + b], two[S + b] = c, s
            state[P + b], state[C + b], state[S + b] = c * d - s * g, c, s
    for b in range(LANES):
        if state[ACTIVE + b] > ZERO:
            t[first * ROW + E + b] = state[S + b] * state[P + b]
            t[first * ROW + D + b] = state[C + b] * state[P + b]


@part
def _rotate(W: Any, rotations: Any, starts: Any, sweeps: Any) -> None:
    """Apply sweeps of rotations to the rows of W, from the last pair up to that at ``starts``; four in one pass."""
    for sweep in range(sweeps):
        turns = rotations[sweep]
        i = len(W) - 2
        while i - 3 >= starts[sweep]:
            c0, s0, c1, s1 = turns[i, 0], turns[i, 1], turns[i - 1, 0], turns[i - 1, 1]
            c2, s2, c3, s3 = turns[i - 2, 0], turns[i - 2, 1], turns[i - 3, 0], turns[i - 3, 1]
            w0, w1, w2, w3, w4 = W[i + 1], W[i], W[i - 1], W[i - 2], W[i - 3]
            for k in range(W.shape[1]):
                a, b = w0[k], w1[k]
                w0[k] = s0 * b + c0 * a
                a, b = c0 * b - s0 * a, w2[k]
                w1[k] = s1 * b + c1 * a
                a, b = c1 * b - s1 * a, w3[k]
                w2[k] = s2 * b + c2 * a
                a, b = c2 * b - s2 * a, w4[k]
                w3[k] = s3 * b + c3 * a
                w4[k] = c3 * b - s3 * a
            i -= 4
        while i >= starts[sweep]:
            c0, s0 = turns[i, 0], turns[i, 1]
            w0, w1 = W[i + 1], W[i]
            for k in range(W.shape[1]):
                a, b = w0[k], w1[k]
                w0[k] = s0 * b + c0 * a
                w1[k] = c0 * b - s0 * a
            i -= 1


@part
def diagonalise(t: Any, m: Any, W: Any, work: Any) -> None:
    """Turn LANES tridiagonal matrices diagonal; with W their Q^T before, the rows of W are the eigenvectors after."""
    state, rotations, starts = work
    sweeps = np.zeros(LANES, np.int64)
    state[:] = ZERO
    for i in range(m):
        for b in range(LANES):
            size = abs(t[i * ROW + D + b]) + abs(t[i * ROW + E + b])
            state[LARGEST + b] = max(state[LARGEST + b], size)
    for first in range(m):
        for _ in range(TURNS):
            left = ZERO
            for b in range(LANES):
                state[ACTIVE + b] = ONE if abs(t[first * ROW + E + b]) > PRECISION * state[LARGEST + b] else ZERO
                left += state[ACTIVE + b]
            if left == ZERO:
                break
            _shift(t, m, first, state)
            _sweep(t, m, first, state)
            for b in range(LANES):
                if state[ACTIVE + b] > ZERO:
                    kept = rotations[b, sweeps[b]]
                    for i in range(first, m - 1):
                        kept[i, 0], kept[i, 1] = t[i * ROW + C + b], t[i * ROW + S + b]
                    starts[b, sweeps[b]] = first
                    sweeps[b] += 1
        for b in range(LANES):
            t[first * ROW + D + b] += state[TOTAL + b]
            if sweeps[b] >= BUFFER or first == m - 1:
                _rotate(W[b], rotations[b], starts[b], sweeps[b])
                sweeps[b] = 0
