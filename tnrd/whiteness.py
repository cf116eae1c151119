"""What a denoiser removed, r = f - u: is it white noise of the declared level, or something else?

White noise has no correlation from pixel to pixel and one strength everywhere. What a good denoiser removes is not
quite that, and the differences have a sign. By Tweedie's formula the ideal one removes E r^2 = sigma^2 - MSE: less than
sigma, least of all in busy areas, and most of what it leaves is coarse, so that neighbours in r are slightly
anti-correlated. A residual that is stronger in busy areas than in smooth ones, or whose neighbours agree, contains
something else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# The thresholds of practical size were set on 8 pictures of BSDS, each at the levels 15, 25 and 50 (8-bit scale), with
# the grey model at the right level, at half of it and at twice (at most 75), Gaussian blurs of 1 and 2 pixels, and
# noise blurred by 0.7 pixels. Each comes with one of significance, without which small pictures are judged by chance.
_SIGNIFICANT = 4.0  # standard errors
# The right level gave correlations from -0.14 to -0.02 (in 30 more pictures, some all texture, from -0.22), half of it
# about -0.35, blurred noise 0.18 and more.
_AGREEMENT = 0.05
_DISAGREEMENT = -0.3
# The right level gave 0.81 to 0.98 noise levels (in those 30 pictures from 0.76), half of it 0.31 to 0.40.
_PART = 0.7
_TOO_MUCH = 1.1  # noise levels; an estimate of sigma may well be off by some percent
_NOTHING = 0.1  # noise levels: 1 % of the noise's energy
_INVISIBLE = 1e-4  # on the [0, 1] scale, 0.03 on the 8-bit scale
# The right level gave a structure of at most 0.04, twice the level up to 0.28, a blur up to 0.7. Where only part of
# the noise went, its strength varies with the picture without detail having been removed: up to 0.12.
_STRUCTURE = 0.05
_STRUCTURE_IN_LITTLE = 0.3
_WINDOW = 8
_LEAST_WINDOWS = 8
_MOST_BRIGHTNESSES = 4


@dataclass(frozen=True)
class ResidualReport:
    """What was removed from a picture, judged.

    Attributes:
        level: Standard deviation of the residual (the quadratic mean over the channels), on the [0, 1] scale.
        expected: The declared sigma.
        correlation: The autocorrelation of largest absolute value among the eight nearest neighbours.
        structure: 1 - min(sigma^2, e_smooth)/e_busy, at least 0, with the energy e of the residual in the smoothest and
            the busiest quarter of the 8 x 8 windows of each of up to four ranges of brightness: the share of what was
            removed in busy areas that noise does not explain. 0 for a picture that is too small to be divided.
        verdict: "nothing" was removed; "structure" of the picture was; "correlated", what was removed is not white;
            "partial", clearly less was removed than declared; or "white".
        sentence: The verdict in words, numbers on the 8-bit scale.
    """

    level: float
    expected: float
    correlation: float
    structure: float
    verdict: str
    sentence: str


def autocorrelation(residual: ArrayLike, max_lag: int = 8) -> NDArray[np.float64]:
    """The sample autocorrelation of a residual without its mean,

        rho(d) = [sum_x r(x) r(x + d)/n(d)] / [sum_x r(x)^2/n(0)],

    the sum over the n(d) = (M - |dy|)(N - |dx|) pairs of pixels that lie in the picture: dividing by their number keeps
    far lags from being underestimated. Of white noise it is 0 with a standard error of 1/sqrt(n(d)).

    Args:
        residual: (M, N), or (M, N, C) for the mean over the channels.
        max_lag: Largest |dy| and |dx|.

    Returns:
        (2 max_lag + 1, 2 max_lag + 1), rho(dy, dx) at [max_lag + dy, max_lag + dx]. Point-symmetric; the centre is 1.
        Lags that do not fit into the picture, and all but the centre of a constant residual, are 0: nothing is known
        of them.

    Raises:
        ValueError: The residual has another shape, no pixels or values that are not finite real numbers, or
            ``max_lag`` is negative.
    """
    if max_lag < 0:
        raise ValueError(f"max_lag must be at least 0, got {max_lag}.")
    channels = _channels(residual, "residual")
    return np.asarray(np.mean([_channel_autocorrelation(channel, max_lag) for channel in channels], axis=0))


def judge_residual(noisy: ArrayLike, result: ArrayLike, sigma: float) -> ResidualReport:
    """Judge what a denoiser removed.

    Noise may be stronger where the picture is bright, or be clipped at black and white, since busy areas are compared
    with smooth ones of like brightness. Noise of other kinds of uneven strength may pass for structure. Lost texture
    that leaves a residual as even and uncorrelated as noise passes for noise: nothing but the clean picture could tell.

    Args:
        noisy: f, (M, N) or (M, N, C), floats nominally in [0, 1].
        result: u, the same shape.
        sigma: The standard deviation of the noise on the [0, 1] scale that was declared to the denoiser.

    Returns:
        The measures, the verdict and a sentence.

    Raises:
        ValueError: The shapes differ or do not fit, there are no pixels, a value is not finite, or ``sigma`` is
            negative or not finite.
    """
    if not (np.isfinite(sigma) and sigma >= 0):
        raise ValueError(f"sigma must be a finite number of at least 0, got {sigma}.")
    f, u = _channels(noisy, "noisy picture"), _channels(result, "result")
    if f.shape != u.shape:
        raise ValueError(f"Picture and result must have one shape, got {np.shape(noisy)} and {np.shape(result)}.")
    r = f - u
    level = math.sqrt(float(r.var(axis=(1, 2)).mean()))
    near = np.mean([_channel_autocorrelation(channel, 1) for channel in r], axis=0)
    near[1, 1] = 0.0
    correlation = float(near.flat[int(np.argmax(np.abs(near)))])
    smooth, busy, energy_error = _energies(r, u)
    structure, contrast = _excess(busy, min(sigma**2, smooth)), _excess(busy, smooth)
    chance = (_SIGNIFICANT / math.sqrt(r.size), _SIGNIFICANT * energy_error)
    verdict = _verdict(level, sigma, correlation, structure, contrast, chance)
    sentence = _sentence(verdict, 255 * level, 255 * sigma, correlation, structure)
    return ResidualReport(level, float(sigma), correlation, structure, verdict, sentence)


def _channels(image: ArrayLike, name: str) -> NDArray[np.float64]:
    """The image as finite (C, M, N) float64."""
    array: NDArray[Any] = np.asarray(image)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"The {name} must hold real numbers, got an array of {array.dtype}.")
    if array.ndim not in (2, 3) or array.size == 0:
        raise ValueError(f"The {name} must have the shape (M, N) or (M, N, C) with pixels, got {array.shape}.")
    wide = array.astype(np.float64)
    if not np.isfinite(wide).all():
        raise ValueError(f"The {name} holds values that are NaN or infinite.")
    return wide[np.newaxis] if wide.ndim == 2 else np.moveaxis(wide, 2, 0)


def _channel_autocorrelation(channel: NDArray[np.float64], max_lag: int) -> NDArray[np.float64]:
    from scipy import fft

    rho = np.zeros((2 * max_lag + 1, 2 * max_lag + 1))
    rho[max_lag, max_lag] = 1.0
    centred = channel - channel.mean()
    energy = float(np.mean(centred**2))
    # A constant leaves its rounding behind when the mean is taken off.
    if energy <= (1e-14 * float(np.abs(channel).max())) ** 2:
        return rho
    height, width = channel.shape
    # Zeros around the picture, so that it does not meet its own periodic copy.
    padded = [fft.next_fast_len(side + max_lag, real=True) for side in channel.shape]
    spectrum = np.abs(fft.rfft2(centred, s=padded)) ** 2
    sums = fft.irfft2(spectrum, s=padded)
    dy, dx = np.indices(rho.shape) - max_lag
    pairs = np.maximum(height - np.abs(dy), 0) * np.maximum(width - np.abs(dx), 0)
    products = sums[dy, dx] / np.maximum(pairs, 1)
    return np.where((dy == 0) & (dx == 0), rho, np.where(pairs > 0, products / energy, 0.0))


def _energies(r: NDArray[np.float64], u: NDArray[np.float64]) -> tuple[float, float, float]:
    """The residual's mean square in the smoothest and the busiest quarter, and the standard error of their ratio.

    Quarters are taken among windows of like brightness. Busy is where the result, smoothed by one pixel so that noise
    left in it counts less, has a large gradient. The error is that of white noise; of a picture too small to be divided
    it is infinite.
    """
    from scipy.ndimage import gaussian_filter

    if min(r.shape[1:]) < _WINDOW:
        return 0.0, 0.0, math.inf
    dy, dx = np.gradient(gaussian_filter(u, (0, 1, 1)), axis=(1, 2))
    brightness, activity, energy = (_window_means(values.mean(axis=0)) for values in (u, dy**2 + dx**2, r**2))
    if len(energy) < _LEAST_WINDOWS:
        return 0.0, 0.0, math.inf
    smooth, busy = [], []
    by_brightness = np.argsort(brightness, kind="stable")
    for windows in np.array_split(by_brightness, min(_MOST_BRIGHTNESSES, len(energy) // _LEAST_WINDOWS)):
        by_activity = energy[windows[np.argsort(activity[windows], kind="stable")]]
        quarter = len(windows) // 4
        smooth.append(by_activity[:quarter])
        busy.append(by_activity[-quarter:])
    samples = sum(map(len, busy)) * _WINDOW**2 * len(r)
    # The mean square of n samples of white noise has a relative standard error of sqrt(2/n); two of them are divided.
    return float(np.concatenate(smooth).mean()), float(np.concatenate(busy).mean()), math.sqrt(4 / samples)


def _excess(energy: float, reference: float) -> float:
    """The share of an energy that lies above a reference, in [0, 1]."""
    return max(0.0, 1 - reference / energy) if energy > 0 else 0.0


def _window_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over whole 8 x 8 windows side by side."""
    rows, columns = (side // _WINDOW for side in values.shape)
    whole = values[: rows * _WINDOW, : columns * _WINDOW]
    return np.asarray(whole.reshape(rows, _WINDOW, columns, _WINDOW).mean(axis=(1, 3))).ravel()


def _verdict(
    level: float, sigma: float, correlation: float, structure: float, contrast: float, chance: tuple[float, float]
) -> str:
    """The verdict of :class:`ResidualReport`.

    ``contrast`` is the structure without regard to sigma, ``chance`` how large a correlation and a structure may be by
    chance.
    """
    if level <= max(_NOTHING * sigma, _INVISIBLE):
        return "nothing"
    is_part = level < _PART * sigma
    limit = max(_STRUCTURE_IN_LITTLE if is_part else _STRUCTURE, chance[1])
    # White and of one strength, but above the declared one: stronger noise, not texture.
    if structure > limit and (contrast > limit or abs(correlation) > chance[0]):
        return "structure"
    if correlation > max(_AGREEMENT, chance[0]):
        return "correlated"
    if is_part:
        return "partial"
    return "correlated" if correlation < min(_DISAGREEMENT, -chance[0]) else "white"


def _sentence(verdict: str, level: float, sigma: float, correlation: float, structure: float) -> str:
    """The verdict in words; ``level`` and ``sigma`` on the 8-bit scale."""
    removed = f"{level:.1f} removed, {sigma:.1f} declared"
    if verdict == "nothing":
        return f"Nothing to speak of was removed ({removed})."
    if verdict == "structure":
        return (
            f"Detail of the picture was removed with the noise ({removed}): in its busy areas {structure:.0%} of what "
            "is gone is more than noise explains. A lower level keeps more detail."
        )
    if verdict == "partial":
        return (
            f"Only part of the declared noise was removed ({removed}): the noise is weaker than declared, or some of "
            "it is still in the picture."
        )
    if verdict == "correlated" and correlation < 0:
        return (
            f"Mostly fine grain was removed ({removed}; neighbouring pixels correlate by {correlation:+.2f}): coarser "
            "grain is still in the picture."
        )
    if verdict == "correlated":
        return (
            f"What was removed hangs together from pixel to pixel ({removed}; neighbours correlate by "
            f"{correlation:+.2f}, those of white noise by 0), as noise does after demosaicing, scaling or JPEG "
            "compression: coarse grain may be left."
        )
    if level > _TOO_MUCH * sigma:
        return f"What was removed looks like plain noise ({removed}), but stronger than declared."
    return (
        f"What was removed looks like plain noise ({removed}), with hardly a trace of the picture: neighbouring pixels "
        f"correlate by {correlation:+.2f}."
    )
