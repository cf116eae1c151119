"""The tab *What was removed*: the residual of a method, and whether it is noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tnrd.correlated_noise import noise_across_scales
from tnrd.whiteness import autocorrelation, judge_residual

from .figures import save_figure
from .limits import MAX_JUDGED_SIDE
from .pictures import centre
from .session import Session

GAIN = 4.0  # a residual of 0.125 becomes black or white
LAGS = 8


def removed(session: Session, key: str | None) -> tuple[str, str, str] | None:
    """What a method took away.

    Returns:
        PNG of the residual, amplified around mid-grey; PNG of its histogram and autocorrelation; the verdict. None
        where there is no such result.
    """
    with session.lock:
        result = session.results.get(key or "")
        if key is None or result is None or result.error:
            return None
        noisy, restored, sigma = session.required(), session.load(key), result.sigma
    picture = session.show(0.5 + GAIN * (noisy - restored), "removed")
    area = centre(noisy, MAX_JUDGED_SIDE)
    sentence = judge_residual(noisy[area], restored[area], sigma).sentence
    if noise_across_scales(noisy[area], channel_axis=None if noisy.ndim == 2 else -1).is_correlated:
        sentence += (
            " The noise of this picture is correlated from pixel to pixel, as after a camera's JPEG; all methods here "
            "take it for white, and leave much of it. A larger sigma by hand, or half the size, may serve better."
        )
    return picture, _figure(session, noisy[area] - restored[area], sigma), sentence


def _figure(session: Session, residual: NDArray[np.float32], sigma: float) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    steps = 255 * residual.ravel()[:: max(1, residual.size // 500_000)]
    reach = max(4 * 255 * sigma, 2.0)
    left.hist(steps, bins=101, range=(-reach, reach), density=True, color="#0f766e", alpha=0.75)
    if sigma > 0:
        x = np.linspace(-reach, reach, 301)
        level = 255 * sigma
        left.plot(x, np.exp(-0.5 * (x / level) ** 2) / (level * np.sqrt(2 * np.pi)), color="#c2410c", label="declared")
        left.legend(frameon=False, fontsize=8)
    left.set(xlabel="removed, 8-bit steps", title="Histogram", yticks=[])
    rho = autocorrelation(residual, LAGS)
    shown = right.imshow(rho, cmap="RdBu_r", vmin=-0.5, vmax=0.5, extent=(-LAGS - 0.5, LAGS + 0.5) * 2)
    right.set(title="Autocorrelation", xlabel="pixels", ylabel="pixels")
    figure.colorbar(shown, ax=right, shrink=0.8)
    return save_figure(figure, session.place(), "residual")
