"""The BM3D baseline: its contract, and a clear word where its package is missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tnrd.baselines import BASELINES
from tnrd.noise import add_noise

bm3d = BASELINES["bm3d"].denoise


def test_a_missing_package_says_what_to_install_and_why_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bm3d", None)
    with pytest.raises(ModuleNotFoundError, match=r"non-commercial.*tnrd\[bm3d\]"):
        bm3d(np.zeros((8, 8)), 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("axis", [None, -1, 0])
def test_it_denoises_and_keeps_the_shape(axis: int | None) -> None:
    pytest.importorskip("bm3d", reason="the non-commercial bm3d package is not installed")
    y, x = np.mgrid[0:40, 0:48]
    clean = 0.5 + 0.3 * np.sin(x / 7) * np.cos(y / 9)
    if axis is not None:
        clean = np.stack([clean, clean**2, 1 - clean], axis=axis)
    noisy = add_noise(clean, 0.1, seed=1)
    result = bm3d(noisy, 0.1, channel_axis=axis)
    assert result.shape == clean.shape and result.dtype == np.float32
    assert np.mean((result - clean) ** 2) < 0.1 * np.mean((noisy - clean) ** 2)
    np.testing.assert_array_equal(bm3d(noisy, 0.0, channel_axis=axis), noisy)


def test_bad_input_is_refused() -> None:
    pytest.importorskip("bm3d", reason="the non-commercial bm3d package is not installed")
    with pytest.raises(ValueError, match="not finite"):
        bm3d(np.full((8, 8), np.nan), 0.1)
    with pytest.raises(ValueError, match=r"got -1"):
        bm3d(np.zeros((8, 8)), -1)
