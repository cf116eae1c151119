"""The BM3D baseline: its contract, and a clear word where its package is missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tnrd.baselines import BASELINES

bm3d = BASELINES["bm3d"].denoise


def test_a_missing_package_says_what_to_install_and_why_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bm3d", None)
    with pytest.raises(ModuleNotFoundError, match=r"non-commercial.*tnrd\[bm3d\]"):
        bm3d(np.zeros((8, 8)), 0.1)
