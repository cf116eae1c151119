"""The diffusion step on the CPU, forward and backward, fused and compiled; parity with :mod:`tnrd.kernels.step_torch`.

The backward pass recomputes the responses instead of keeping them: a step's memory is its input and output. With
s(z) = outer T(inner z), g the gradient for the result and everything taken at the step's input,

    du = g - lambda g - K^T (s'(K u) K g),        dq = -sum_x [ s(K u) g(x + .) + s'(K u) (K g) u(x + .) ].
"""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numba
import numpy as np
import torch
from numba.core import event
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tnrd.kernels import step_backward_numba, step_forward_numba
from tnrd.kernels.correlate_numba import ANNOUNCED, BLOCKS, Bank, Buffers
from tnrd.kernels.operators import register
from tnrd.kernels.simd import COPIES, LANES, LEFT, RIGHT, vectors_beside
from tnrd.kernels.step_forward_numba import Influence
from tnrd.kernels.threads_numba import entrance, use_torch_threads

CACHE = 5 * 2**15  # floats that a core's cache is trusted to hold
WIDEST = 34 * LANES  # responses of a row of a strip: 512 pixels and what the kernels reach beyond
GROUP = 4  # rows that the forward pass advances at a time
BACKWARD_GROUP = 96  # vectors of one response that the backward pass advances at a time, if the cache holds them
PAGE = 4096  # bytes after which addresses fall into the same set of a first-level cache
APART = 256
JOB = 8192  # pixels of a job of the backward pass, so that sums over jobs do not depend on the number of threads
MOST_JOBS = 64

_workspaces = threading.local()
_log = logging.getLogger(__name__)


class _Announcement(event.Listener):
    """Says that the next seconds go into compiling: the first call after installing would seem to hang."""

    def on_start(self, event: Any) -> None:
        what = ANNOUNCED.get(event.data["dispatcher"])
        if what is not None:
            _log.warning("Compiling %s for this processor; this is kept, and happens once.", what)

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", _Announcement())  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Plan:
    """How the loops cut up a picture of one shape; sizes in floats, offsets in bytes."""

    parts: NDArray[np.int64]
    jobs: NDArray[np.int64]
    buffers: Buffers
    offsets: NDArray[np.int64]
    adjoint_offsets: NDArray[np.int64]
    workspace: int


