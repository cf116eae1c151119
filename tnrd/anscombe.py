"""The generalised Anscombe transform: photon and read noise made into noise of variance one, and back without bias.

A sensor with gain a sees f = a p + s n, p ~ Poisson(u/a) photons and n ~ N(0, 1). In photons, z = f/a and r = s/a,

    D(z) = 2 sqrt(max(z + 3/8 + r^2, 0))

has a variance near 1 whatever u (Murtagh, Starck & Bijaoui, A&AS 112, 1995). A denoiser turns D(f) into about its mean
E[D(z) | y], y = u/a, which is not D(y): the exact unbiased inverse maps that mean to y (Makitalo & Foi, IEEE TIP 22(1),
2013). Here it is a table of

    E[D(z) | y] = sum_k Poisson(k; y) int D(k + r n) phi(n) dn,

by quadrature, up to 200 photons, and beyond that their closed approximation, right to 1e-4 of the intensity there.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

_TABLE_PHOTONS = 200.0
_TABLE_POINTS = 1024
_GAUSSIAN_REACH = 6.0
_GAUSSIAN_POINTS = 401


def stabilise(image: NDArray[np.floating], gain: float, read_noise: float) -> NDArray[np.float64]:
    """D(f/gain): noise of variance about one.

    Args:
        image: Any shape, nominally in [0, 1], not clipped.
        gain: Signal of one photon on that scale, > 0.
        read_noise: Standard deviation of the additive noise on that scale, >= 0.

    Returns:
        The shape of ``image``.

    Raises:
        ValueError: ``gain`` or ``read_noise`` is out of range.
    """
    check_photon_noise(gain, read_noise)
    photons = np.asarray(image, dtype=np.float64) / gain
    return np.asarray(2 * np.sqrt(np.maximum(photons + 0.375 + (read_noise / gain) ** 2, 0)))


def unstabilise(values: NDArray[np.floating], gain: float, read_noise: float) -> NDArray[np.float64]:
    """The exact unbiased inverse: the intensity whose transformed noisy values have this mean.

    Args:
        values: Means of D, any shape.
        gain: As in :func:`stabilise`.
        read_noise: As in :func:`stabilise`.

    Returns:
        Intensities of the shape of ``values``; at least 0, which the mean for no light at all and everything below
        it is mapped to.

    Raises:
        ValueError: ``gain`` or ``read_noise`` is out of range.
    """
    check_photon_noise(gain, read_noise)
    relative = read_noise / gain
    means, photons = _table(round(relative, 9))
    values = np.asarray(values, dtype=np.float64)
    inside = np.interp(values, means, photons)
    beyond = values > means[-1]
    return np.asarray(gain * np.where(beyond, _closed_inverse(np.where(beyond, values, means[-1]), relative), inside))


def stabilised_range(gain: float, read_noise: float, white: float = 1.0) -> tuple[float, float]:
    """The means of D for black and for the intensity ``white``, between which a picture lies after the transform.

    Above 200 photons to second order, 2 sqrt(b) - (y + r^2)/4 b^(-3/2), b = y + 3/8 + r^2, right to 4e-5: the sum over
    the 130,000 photons of a 16-bit camera would take a gigabyte.
    """
    relative, photons = read_noise / gain, white / gain
    low, high = mean_of_transform(np.array([0.0, min(photons, _TABLE_PHOTONS)]), relative)
    if photons > _TABLE_PHOTONS:
        base = photons + 0.375 + relative**2
        high = 2 * np.sqrt(base) - (photons + relative**2) / (4 * base**1.5)
    return float(low), float(high)


def mean_of_transform(photons: NDArray[np.floating], relative_noise: float) -> NDArray[np.float64]:
    """E[D(z) | y] by quadrature.

    Args:
        photons: y >= 0, (N,).
        relative_noise: r = read noise/gain, in photons.

    Returns:
        (N,).
    """
    y = np.asarray(photons, dtype=np.float64)
    last = int(np.ceil(y.max() + 12 * np.sqrt(y.max() + 1) + 20))
    counts = np.arange(last + 1)
    n = np.linspace(-_GAUSSIAN_REACH, _GAUSSIAN_REACH, _GAUSSIAN_POINTS)
    density = np.exp(-0.5 * n**2)
    argument = counts[:, None] + relative_noise * n[None, :] + 0.375 + relative_noise**2
    given_count = (2 * np.sqrt(np.maximum(argument, 0))) @ (density / density.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        log_probability = np.where(counts == 0, 0.0, counts * np.log(y)[:, None]) - y[:, None] - gammaln(counts + 1)
    probability = np.where(np.isnan(log_probability), 0.0, np.exp(log_probability))
    return np.asarray(probability @ given_count)


def check_photon_noise(gain: float, read_noise: float) -> None:
    """Raise ValueError unless the parameters of photon and read noise are finite, the gain > 0, the other >= 0."""
    if not (np.isfinite(gain) and gain > 0):
        raise ValueError(f"gain, the signal of one photon on the [0, 1] scale, must be positive, got {gain}.")
    if not (np.isfinite(read_noise) and read_noise >= 0):
        raise ValueError(f"read_noise must be a finite number of at least 0, got {read_noise}.")


@lru_cache(maxsize=32)
def _table(relative_noise: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of D and the photons that they belong to, denser where there are few."""
    photons = np.linspace(0, np.sqrt(_TABLE_PHOTONS), _TABLE_POINTS) ** 2
    return mean_of_transform(photons, relative_noise), photons


def _closed_inverse(values: NDArray[np.float64], relative_noise: float) -> NDArray[np.float64]:
    """Makitalo & Foi's closed approximation of the exact unbiased inverse, in photons."""
    root = np.sqrt(1.5)
    series = 0.25 * root / values - 1.375 / values**2 + 0.625 * root / values**3
    return np.asarray(values**2 / 4 + series - 0.125 - relative_noise**2)
