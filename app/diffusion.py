"""The tab *The diffusion*: u_0 ... u_T, what each step changes, and the energy where there is one."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tnrd.inference.levels import NoiseLevel
from tnrd.inference.planes import picture_of, planes_of
from tnrd.metrics import psnr, round_to_8bit
from tnrd.model import TNRD

from .figures import save_figure
from .limits import MAX_VIEW_SIDE
from .methods import network_for
from .pictures import PageError, centre
from .session import Session

Unit = NDArray[np.float32]
CHANGE_GAIN = 6.0  # a change of 1/12 of the range becomes black or white


def compute(session: Session, key: str, sigma: float | None) -> tuple[int, str, str]:
    """Run a model on the middle of the picture and keep every state.

    Returns:
        Number T of steps; PNG of the curves; a sentence about what is shown.

    Raises:
        PageError: There is no picture, or no noise level.
    """
    noisy, clean, noise, version = session.at_level(sigma)
    model, area = network_for(key, noisy, noise), centre(noisy, MAX_VIEW_SIDE)
    part, part_noise = np.array(noisy[area]), noise.at(area)
    states = trajectory(model, part, part_noise)
    energies = _energies(model, states, part, part_noise) if part.ndim == 2 else None
    with session.lock:
        if session.version != version:
            raise PageError("The picture has changed meanwhile; please run it again.")
        names = [f"state-{t}.npy" for t in range(len(states))]
        for name, u in zip(names, states, strict=True):
            np.save(Path(session.place()) / name, u)
        session.states = names
        curves = _curves(session, states, None if clean is None else clean[area], energies)
    return len(states) - 1, curves, _sentence(noisy, part, energies, key)


def trajectory(model: TNRD, part: Unit, noise: NoiseLevel) -> list[Unit]:
    """u_0 ... u_T of a part of the picture, each (M, N) or (M, N, 3)."""
    with torch.inference_mode():
        planes = planes_of(torch.from_numpy(part), noise, model.config.channels)
        paths = [model.trajectory(plane[None], level) for plane, level in planes]
        return [picture_of([u[0] for u in step], noise).numpy() for step in zip(*paths, strict=True)]


def frame(session: Session, step: int) -> tuple[str, str | None, str] | None:
    """u_t and what step t changed, as PNGs, and a line about it; None before :func:`compute`."""
    if not session.states:
        return None
    t = min(max(int(step), 0), len(session.states) - 1)
    u = _state(session, t)
    picture = session.show(u, "state")
    if t == 0:
        return picture, None, "t = 0: the noisy picture."
    change = u - _state(session, t - 1)
    line = (
        f"Step {t} of {len(session.states) - 1} changed a pixel by {255 * _rms(change):.2f} steps of 255 in the mean."
    )
    return picture, session.show(0.5 + CHANGE_GAIN * change, "change"), line


def _state(session: Session, t: int) -> Unit:
    state: Unit = np.load(Path(session.place()) / session.states[t])
    return state


def _energies(model: TNRD, states: list[Unit], part: Unit, noise: NoiseLevel) -> list[float] | None:
    if not model.config.has_energy or any(side % model.config.grid for side in part.shape):
        return None
    f, level = planes_of(torch.from_numpy(part), noise, channels=1)[0]
    seen = [planes_of(torch.from_numpy(u), noise, channels=1)[0].image for u in states]
    return [float(model.energy(u[None], f[None], level)) for u in seen]


def _curves(session: Session, states: list[Unit], clean: Unit | None, energies: list[float] | None) -> str:
    from matplotlib.figure import Figure

    panels = [("change, 8-bit steps", [255 * _rms(b - a) for a, b in pairwise(states)], 1)]
    if clean is not None:
        panels.append(("PSNR, dB", [psnr(clean, round_to_8bit(u)) for u in states], 0))
    if energies is not None:
        panels.append(("energy", energies, 0))
    figure = Figure(figsize=(4.0 * len(panels), 2.6), dpi=110, layout="constrained")
    for axis, (title, values, first) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        axis.plot(range(first, first + len(values)), values, marker="o", markersize=3, color="#0f766e")
        axis.set(title=title, xlabel="step")
        axis.spines[["top", "right"]].set_visible(False)
    return save_figure(figure, session.place(), "curves")


def _sentence(noisy: Unit, part: Unit, energies: list[float] | None, key: str) -> str:
    where = (
        "The whole picture." if part.shape == noisy.shape else f"The middle {part.shape[1]} x {part.shape[0]} pixels."
    )
    if energies is not None:
        return f"{where} All steps descend on one energy."
    return (
        f"{where} {key} has no single energy to descend on: its steps have weights of their own, and companions beside "
        "the picture. What falls is the change from step to step."
    )


def _rms(values: Unit) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