@lru_cache(maxsize=64)
def plan(shape: tuple[int, ...], filters: int, size: int, backward: bool, threads: int) -> Plan:
    """Strips as wide as the cache allows, bands for all threads, and the memory for one thread."""
    n, channels, height, width = shape
    r = size // 2

    def buffers_of(columns: int, group: int = GROUP) -> Buffers:
        return _buffers(filters, size, group, _padded(columns, LANES) + LANES)

    def fits(buffers: Buffers) -> bool:
        return _floats(buffers, channels, backward) <= CACHE

    widths = range(WIDEST, 2 * LANES, -LANES)
    columns = _strips(width, r, next((most for most in widths if fits(buffers_of(most))), 2 * LANES))
    own = int(max(np.diff(columns)))
    responses = min(width, own + 2 * r)
    buffers = buffers_of(responses)
    if backward:
        groups = range(min(height + 2 * r, BACKWARD_GROUP * LANES // responses), GROUP, -1)
        buffers = next((b for b in (buffers_of(responses, group) for group in groups) if fits(b)), buffers)
    pitch = buffers.pitch
    wanted = math.ceil(height * own / JOB) if backward else math.ceil(2 * threads / (n * (len(columns) - 1)))
    bands = max(1, min(wanted, height // (8 * size)))
    rows = [height * band // bands for band in range(bands + 1)]
    parts = [(i, y0, y1, x0, x1) for i in range(n) for x0, x1 in pairwise(columns) for y0, y1 in pairwise(rows)]
    count = min(len(parts), MOST_JOBS, max(2, n * height * width // JOB))
    jobs = np.linspace(0, len(parts), count + 1).astype(np.int64)
    c, dy, dx = np.meshgrid(*map(np.arange, (channels, size, size)), indexing="ij")
    offsets = 4 * ((dy * channels + c) * (pitch + 2 * r) + dx).ravel()
    offsets = np.pad(offsets, (0, -len(offsets) % _right(len(offsets))), mode="edge").astype(np.int64)
    dy, f = np.meshgrid(np.arange(size), np.arange(filters), indexing="ij")
    adjoint_offsets = 4 * (((2 * r - dy) * buffers.planes + f) * pitch).ravel().astype(np.int64)
    floats = _floats(buffers, channels, backward)
    return Plan(np.array(parts, np.int64), jobs, buffers, offsets, adjoint_offsets, floats)


def _buffers(filters: int, size: int, group: int, pitch: int) -> Buffers:
    planes = max(_padded(filters, _block(filters)), _padded(filters, LEFT))
    # Rows at multiples of a page would all fall into the same few places of the cache.
    apart = (p for p in range(planes, planes + 8) if min(4 * p * pitch % PAGE, -4 * p * pitch % PAGE) >= APART)
    return Buffers(size, group, next(apart, planes), pitch)


def _floats(buffers: Buffers, channels: int, backward: bool) -> int:
    """What the loops take of the scratch memory of one thread."""
    size, group, planes, pitch = buffers
    tiles = (1 + backward) * (group + size - 1) * channels * (pitch + size - 1)
    responses = (group + size - 1 + backward * group) * planes * pitch
    sums = _padded(channels * size, _block(channels * size)) + 1
    return tiles + responses + sums * (pitch + 2 * size) + 2 * LANES


def _strips(width: int, r: int, widest: int) -> list[int]:
    """Borders of strips whose responses fit ``widest`` columns; whole vectors, so that no pixel is summed twice."""
    own = _padded(max(r, math.ceil(width / math.ceil(width / max(LANES, widest - 2 * r)))), LANES)
    columns = [*range(0, width, own), width]
    if len(columns) > 2 and width - columns[-2] < r:  # what lies beyond a border folds onto the strip at that border
        del columns[-2]
    return columns


@lru_cache
def _block(outputs: int) -> int:
    """Outputs per register block that waste least; a block costs its sums, or its loads if they are more."""

    def cost(block: int) -> float:
        vectors = vectors_beside(block)
        return math.ceil(outputs / block) * max(block, (2 * vectors + block) / vectors)

    return min(BLOCKS, key=lambda block: (cost(block), -block))


def _right(taps: int) -> int:
    return min(RIGHT, key=lambda block: (_padded(taps, block), -block))


def _padded(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def step(
    u: Tensor, f: Tensor, kernels: Tensor, table: Tensor, origin: float, spacing: float, inner: Tensor, outer: Tensor,
    reaction: Tensor,
) -> Tensor:  # fmt: skip
    """The step; arguments as in :func:`tnrd.kernels.step_torch.diffusion_step`."""
    out = torch.empty(u.shape)
    with entrance():
        layout = plan(tuple(u.shape), len(kernels), kernels.shape[-1], False, use_torch_threads())
        step_forward_numba.forward(
            _array(u), _array(f), layout.parts, _bank(kernels, layout),
            _influence(table, origin, spacing, inner, outer), _array(reaction), layout.buffers, out.numpy(),
            _memory(layout.workspace),
        )  # fmt: skip
    return out


def step_backward(
    g: Tensor, u: Tensor, f: Tensor, kernels: Tensor, table: Tensor, origin: float, spacing: float, inner: Tensor,
    outer: Tensor, reaction: Tensor,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Gradients for u, f, kernels, table, inner, outer and reaction, from the gradient g for the result.

    Scales must not vary from pixel to pixel.
    """
    filters, channels, size, _ = kernels.shape
    taps = channels * size * size
    reacting = g[:, : f.shape[1]]
    to_u = g.clone(memory_format=torch.contiguous_format)
    to_u[:, : f.shape[1]] -= reaction * reacting
    with entrance():
        use_torch_threads()
        layout = plan(tuple(u.shape), filters, size, True, 0)
        jobs = len(layout.jobs) - 1
        to_kernels = torch.zeros(jobs, _padded(filters, LEFT), len(layout.offsets), dtype=torch.float64)
        to_table = torch.zeros(jobs, COPIES, *table.shape, 2)
        to_scales = torch.zeros(jobs, len(u), 2, filters, dtype=torch.float64)
        step_backward_numba.backward(
            _array(u), _array(g), layout.parts, layout.jobs, _bank(kernels, layout),
            _influence(table, origin, spacing, inner, outer), layout.buffers, _right(taps), to_u.numpy(),
            step_backward_numba.Sums(to_kernels.numpy(), to_table.numpy(), to_scales.numpy()),
            _memory(layout.workspace),
        )  # fmt: skip
    left, right = to_table.sum((0, 1)).unbind(-1)
    pull, growth = to_scales.sum(0).to(u.dtype).unbind(1)
    return (
        to_u,
        reaction * reacting,
        -to_kernels.sum(0)[:filters, :taps].to(u.dtype).view_as(kernels),
        -(left + functional.pad(right, (1, 0))[:, :-1]),
        -growth.view_as(inner) * outer / spacing,
        -pull.view_as(outer),
        -(reacting * (u[:, : f.shape[1]] - f)).sum((1, 2, 3), keepdim=True),
    )


diffusion_step = register("numba", step, step_backward)


def _bank(kernels: Tensor, layout: Plan) -> Bank:
    filters, channels, size, _ = kernels.shape
    q = kernels.detach()
    by_column = q.permute(1, 3, 2, 0).reshape(channels * size, -1)
    return Bank(_blocked(q.reshape(filters, -1)), layout.offsets, _blocked(by_column), layout.adjoint_offsets)


def _influence(table: Tensor, origin: float, spacing: float, inner: Tensor, outer: Tensor) -> Influence:
    # By numpy, on one thread: those of torch would still spin when the compiled loops want the cores.
    words = np.zeros((*table.shape, 2), np.float32)
    words[..., 0] = table.detach().numpy()
    np.subtract(words[:, 1:, 0], words[:, :-1, 0], out=words[:, :-1, 1])
    offset, last = np.float32(-origin / spacing), np.float32(table.shape[1] - 1)
    return Influence(words.view(np.int64)[..., 0], _array(inner / spacing), offset, last, _array(outer))


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().contiguous().numpy()
    return array


def _blocked(matrix: Tensor) -> NDArray[np.float32]:
    """(outputs, taps) as register blocks (blocks, taps, outputs of a block)."""
    outputs, taps = matrix.shape
    block = _block(outputs)
    padded = functional.pad(matrix, (0, 0, 0, -outputs % block))
    array: NDArray[np.float32] = padded.view(-1, block, taps).transpose(1, 2).contiguous().numpy()
    return array


def _memory(floats: int) -> NDArray[np.float32]:
    """Scratch memory for every thread, kept between calls: fresh pages would cost a fifth of the time."""
    workspace: NDArray[np.float32] | None = getattr(_workspaces, "array", None)
    if workspace is None or workspace.shape[1] < floats:
        threads = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
        workspace = np.empty((threads, floats), np.float32)
        _workspaces.array = workspace
    return workspace
