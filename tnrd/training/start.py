"""Where training begins when it begins from another model's weights.

* *Steps of another length.* T' steps for T are another discretisation of the same diffusion: each set of weights is the
  old one at the middle of the time that it serves, and the lengths of its steps change by T/T'. So a set that is
  repeated twice as often takes two steps of half the length for each.
* *Colour from grey.* A grey model acts on the luminance v = (R + G + B)/3 of an RGB picture u, whose noise is
  sigma/sqrt(3). With the unit vector m = (1, 1, 1)/sqrt(3), so that v = <m, u>/sqrt(3), its step on v is a step on u
  by the kernels k (x) m and the same influence functions at that noise level: all that changes is where along the
  curves of sigma they stand.
* *More filters and companions.* The first ones are the old model's. Where a colour model is made from a grey one, the
  new ones read only what the old ones do not, the chrominance and the new companions, and diffuse those as a fresh
  model does. Otherwise the new filters read everything and start with psi = 0: the result is the old model's.
* *More grids.* The coarser ones start with psi = 0, too.
* *Transposes.* An old filter and its transpose move half as far each: the same as before, in so far as the old model
  treats a picture and its transpose alike, and each of its companions, too; nearly so if they are hardly unlike.
* *Other nodes of psi.* Its weights are fitted anew by least squares, on the span of the new nodes, where psi ends.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor

from tnrd.config import TNRDConfig
from tnrd.influence import SIGMA_KNEE, SIGMA_TOP, RadialBasisInfluence, SigmaCurve, fit_influence
from tnrd.model import TNRD
from tnrd.stage import DiffusionStage, ScaledInfluence

CURVE_SAMPLES = 256


@torch.no_grad()
def start_from(model: TNRD, config: TNRDConfig) -> TNRD:
    """A model of the given shape that begins as ``model``, or near it; see the module.

    Args:
        model: The weights to begin from.
        config: May have other stages, repeats and nodes, more filters, transposes of them, more companions, more
            scales, and 3 channels for 1.

    Returns:
        A new model. The coefficients that ``model`` does not fix are drawn from torch's generator.

    Raises:
        ValueError: The shapes differ in anything else.
    """
    old = model.config
    free = {"stages", "repeats", "nodes", "reach", "node_width", "filters", "companions", "channels", "scales"}
    if old.scales == 1:
        free.add("coarse_kernels")
    paired = config.transposes and not old.transposes
    if paired:
        free.add("transposes")
    differing = [
        field.name
        for field in dataclasses.fields(config)
        if field.name not in free and getattr(config, field.name) != getattr(old, field.name)
    ]
    if differing:
        raise ValueError(f"Weights of {old} cannot start a model of {config}: {', '.join(differing)} differ.")
    result = TNRD(config)
    narrower = any(getattr(config, name) < getattr(old, name) for name in ("companions", "scales"))
    if narrower or config.filters < (2 if paired else 1) * old.filters:
        raise ValueError(f"Weights of {old} cannot start the narrower model {config}.")
    if config.channels != old.channels and (old.channels, config.channels) != (1, 3):
        raise ValueError(f"A model of {old.channels} channels cannot start one of {config.channels}.")
    wide = config.channels > old.channels
    if result.lift is not None:
        result.lift.picture.copy_(_embed(model.lift.picture if model.lift else None, result.lift.picture, wide))
    shortening = math.log(config.stages / old.stages)
    for s, stage in enumerate(result.stages):
        middle: DiffusionStage = model.stages[(2 * s + 1) * len(model.stages) // (2 * len(result.stages))]  # type: ignore
        _begin(middle, stage, wide)  # type: ignore[arg-type]
        stage.reaction.theta[:, 0] -= shortening  # type: ignore[union-attr, operator, index]
        count = len(middle.influence.weights)  # new filters are as in a new model of this shape
        for scale in (stage, *stage.coarse):  # type: ignore[misc]
            scale.value_scale.theta[:count, 0] -= shortening + (math.log(2) if paired else 0.0)
    return result


def _begin(old: DiffusionStage, new: DiffusionStage, wide: bool) -> None:
    count, read = old.influence.weights.shape[0], old.filters.companion.shape[1]
    bank = new.filters
    for mine, theirs in zip(new.coarse, old.coarse, strict=False):
        _begin_influence(theirs, mine, wide)  # type: ignore[arg-type]
    bank.picture.copy_(_embed(old.filters.picture, bank.picture, wide))
    bank.companion[:count] = 0
    bank.companion[:count, :read] = old.filters.companion
    if wide:
        bank.companion[count:, :read] = 0
    _begin_influence(old, new, wide)
    _begin_curve(old.reaction, new.reaction, wide)


def _begin_influence(old: ScaledInfluence, new: ScaledInfluence, wide: bool) -> None:
    count = old.influence.weights.shape[0]
    new.influence.weights[:count] = _refitted(old.influence, new.influence)
    if not wide:
        new.influence.weights[count:] = 0
    _begin_curve(old.argument_scale, new.argument_scale, wide)
    _begin_curve(old.value_scale, new.value_scale, wide)


def _refitted(old: RadialBasisInfluence, new: RadialBasisInfluence) -> Tensor:
    """The old functions as weights (F, J) of the new nodes."""
    if torch.equal(old.nodes.cpu(), new.nodes) and old.width == new.width:
        return old.weights
    count = old.weights.shape[0]
    fitted = fit_influence(
        lambda z: (
            old.psi(torch.from_numpy(z).to(old.weights).expand(1, count * old.copies, -1))[0, :count].T.cpu().numpy()
        ),
        new.nodes.double().numpy(),
        new.width,
    )
    return torch.from_numpy(fitted.T).to(new.weights)


def _begin_curve(old: SigmaCurve, new: SigmaCurve, wide: bool) -> None:
    new.theta[: old.theta.shape[0]] = _at_weaker_noise(old, math.sqrt(3)) if wide else old.theta


def _embed(old: Tensor | None, new: Tensor, wide: bool) -> Tensor:
    """Coefficients (F, channels, l, l): the old filters first, on the luminance; the new ones on the chrominance."""
    result = new - new.mean(1, keepdim=True) if wide else new.clone()
    if old is not None:
        result[: old.shape[0]] = old / math.sqrt(new.shape[1] / old.shape[1])
    return result


def _at_weaker_noise(curve: SigmaCurve, factor: float) -> Tensor:
    """Coefficients of sigma -> curve(sigma/factor), by least squares over the range of the curve."""
    degree = curve.theta.shape[1] - 1
    x = np.cos(np.linspace(0, math.pi, CURVE_SAMPLES))  # the samples lie densest at the ends, as Chebyshev's nodes
    span = math.log1p(SIGMA_TOP / SIGMA_KNEE)
    weaker = np.clip(2 * np.log1p(np.expm1((x + 1) / 2 * span) / factor) / span - 1, -1, 1)
    values = np.polynomial.chebyshev.chebval(weaker, curve.theta.double().numpy().T)
    fitted = np.polynomial.chebyshev.chebfit(x, values.T, degree)
    return torch.from_numpy(fitted.T).to(curve.theta)
