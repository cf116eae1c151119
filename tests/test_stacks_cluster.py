"""Stacks on a Dask cluster: the same result, from worker processes too, one of which may die."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import tnrd
from tnrd.config import TNRDConfig
from tnrd.model import TNRD
from tnrd.weights import save_weights

for needed in ("dask", "distributed", "imagecodecs"):
    pytest.importorskip(needed, reason="needs the extra bigimage")
tifffile = pytest.importorskip("tifffile", reason="needs the extra bigimage")
zarr = pytest.importorskip("zarr", reason="needs the extra bigimage")

SIGMA = 25 / 255


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """Path of a small random model."""
    torch.manual_seed(3)
    save_weights(tmp_path / "small.safetensors", TNRD(TNRDConfig(stages=2, filters=4, kernel_size=3, grid=2)))
    return str(tmp_path / "small.safetensors")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A stack of 4 planes, 24 blocks of side 32."""
    noisy = 0.5 + SIGMA * np.random.default_rng(0).standard_normal((4, 64, 96))
    stack = np.rint(np.clip(noisy, 0, 1) * 65535).astype(np.uint16)
    tifffile.imwrite(tmp_path / "in.tif", stack, photometric="minisblack")
    return tmp_path / "in.tif"


@contextmanager
def cluster(workers: int, *, processes: bool) -> Iterator[Any]:
    from distributed import LocalCluster

    with LocalCluster(n_workers=workers, threads_per_worker=1, processes=processes, dashboard_address=None) as local:
        yield local


def denoised(source: Path, target: Path, weights: str, **options: Any) -> NDArray[Any]:
    tnrd.denoise_volume(source, target, SIGMA, model=weights, side=32, **options)
    if target.suffix == ".zarr":
        return np.asarray(zarr.open_array(str(target), path="0", mode="r")[:])
    return np.asarray(tifffile.imread(target))


def test_a_scheduler_gives_the_same(tmp_path: Path, weights: str, source: Path) -> None:
    expected = denoised(source, tmp_path / "alone.tif", weights)
    with cluster(1, processes=False) as local:
        for name in ("out.tif", "out.zarr"):
            seen: list[tuple[int, int]] = []
            found = denoised(
                source,
                tmp_path / name,
                weights,
                scheduler=local.scheduler_address,
                progress=lambda done, total: seen.append((done, total)),  # noqa: B023
            )
            np.testing.assert_array_equal(found, expected)
            assert seen == [(done, 24) for done in range(1, 25)]


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(tmp_path: Path, weights: str, source: Path) -> None:
    from distributed import Client

    expected = denoised(source, tmp_path / "alone.tif", weights)
    with cluster(2, processes=True) as local:
        with Client(local) as client:
            victims = list(client.run(os.getpid).values())[:1]

        def kill(done: int, total: int) -> None:
            if victims and done >= total // 4:
                os.kill(victims.pop(), signal.SIGKILL)

        found = denoised(source, tmp_path / "out.zarr", weights, scheduler=local.scheduler_address, progress=kill)
    assert not victims
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_workers_of_one_thread_compute_with_one(weights: str) -> None:
    import dask.array as da
    from distributed import Client

    picture = np.random.default_rng(0).normal(0.5, SIGMA, (96, 96)).astype(np.float32)
    lazy = tnrd.denoise_array(da.from_array(picture, chunks=32), SIGMA, model=weights, min_chunk=1)
    with cluster(1, processes=True) as local, Client(local) as client:
        found = client.compute(lazy).result()
        threads = client.submit(torch.get_num_threads).result()
    np.testing.assert_allclose(found, tnrd.denoise(picture, SIGMA, model=weights), atol=1e-6)
    assert threads == 1
