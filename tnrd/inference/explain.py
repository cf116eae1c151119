"""Looking into a model: which pixels a pixel of the result is averaged from, and what single filters contribute."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from tnrd.model import TNRD
from tnrd.pixels import as_pixels, to_unit


@dataclass(frozen=True)
class AveragingKernel:
    """The weights w(y) = d u_T(x)/d f(y) by which one pixel x of the result follows the noisy picture.

    To first order u_T(x) changes by sum_y w(y) df(y). A model whose filters have vanishing moments passes constants
    through, and its weights sum to 1: the result is an average over the neighbours, with weights chosen by the picture.

    Attributes:
        weights: (h, w) on a crop of the picture; 0 everywhere else.
        top: Row of the picture at which the crop begins.
        left: Column of the picture at which it begins.
        total: sum w.
        noise_gain: sum w^2, the share of the variance of white noise that is left to first order.
        radius: sqrt(sum |w| |y - x|^2/sum |w|), how far the average reaches, in pixels; 0 if all weights are 0.
    """

    weights: NDArray[np.float64]
    top: int
    left: int
    total: float
    noise_gain: float
    radius: float


def averaging_kernel(model: TNRD, image: ArrayLike, sigma: float, row: int, column: int) -> AveragingKernel:
    """The row of the Jacobian of a result that belongs to one of its pixels, by one backward pass.

    It is computed on the part of the picture that the pixel depends on, cut as :mod:`tnrd.inference.tiling` cuts
    contexts, so the weights are those of the whole picture (to float rounding), with its mirrored borders. Where psi is
    read from a table, which is linear between its samples, the slope is that of the piece. The model's parameters
    collect no gradient, and their ``requires_grad`` stays as it is.

    Args:
        model: A model of grey pictures.
        image: (M, N) noisy picture, floats nominally in [0, 1]; integers are scaled as scikit-image does.
        sigma: Standard deviation of the noise on the [0, 1] scale.
        row: Row of the pixel, from 0.
        column: Its column.

    Returns:
        The weights, and what they sum up to.

    Raises:
        ValueError: The model is one of colour, the picture has another shape, no pixels or values that are not finite,
            the pixel lies outside it, or ``sigma`` is negative, not finite or no single value.
    """
    if model.config.channels != 1:
        raise ValueError(f"An averaging kernel needs a model of grey pictures, got one of {model.config.channels}.")
    pixels = as_pixels(image, None)
    height, width = pixels.shape
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(f"The pixel must lie in the picture of {height} x {width}, got row {row}, column {column}.")
    if np.ndim(sigma) != 0:
        raise ValueError(f"sigma must be one value, got an array of shape {np.shape(sigma)}.")
    reach, grid = model.dependence_radius, model.config.cell
    rows, columns = _context(row, height, reach, grid), _context(column, width, reach, grid)
    crop = np.ascontiguousarray(to_unit(pixels[rows, columns]))
    weights = _gradient(model, crop, float(sigma), row - rows.start, column - columns.start)
    y, x = np.indices(weights.shape)
    squared_distance = (y + rows.start - row) ** 2 + (x + columns.start - column) ** 2
    mass = float(np.abs(weights).sum())
    return AveragingKernel(
        weights=weights,
        top=rows.start,
        left=columns.start,
        total=float(weights.sum()),
        noise_gain=float((weights**2).sum()),
        radius=math.sqrt(float((np.abs(weights) * squared_distance).sum()) / mass) if mass else 0.0,
    )


def ablated(model: TNRD, filters: Iterable[tuple[int, int]]) -> TNRD:
    """A copy of a model in which single filters do nothing: their influence function psi is 0.

    The copy shares nothing with the model. Steps that share one set of weights (``TNRDConfig.repeats`` > 1) share
    their filters too: muting one mutes it in all of those steps. So do a filter and its transpose
    (``TNRDConfig.transposes``): muting one mutes both.

    Args:
        model: Left as it is.
        filters: Pairs (t, i) of a step t = 0 ... T - 1 and a filter i = 0 ... F - 1.

    Returns:
        The copy. With all filters of all steps ablated it returns every picture as it is.

    Raises:
        ValueError: There is no such step or filter.
    """
    twin = copy.deepcopy(model)
    steps, count = model.config.stages, model.config.filters
    with torch.no_grad():
        for t, i in filters:
            if not (0 <= t < steps and 0 <= i < count):
                raise ValueError(f"The model has the steps 0 to {steps - 1} of filters 0 to {count - 1}, got {(t, i)}.")
            stage = twin.stage(t)
            for scaled in (stage, *stage.coarse):
                scaled.influence.weights[i % len(scaled.influence.weights)] = 0.0
    return twin


def _context(position: int, length: int, reach: int, grid: int) -> slice:
    """What a pixel depends on along one axis, in whole cells except at the picture's end."""
    first = max(0, (position - reach) // grid * grid)
    last = -(-(position + reach + 1) // grid) * grid
    return slice(first, min(length, last))


def _gradient(model: TNRD, crop: NDArray[np.float32], sigma: float, row: int, column: int) -> NDArray[np.float64]:
    """d u_T(row, column)/d f on a crop."""
    parameter = next(model.parameters())
    with torch.inference_mode(False), torch.enable_grad():
        f = torch.from_numpy(crop).to(parameter)[None, None].detach().requires_grad_()
        # Asking for the gradient in f alone leaves the .grad of the parameters untouched.
        (weights,) = torch.autograd.grad(model(f, sigma)[0, 0, row, column], f)
    array: NDArray[np.float64] = weights[0, 0].cpu().double().numpy()
    return array
