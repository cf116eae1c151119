"""The tab *Inside the model*: filters as operators, psi and rho, the kernel that acts at a pixel, filters removed."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch.nn import functional

from tnrd.inference.explain import ablated, averaging_kernel
from tnrd.inference.restore import restore
from tnrd.metrics import psnr, round_to_8bit
from tnrd.model import TNRD
from tnrd.moments import OperatorName

from .figures import save_figure
from .limits import MAX_VIEW_SIDE
from .methods import network
from .pictures import PageError, centre, orientation_of, write_png
from .session import Session, luminance

COLUMNS = 8
CELL = 128  # of the sheet of filters, in pixels
CAPTION = 26
FILTER_SIDE = 108
KERNEL_SIDE = 420
MUTED_GAIN = 8.0


@lru_cache(maxsize=64)
def operators(key: str, step: int) -> tuple[OperatorName | None, ...]:
    """For each filter of a step, the operator it applies to the picture; None for one that reads companions alone."""
    names = network(key).stage(step).filters.operators()
    return tuple(max((n for n in row if n), key=lambda n: abs(n.coefficient), default=None) for row in names)


def sheet(session: Session, key: str, step: int) -> tuple[str, str]:
    """The filters of a step as one picture to click on, and a sentence about it."""
    kernels, names = picture_kernels(network(key), step), operators(key, step)
    rows = math.ceil(len(kernels) / COLUMNS)
    canvas = Image.new("RGB", (COLUMNS * CELL, rows * (CELL + CAPTION)), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=20)
    for i, (kernel, name) in enumerate(zip(kernels, names, strict=True)):
        x, y = i % COLUMNS * CELL, i // COLUMNS * (CELL + CAPTION)
        shown = np.rint(127.5 + 127.5 * kernel / max(float(np.abs(kernel).max()), 1e-12)).astype(np.uint8)
        tile = Image.fromarray(shown).resize((FILTER_SIDE, FILTER_SIDE), Image.Resampling.NEAREST)
        canvas.paste(tile.convert("RGB"), (x + (CELL - FILTER_SIDE) // 2, y + 8))
        draw.text((x + CELL // 2, y + CELL - 6), f"{i + 1}  {short(name)}", fill="black", font=font, anchor="mt")
    first = sum(1 for name in names if name is not None and name.order == 1)
    repeats = network(key).config.repeats
    shared = f" Steps share their weights in groups of {repeats}." if repeats > 1 else ""
    if network(key).config.transposes:
        shared += " The second half are the transposes of the first, with the same influence functions."
    text = (
        f"{len(kernels)} filters, {kernels.shape[1]} x {kernels.shape[2]} pixels, each with the derivative that it is "
        f"to leading order; {first} are of first order, the rest of second and higher, or read the companions.{shared}"
    )
    return write_png(np.asarray(canvas), session.place(), "filters"), text


@torch.no_grad()
def picture_kernels(model: TNRD, step: int) -> NDArray[np.float64]:
    """What the filters of a step read of a grey picture, on its own pixels, (F, k g, k g)."""
    grid = model.config.grid
    kernels = model.stage(step).filters()[:, : model.config.components.observed].double()
    fine = functional.pixel_shuffle(kernels, grid) if grid > 1 else kernels
    return np.asarray(fine[:, 0].numpy())


def filter_at(key: str, step: int, x: int, y: int) -> int | None:
    """The filter under a click on the sheet."""
    i = y // (CELL + CAPTION) * COLUMNS + x // CELL
    return i if 0 <= i < len(operators(key, step)) and 0 <= x < COLUMNS * CELL else None


def short(name: OperatorName | None) -> str:
    """An operator in a few letters."""
    if name is None:
        return "–"
    rows, columns = name.alpha
    powers = [f"{axis}{power if power > 1 else ''}" for axis, power in (("y", rows), ("x", columns)) if power]
    return "d" + "".join(powers) if powers else "mean"


def describe(key: str, step: int, i: int) -> str:
    """A filter in a sentence."""
    name = operators(key, step)[i]
    if name is None:
        return f"Filter {i + 1} of step {step + 1} reads the companions alone."
    rows, columns = name.alpha
    parts = [f"∂{axis}{_superscript(power)}" for axis, power in (("y", rows), ("x", columns)) if power]
    share = 100 * (1 - name.unexplained)
    return (
        f"Filter {i + 1} of step {step + 1}: to leading order {name.coefficient:+.3f} {' '.join(parts) or 'the mean'} "
        f"(order {name.order}); that derivative alone is {share:.0f} % of it."
    )


def _superscript(power: int) -> str:
    return "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(power)) if power > 1 else ""


@torch.no_grad()
def influence_figure(session: Session, key: str, step: int, i: int, sigma: float | None) -> str:
    """psi and rho of a filter as they act at the picture's noise level, over the response in noise levels.

    ``sigma`` is that given by hand, 8-bit scale, or None; without a picture it is 25.
    """
    from matplotlib.figure import Figure

    stage = network(key).stage(step)
    level = torch.tensor(_level(session, sigma)).view(1, 1, 1, 1)
    inner, outer = (float(curve(level).flatten()[i]) for curve in (stage.argument_scale, stage.value_scale))
    z = torch.linspace(-9, 9, 401)
    functions = (stage.influence.psi, stage.influence.potential)
    argument = (inner * z).expand(1, network(key).config.filters, -1)
    psi, rho = (factor * f(argument)[0, i].numpy() for factor, f in zip((outer, outer / inner), functions, strict=True))
    figure = Figure(figsize=(6.4, 2.7), dpi=110, layout="constrained")
    titles = (r"influence $\psi(z)/\sigma$", r"potential $\rho(z)/\sigma^2$")
    for axis, values, title in zip(figure.subplots(1, 2), (psi, rho), titles, strict=True):
        axis.plot(z.numpy(), values, color="#0f766e")
        axis.axhline(0, color="black", linewidth=0.5)
        axis.axvline(0, color="black", linewidth=0.5)
        axis.set(title=title, xlabel=r"response $z/\sigma$")
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"at sigma = {255 * float(level):.1f}", fontsize=9)
    return save_figure(figure, session.place(), "influence")


def _level(session: Session, sigma: float | None) -> float:
    """The noise level of what the model sees of the picture, [0, 1] scale."""
    if session.noisy is None:
        return (25.0 if sigma is None else sigma) / 255
    seen = session.at_level(sigma)
    return luminance(seen.noisy, seen.noise)[1]


def kernel_at(session: Session, key: str, x: int, y: int, sigma: float | None) -> tuple[str, str]:
    """The effective averaging kernel at a pixel of the picture as shown, and a sentence about it.

    Colour pictures: of the luminance.
    """
    seen = session.at_level(sigma)
    plane, level = luminance(seen.noisy, seen.noise)
    row, column = stored_place(x, y, plane.shape, orientation_of(session.picture) if session.picture else 1)
    kernel = averaging_kernel(network(key), plane, level, row, column)
    weights = kernel.weights
    largest = max(float(np.abs(weights).max()), 1e-12)
    # Square roots, so that weak weights are seen; red is positive, blue negative.
    shown = np.sqrt(np.abs(weights) / largest)
    rgb = np.where(
        (weights >= 0)[..., None],
        np.stack((np.ones_like(shown), 1 - shown, 1 - shown), -1),
        np.stack((1 - shown, 1 - shown, np.ones_like(shown)), -1),
    )
    scale = max(1, KERNEL_SIDE // max(weights.shape))
    enlarged = rgb.repeat(scale, 0).repeat(scale, 1).astype(np.float32)
    text = (
        f"Pixel ({x}, {y}) becomes a weighted sum of its surroundings: weights add up to {kernel.total:.3f}, the "
        f"largest is {weights.max():.3f}, their typical distance {kernel.radius:.1f} pixels. Of the noise, "
        f"{100 * math.sqrt(kernel.noise_gain):.0f} % remains here. Red adds, blue takes away; square-root scale."
    )
    return session.show(enlarged, "kernel"), text


def stored_place(x: int, y: int, shape: tuple[int, ...], orientation: int) -> tuple[int, int]:
    """Row and column in the file of a pixel of the picture as shown."""
    height, width = shape if orientation < 5 else shape[::-1]
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    if orientation in (3, 4, 7, 8):
        y = height - 1 - y
    if orientation in (2, 3, 6, 7):
        x = width - 1 - x
    return (y, x) if orientation < 5 else (x, y)


def without(session: Session, key: str, step: int, i: int, sigma: float | None) -> tuple[str, str, str]:
    """The middle of the picture denoised without one filter, what that changed, and a sentence."""
    noisy, clean, noise, _ = session.at_level(sigma)
    area = centre(noisy, MAX_VIEW_SIDE)
    model = network(key)
    if not 0 <= i < model.config.filters:
        raise PageError("Click on a filter first.")
    full = restore(noisy[area], model, noise.at(area))
    silent = restore(noisy[area], ablated(model, [(step, i)]), noise.at(area))
    difference = silent - full
    twin = " and its transpose" if model.config.transposes else ""
    change = 255 * np.sqrt(np.mean(np.square(difference)))
    text = f"Without filter {i + 1}{twin}, pixels change by {change:.2f} steps of 255."
    if clean is not None:
        loss = psnr(clean[area], round_to_8bit(silent)) - psnr(clean[area], round_to_8bit(full))
        text += f" PSNR: {loss:+.2f} dB."
    return session.show(silent, "ablated"), session.show(0.5 + MUTED_GAIN * difference, "difference"), text
