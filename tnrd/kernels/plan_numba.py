"""How the compiled loops of the diffusion step cut up a picture, and how they want its kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tnrd.kernels.correlate_numba import BLOCKS, Bank, Buffers
from tnrd.kernels.correlate_winograd_numba import SIDES, PointBank
from tnrd.kernels.simd import EVEN_LEFT, EVEN_RIGHT, LANES, LEFT, RIGHT, vectors_beside
from tnrd.kernels.simd_winograd import POINTS, ROWS, TAPS, kernel_transform
from tnrd.kernels.step_winograd_numba import CHUNK

CACHE = 2**18  # floats that a core's caches are trusted to hold
BACKWARD_CACHE = 2**19  # of the backward pass, which gains more by many rows at a time than a farther cache costs it
WIDEST = 34 * LANES  # responses of a row of a strip: 512 pixels and what the kernels reach beyond
GROUP = 4  # rows that the forward pass advances at a time
BACKWARD_GROUP = 128  # vectors of one response that the backward pass advances at a time, if the cache holds them
PAGE = 4096  # bytes after which addresses fall into the same set of a first-level cache
APART = 256
JOB = 8192  # pixels of a job of the backward pass, so that sums over jobs do not depend on the number of threads
MOST_JOBS = 64
FEWEST = 4  # components from which on the transforms of Winograd's scheme cost less than they save


class Arranged(NamedTuple):
    """Kernels and a table of psi in the order in which the loops read them: blocks of K and of K^T, and words."""

    forward: NDArray[np.float32]
    adjoint: NDArray[np.float32]
    words: NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """How the loops cut up a picture of one shape; sizes in floats, offsets in bytes.

    Attributes:
        by_points: Whether K and K^T are taken by Winograd's scheme.
        parts: (image, y0, y1, x0, x1), a row each.
        jobs: Where runs of parts begin, whose gradients are summed in one place.
        buffers: Sizes of the scratch memory.
        offsets: Of the taps of K.
        adjoint_offsets: Of those of K^T; none by points.
        side: Taps of a block of inner products.
        workspace: Scratch memory of a thread.
    """

    by_points: bool
    parts: NDArray[np.int64]
    jobs: NDArray[np.int64]
    buffers: Buffers
    offsets: NDArray[np.int64]
    adjoint_offsets: NDArray[np.int64]
    side: int
    workspace: int


@lru_cache(maxsize=64)
def plan(shape: tuple[int, ...], filters: int, size: int, backward: bool, threads: int) -> Plan:
    """Strips as wide as the cache allows, bands for all threads, and the memory for one thread."""
    n, channels, height, width = shape
    r = size // 2
    by_points = are_by_points(channels, size)
    measure = partial(_floats_by_points, filters) if by_points else _floats

    def buffers_of(columns: int, group: int = GROUP) -> Buffers:
        return _buffers(filters, size, group, padded(columns, LANES) + LANES)

    def fits(buffers: Buffers) -> bool:
        return measure(buffers, channels, backward) <= (BACKWARD_CACHE if backward else CACHE)

    widths = range(WIDEST, 2 * LANES, -LANES)
    columns = _strips(width, r, next((most for most in widths if fits(buffers_of(most))), 2 * LANES))
    own = int(max(np.diff(columns)))
    responses = min(width, own + 2 * r)
    buffers = buffers_of(responses)
    if backward:
        groups = range(padded(min(height + 2 * r, BACKWARD_GROUP * LANES // responses), ROWS), GROUP, -ROWS)
        buffers = next((b for b in (buffers_of(responses, group) for group in groups) if fits(b)), buffers)
    if backward:
        bands = max(1, min(math.ceil(height * own / JOB), height // (8 * size)))
    else:
        bands = _fairest(height, n * (len(columns) - 1), max(1, height // (4 * size)), 2 * r, threads)
    rows = _bands(height, bands, by_points)
    parts = [(i, y0, y1, x0, x1) for i in range(n) for x0, x1 in pairwise(columns) for y0, y1 in pairwise(rows)]
    count = min(len(parts), MOST_JOBS, max(2, n * height * width // JOB))
    jobs = np.linspace(0, len(parts), count + 1).astype(np.int64)
    taps, adjoint_taps = _taps_by_points(buffers, channels) if by_points else _taps(buffers, channels, filters)
    sides = (EVEN_RIGHT,) if by_points else RIGHT
    side = min(sides, key=lambda block: (padded(len(taps), block), -block))
    taps = np.pad(taps, (0, -len(taps) % side), mode="edge")
    workspace = measure(buffers, channels, backward)
    return Plan(by_points, np.array(parts, np.int64), jobs, buffers, taps, adjoint_taps, side, workspace)


def are_by_points(channels: int, size: int) -> bool:
    """Whether K and K^T of kernels (F, channels, size, size) are taken by Winograd's scheme."""
    return size == TAPS and channels >= FEWEST


