"""The diffusion step on the CPU, forward and backward, fused and compiled; parity with :mod:`tnrd.kernels.step_torch`.

The backward pass recomputes the responses instead of keeping them: a step's memory is its input and output. With
s(z) = outer T(inner z), g the gradient for the result and everything taken at the step's input,

    du = g - lambda g - K^T (s'(K u) K g),        dq = -sum_x [ s(K u) g(x + .) + s'(K u) (K g) u(x + .) ].
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import numba
import numpy as np
import torch
from numba.core import event
from numpy.typing import NDArray
from torch import Tensor

from tnrd.kernels import step_backward_numba, step_forward_numba, step_winograd_numba
from tnrd.kernels.correlate_numba import ANNOUNCED
from tnrd.kernels.operators import register
from tnrd.kernels.plan_numba import Arranged, arrange, bank_of, kernel_gradient, kernel_sums, plan
from tnrd.kernels.simd import COPIES
from tnrd.kernels.step_forward_numba import Influence
from tnrd.kernels.threads_numba import entrance, use_torch_threads

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


def step(
    u: Tensor, f: Tensor, kernels: Tensor, table: Tensor, origin: float, spacing: float, inner: Tensor, outer: Tensor,
    reaction: Tensor, kept: dict[str, Any] | None = None,
) -> Tensor:  # fmt: skip
    """The step; arguments as in :func:`tnrd.kernels.dispatch.diffusion_step`."""
    arranged = _arranged(kernels, table, kept)
    out = torch.empty(u.shape, dtype=torch.float32)
    with entrance():
        layout = plan(tuple(u.shape), len(kernels), kernels.shape[-1], False, use_torch_threads())
        loops = step_winograd_numba if layout.by_points else step_forward_numba
        loops.forward(
            _array(u), _array(f), layout.parts, bank_of(arranged, layout),
            _influence(arranged, origin, spacing, inner, outer), _array(reaction), layout.buffers, out.numpy(),
            _memory(layout.workspace),
        )  # fmt: skip
    return out


def step_backward(
    g: Tensor, u: Tensor, f: Tensor, kernels: Tensor, table: Tensor, origin: float, spacing: float, inner: Tensor,
    outer: Tensor, reaction: Tensor, kept: dict[str, Any] | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Gradients for u, f, kernels, table, inner, outer and reaction, from the gradient g for the result.

    Scales must not vary from pixel to pixel.
    """
    filters, _, size, _ = kernels.shape
    to_u, to_f, to_table = (torch.empty(like.shape, dtype=torch.float32) for like in (u, f, table))
    arranged = _arranged(kernels, table, kept)
    with entrance():
        use_torch_threads()
        layout = plan(tuple(u.shape), filters, size, True, 0)
        jobs = len(layout.jobs) - 1
        sums = step_backward_numba.Sums(
            np.empty(kernel_sums(filters, layout)),
            np.empty((jobs, COPIES, *table.shape, 2), np.float32),
            np.empty((jobs, len(u), 2, filters)),
            np.empty((jobs, len(u), 1)),
        )
        loops = step_winograd_numba if layout.by_points else step_backward_numba
        loops.backward(
            _array(u), _array(f), _array(g), layout.parts, layout.jobs, bank_of(arranged, layout),
            _influence(arranged, origin, spacing, inner, outer), _array(reaction), layout.buffers, layout.side,
            to_u.numpy(), to_f.numpy(), to_table.numpy(), sums, _memory(layout.workspace),
        )  # fmt: skip
    with np.errstate(over="ignore", invalid="ignore"):  # infinity and NaN are passed on without a word, as by torch
        to_kernels = -kernel_gradient(sums.kernels, kernels.shape, layout)
        to_outer, growth = -sums.scales.sum(0).swapaxes(0, 1)[..., None, None]
        to_inner = growth * _array(outer) / spacing
        to_reaction = sums.reaction.sum(0)[..., None, None]
        singles = [array.astype(np.float32, order="C") for array in (to_kernels, to_inner, to_outer, to_reaction)]
    of_kernels, *of_scales = map(torch.from_numpy, singles)
    return (to_u, to_f, of_kernels, to_table, *of_scales)


diffusion_step = register("numba", step, step_backward, keeps=True)


def _arranged(kernels: Tensor, table: Tensor, kept: dict[str, Any] | None) -> Arranged:
    arranged: Arranged | None = None if kept is None else kept.get("numba")
    if arranged is None:
        arranged = arrange(kernels, table)
        if kept is not None:
            kept["numba"] = arranged
    return arranged


def _influence(arranged: Arranged, origin: float, spacing: float, inner: Tensor, outer: Tensor) -> Influence:
    words = arranged.words
    offset, last = np.float32(-origin / spacing), np.float32(words.shape[1] - 1)
    # By numpy, on one thread: those of torch would still spin when the compiled loops want the cores.
    return Influence(words, _array(inner) / np.float32(spacing), offset, last, _array(outer))


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().contiguous().numpy()
    return array


def _memory(floats: int) -> NDArray[np.float32]:
    """Scratch memory for every thread, kept between calls: fresh pages would cost a fifth of the time."""
    workspace: NDArray[np.float32] | None = getattr(_workspaces, "array", None)
    if workspace is None or workspace.shape[1] < floats:
        threads = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
        workspace = np.empty((threads, floats), np.float32)
        _workspaces.array = workspace
    return workspace