def _fairest(height: int, strips: int, most: int, halo: int, threads: int) -> int:
    """Into how many bands to cut each strip, so that the thread with most to do has least.

    Every thread gets as many parts, or one less, and advances through the rows of each and through its halo.
    """

    def rows_of_a_thread(bands: int) -> float:
        return math.ceil(strips * bands / threads) * (height / bands + halo)

    return min(range(1, most + 1), key=rows_of_a_thread)


def _bands(height: int, count: int, by_points: bool) -> list[int]:
    """Borders of bands of rows; by points, a band ends where rows of K^T that are made together do."""
    rows = [height * band // count for band in range(count + 1)]
    return [0, *(padded(row, ROWS) - 1 for row in rows[1:-1]), height] if by_points else rows


def _taps(buffers: Buffers, channels: int, filters: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Byte offsets of the taps of K in rows of the picture, and of those of K^T in rows of responses."""
    size, _, planes, pitch = buffers
    r = size // 2
    c, dy, dx = np.meshgrid(*map(np.arange, (channels, size, size)), indexing="ij")
    offsets = 4 * ((dy * channels + c) * (pitch + 2 * r) + dx).ravel()
    dy, f = np.meshgrid(np.arange(size), np.arange(filters), indexing="ij")
    return offsets.astype(np.int64), 4 * (((2 * r - dy) * planes + f) * pitch).ravel().astype(np.int64)


def _taps_by_points(buffers: Buffers, channels: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same of K in what the transforms give, for one point; the loops of K^T count for themselves."""
    c, dx = np.meshgrid(np.arange(channels), np.arange(TAPS), indexing="ij")
    return 4 * (c * buffers.pitch + dx).ravel().astype(np.int64), np.zeros(0, np.int64)


def _buffers(filters: int, size: int, group: int, pitch: int) -> Buffers:
    planes = max(padded(filters, side) for side in (block_of(filters), block_of(filters, SIDES), LEFT))
    # Rows at multiples of a page would all fall into the same few places of the cache.
    apart = (p for p in range(planes, planes + 8) if min(4 * p * pitch % PAGE, -4 * p * pitch % PAGE) >= APART)
    return Buffers(size, group, next(apart, planes), pitch)


def _floats(buffers: Buffers, channels: int, backward: bool) -> int:
    """What the loops take of the scratch memory of one thread."""
    size, group, planes, pitch = buffers
    tiles = (1 + backward) * (group + size - 1) * channels * (pitch + size - 1)
    responses = (group + size - 1 + backward * group) * planes * pitch
    sums = padded(channels * size, block_of(channels * size)) + 1
    return tiles + responses + sums * (pitch + 2 * size) + 2 * LANES


def _floats_by_points(filters: int, buffers: Buffers, channels: int, backward: bool) -> int:
    """The same by points."""
    size, group, planes, pitch = buffers
    points = POINTS * group // ROWS
    tiles = ((group + size - 1) + (1 + backward) * points) * channels * pitch
    side = block_of(filters, SIDES)
    beside = backward * (group * side + 2 * points * padded(side, EVEN_LEFT) + 1) * pitch
    outputs = padded(channels, block_of(channels, SIDES))
    results = ROWS * outputs * pitch + POINTS * max(8, outputs) * 4 * LANES
    edges = 2 * (POINTS + ROWS) * padded(outputs, LANES)
    chunk = POINTS * planes * (CHUNK + 1) * LANES
    margins = 4 * LANES  # zeros before the responses, what a last vector reads beyond them, and two for sums
    return tiles + beside + results + edges + chunk + (group + size - 1) * planes * pitch + margins


def _strips(width: int, r: int, widest: int) -> list[int]:
    """Borders of strips whose responses fit ``widest`` columns; whole vectors, so that no pixel is summed twice."""
    own = padded(max(r, math.ceil(width / math.ceil(width / max(LANES, widest - 2 * r)))), LANES)
    columns = [*range(0, width, own), width]
    if len(columns) > 2 and width - columns[-2] < r:  # what lies beyond a border folds onto the strip at that border
        del columns[-2]
    return columns


@lru_cache
def block_of(outputs: int, sides: Sequence[int] = BLOCKS) -> int:
    """Outputs per register block that waste least; a block costs its sums, or its loads if they are more."""

    def cost(block: int) -> float:
        vectors = vectors_beside(block)
        return math.ceil(outputs / block) * max(block, (2 * vectors + block) / vectors)

    return min(sides, key=lambda block: (cost(block), -block))


def padded(count: int, multiple: int) -> int:
    """The next multiple."""
    return -(-count // multiple) * multiple


def arrange(kernels: Tensor, table: Tensor) -> Arranged:
    """Kernels (F, C, k, k) and samples of psi (F, L) as the loops read them, whatever the picture.

    By numpy, whose products of so small matrices take one thread: torch's would still spin when the loops want a core.
    """
    filters, channels, size, _ = kernels.shape
    taps = np.append(kernels.detach().numpy().ravel(), np.float32(0.0))
    samples = table.detach().numpy()
    words = np.empty((*samples.shape, 2), np.float32)
    words[..., 0] = samples
    np.subtract(samples[:, 1:], samples[:, :-1], out=words[:, :-1, 1])
    words[:, -1, 1] = np.float32(0.0)
    pairs = words.view(np.int64)[..., 0]
    forward, adjoint = _places(filters, channels, size)
    if not are_by_points(channels, size):
        return Arranged(taps[forward], taps[adjoint], pairs)
    return Arranged(_at_points(taps, forward), _at_points(taps, adjoint), pairs)


@lru_cache(maxsize=64)
def _places(filters: int, channels: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which of the taps (F, C, k, k) stand where in the blocks of K and of K^T; places to fill name the one after all.

    Those of a scheme by points are the columns of kernels, (3, blocks, taps, outputs of a block), turned for K^T.
    """
    numbers = np.arange(filters * channels * size * size).reshape(filters, channels, size, size)
    if not are_by_points(channels, size):
        by_column = numbers.transpose(1, 3, 2, 0).reshape(channels * size, -1)
        return _blocked(numbers.reshape(filters, -1)), _blocked(by_column)
    columns = numbers.transpose(2, 0, 1, 3).reshape(TAPS, filters, -1)
    turned = numbers[:, :, ::-1, ::-1].transpose(2, 1, 0, 3).reshape(TAPS, channels, -1)
    return _blocked(columns, SIDES), _blocked(turned, SIDES)


def bank_of(arranged: Arranged, layout: Plan) -> Bank | PointBank:
    """The kernels with the offsets of a plan."""
    if layout.by_points:
        return PointBank(arranged.forward, layout.offsets, arranged.adjoint)
    return Bank(arranged.forward, layout.offsets, arranged.adjoint, layout.adjoint_offsets)


def _at_points(taps: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float32]:
    """G of columns of kernels (3, blocks, taps, outputs): (POINTS, blocks, taps, outputs)."""
    columns = taps[places].reshape(TAPS, -1).astype(np.float64)
    result: NDArray[np.float32] = (kernel_transform() @ columns).astype(np.float32)
    return result.reshape(POINTS, *places.shape[1:])


def kernel_sums(filters: int, layout: Plan) -> tuple[int, ...]:
    """The shape of a plan's sums for the kernels: of jobs, in the blocks in which inner products are taken."""
    jobs, taps = len(layout.jobs) - 1, len(layout.offsets)
    if not layout.by_points:
        return jobs, math.ceil(filters / LEFT), taps // layout.side, LEFT, layout.side
    side = block_of(filters, SIDES)
    of_filters = math.ceil(filters / side), POINTS, math.ceil(side / EVEN_LEFT)
    return jobs, *of_filters, taps // EVEN_RIGHT, EVEN_LEFT, EVEN_RIGHT


def kernel_gradient(sums: NDArray[np.float64], shape: tuple[int, ...], layout: Plan) -> NDArray[np.float64]:
    """What the loops have summed for the kernels, in their shape.

    Args:
        sums: In the shape of :func:`kernel_sums`.
        shape: (F, C, k, k).
        layout: The plan of the loops.
    """
    filters, channels, size, _ = shape
    total: NDArray[np.float64] = sums.sum(0)
    if not layout.by_points:
        matrix = total.swapaxes(1, 2).reshape(-1, len(layout.offsets))
        return matrix[:filters, : channels * size * size].reshape(shape)
    blocks = total.transpose(1, 0, 2, 4, 3, 5).reshape(POINTS, len(total), -1, len(layout.offsets))
    at_points = blocks[:, :, : block_of(filters, SIDES)].reshape(POINTS, -1, len(layout.offsets))
    by_rows = np.tensordot(kernel_transform(), at_points[:, :filters, : channels * TAPS], (0, 0))  # (3, F, C 3)
    return by_rows.reshape(TAPS, filters, channels, TAPS).transpose(1, 2, 0, 3)


def _blocked(numbers: NDArray[np.int64], sides: Sequence[int] = BLOCKS) -> NDArray[np.int64]:
    """(..., outputs, taps) as register blocks (..., blocks, taps, outputs of a block), filled with the next number."""
    *leading, outputs, taps = numbers.shape
    block = block_of(outputs, sides)
    filled = np.full((*leading, padded(outputs, block), taps), numbers.size)
    filled[..., :outputs, :] = numbers
    return np.ascontiguousarray(filled.reshape(*leading, -1, block, taps).swapaxes(-1, -2))
