"""Passes that are replayed from CUDA graphs equal calls of the model."""

from __future__ import annotations

import copy
import gc
import math
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from cuda_graph_material import GREY, LEVEL, Log, network, picture
from torch import Tensor

import tnrd
from tnrd.config import TNRDConfig
from tnrd.inference import cuda_graph as module
from tnrd.inference.cuda_graph import RecordedModel, Recording, recorded
from tnrd.inference.graph_cache import MOST_PASSES, PATIENCE
from tnrd.model import TNRD

CONFIGS = {
    "grey, one set of weights": TNRDConfig(stages=2, filters=20, kernel_size=7, repeats=2),
    "half resolution": TNRDConfig(stages=3, filters=6, kernel_size=3, grid=2, companions=3),
    "colour": TNRDConfig(stages=2, filters=6, kernel_size=3, channels=3, companions=2),
    "two scales": TNRDConfig(stages=2, filters=4, kernel_size=3, grid=2, scales=2),
}


# --- A model that is not on a GPU -------------------------------------------------------------------------------------


def test_a_restoration_on_the_cpu_calls_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("recorded on the CPU")

    model, noisy = network(), np.random.default_rng(0).random((12, 30), dtype=np.float32)
    assert recorded(model) is model
    monkeypatch.setattr(module.RecordedModel, "__call__", refuse)
    monkeypatch.setattr(module.RecordedModel, "__init__", refuse)
    expected = model(torch.from_numpy(noisy)[None, None], 0.1)[0, 0]
    np.testing.assert_allclose(tnrd.denoise(noisy, 0.1, span=1.0, model=model, tile=10), expected, atol=1e-6)


def test_a_restoration_calls_what_stands_for_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grey, and the three planes of a colour picture."""
    calls: list[TNRD] = []

    def stand_in(model: TNRD) -> Callable[..., Tensor]:
        def call(x: Tensor, sigma: Tensor, strength: float) -> Tensor:
            calls.append(model)
            return model(x, sigma, strength)

        return call

    model, noisy = network(), np.random.default_rng(0).random((9, 11, 3), dtype=np.float32)
    expected = tnrd.denoise(noisy, 0.1, model=model, channel_axis=-1)
    monkeypatch.setattr("tnrd.inference.restore.recorded", stand_in)
    np.testing.assert_array_equal(tnrd.denoise(noisy, 0.1, model=model, channel_axis=-1), expected)
    assert calls == [model] * 3
    tnrd.denoise(noisy[..., 0], 0.1, model=model)
    assert calls == [model] * 4


def test_off_the_gpu_it_is_the_model() -> None:
    model, x = network(), picture(1, 1, 7, 9)
    wrapped = RecordedModel(model.requires_grad_(True))
    for _ in range(3):
        result = wrapped(x, 0.1, 0.7)
        assert not result.requires_grad
        assert torch.equal(result, model(x, 0.1, 0.7))
    with pytest.raises(ValueError, match="sigma must be finite"):
        wrapped(x, math.nan)
    with pytest.raises(ValueError, match="strength must lie in"):
        wrapped(x, 0.1, 1.5)


@pytest.mark.parametrize("sigma", [0.1, torch.tensor(0.1), torch.tensor([0.1]), torch.full((2, 1, 5, 6), 0.1)])
def test_a_level_on_the_host_is_checked_there(sigma: float | Tensor) -> None:
    """The meta device has no values to look at."""
    model, x = network(), picture(2, 1, 5, 6)
    size = (5, 6) if isinstance(sigma, Tensor) and sigma.ndim == 4 else (1, 1)
    assert torch.equal(model.check(x, sigma), torch.full((2, 1, *size), 0.1))
    elsewhere = model.check(x.to("meta"), sigma)
    assert (elsewhere.shape, elsewhere.device.type, elsewhere.dtype) == ((2, 1, *size), "meta", x.dtype)
    with pytest.raises(ValueError, match="sigma must be finite and at least 0, got -"):
        model.check(x.to("meta"), -sigma)


def test_passes_die_with_their_model_and_are_shared_until_then() -> None:
    model = network()
    first, second = RecordedModel(model), RecordedModel(model)
    assert first._passes is second._passes
    assert RecordedModel(copy.deepcopy(model))._passes is not first._passes
    passes, ghost = weakref.ref(first._passes), weakref.ref(model)
    del first, second, model
    gc.collect()
    assert passes() is None
    assert ghost() is None


def test_where_memory_is_short_all_passes_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    other, model, log = network(), network(), Log()
    theirs = RecordedModel(other)
    theirs._passes._record = log
    for _ in range(2):
        theirs._passes.find(other, torch.zeros(1, 1, 4, 4), LEVEL, 1.0)
    assert log.alive == [True]
    plain = TNRD.forward

    def scarce(self: TNRD, *arguments: Any) -> Tensor:
        if any(log.alive):
            raise torch.OutOfMemoryError("short")
        return plain(self, *arguments)

    x = picture(1, 1, 5, 5)
    expected = model(x, 0.1)
    monkeypatch.setattr(TNRD, "forward", scarce)
    assert torch.equal(RecordedModel(model)(x, 0.1), expected)
    monkeypatch.setattr(log, "made", [lambda: log])  # as if nothing helped
    with pytest.raises(torch.OutOfMemoryError):
        RecordedModel(model)(x, 0.1)


# --- CUDA -------------------------------------------------------------------------------------------------------------


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """[number of recordings, number of replays] from now on."""
    counts = [0, 0]
    make, run = Recording.__init__, Recording.__call__

    def making(self: Recording, *arguments: Any) -> None:
        make(self, *arguments)
        counts[0] += 1

    def running(self: Recording, *arguments: Any) -> Tensor:
        counts[1] += 1
        return run(self, *arguments)

    monkeypatch.setattr(Recording, "__init__", making)
    monkeypatch.setattr(Recording, "__call__", running)
    return counts


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


@pytest.mark.cuda
@pytest.mark.parametrize("engine", ["auto", "torch"])
@pytest.mark.parametrize("size", [(64, 48), (33, 21)], ids=str)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("sigma", ["number", "levels", "map"])
def test_a_replay_equals_a_call(
    config: TNRDConfig, size: tuple[int, int], engine: str, sigma: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, counts = network(config, "cuda"), counted(monkeypatch)
    model.engine = engine
    wrapped = RecordedModel(model)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        for seed in range(4):
            x = picture(2, config.channels, *size, seed=seed, device="cuda")
            level: Tensor | float = 0.05 * (seed + 1)
            if sigma == "levels":
                level = level * torch.tensor([1.0, 0.0 if seed else 2.0], device="cuda")
            elif sigma == "map":
                level = level * picture(2, 1, *size, seed=seed + 9, device="cuda").round(decimals=1)
            found = wrapped(x, level)
            assert_same(found, model(x, level))
    assert counts == [1, 3]


@pytest.mark.cuda
@pytest.mark.parametrize("strength", [0.0, 0.25, 0.5, 1.0])
def test_strengths(strength: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model, counts = network(CONFIGS["half resolution"], "cuda"), counted(monkeypatch)
    wrapped = RecordedModel(model)
    for seed in range(4):
        x = picture(1, 1, 31, 40, seed=seed, device="cuda")
        assert_same(wrapped(x, 0.1, strength), model(x, 0.1, strength))
    assert counts == [1, 3]


@pytest.mark.cuda
def test_a_result_that_is_kept_is_not_overwritten() -> None:
    model = network(device="cuda")
    wrapped = RecordedModel(model)
    pictures = [picture(1, 1, 40, 40, seed=seed, device="cuda") for seed in range(6)]
    results = [wrapped(x, 0.1) for x in pictures]
    for x, result in zip(pictures, results, strict=True):
        assert_same(result, model(x, 0.1))


@pytest.mark.cuda
def test_weights_that_changed_count() -> None:
    model, x = network(device="cuda"), picture(1, 1, 40, 40, device="cuda")
    wrapped = RecordedModel(model)
    before = [wrapped(x, 0.1) for _ in range(3)][-1]
    model.stage(1).influence.weights.mul_(3)
    for _ in range(4):
        assert_same(wrapped(x, 0.1), model(x, 0.1))
    assert not torch.allclose(before, model(x, 0.1), atol=1e-3)
    model.load_state_dict(network(GREY, "cuda").state_dict(), assign=True)
    for _ in range(4):
        assert_same(wrapped(x, 0.1), before)


@pytest.mark.cuda
def test_bad_arguments_are_refused_on_a_replay_as_well() -> None:
    model, x = network(device="cuda"), picture(1, 1, 40, 40, device="cuda")
    wrapped = RecordedModel(model)
    for _ in range(3):
        expected = wrapped(x, 0.1)
    for bad in (math.nan, -0.1, torch.tensor(math.inf), torch.tensor([-1.0], device="cuda")):
        with pytest.raises(ValueError, match="sigma must be finite and at least 0"):
            wrapped(x, bad)
    with pytest.raises(ValueError, match="sigma must be one value"):
        wrapped(x, torch.ones(3))
    with pytest.raises(ValueError, match="strength must lie in"):
        wrapped(x, 0.1, 2.0)
    with pytest.raises(ValueError, match="Expected images"):
        wrapped(x[0], 0.1)
    assert_same(wrapped(x, 0.1), expected)


@pytest.mark.cuda
def test_graphs_are_few_and_their_memory_returns() -> None:
    model = network(device="cuda")
    wrapped = RecordedModel(model)
    for width in range(100, 100 + MOST_PASSES + 2):
        for _ in range(PATIENCE + 2):
            x = picture(1, 1, 64, width, device="cuda")
            assert_same(wrapped(x, 0.1), model(x, 0.1))
    assert len(wrapped._passes._kept) == MOST_PASSES
    held = weakref.ref(next(iter(wrapped._passes._kept.values()))[0])
    del wrapped, model
    gc.collect()
    assert held() is None


@pytest.mark.cuda
def test_threads_with_streams_of_their_own() -> None:
    """Pictures and results of two threads never mix, while other passes are recorded."""
    models = [network(device="cuda"), network(CONFIGS["half resolution"], "cuda")]
    expected = {
        (m, seed): model(picture(1, 1, 96, 128, seed=seed, device="cuda"), 0.1)
        for m, model in enumerate(models)
        for seed in range(40)
    }
    torch.cuda.synchronize()
    worst: list[float] = []

    def work(offset: int) -> None:
        stream = torch.cuda.Stream() if offset % 2 else torch.cuda.default_stream()
        differences = []
        with torch.cuda.stream(stream), torch.inference_mode():
            for i in range(200):
                m, seed = (i + offset) % 2, (7 * i + 11 * offset) % 40
                result = RecordedModel(models[m])(picture(1, 1, 96, 128, seed=seed, device="cuda"), 0.1)
                differences.append((result - expected[m, seed]).abs().max())
            worst.append(float(torch.stack(differences).max()))

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(worst) == 4
    assert max(worst) < 2e-6


@pytest.mark.cuda
def test_recorded_in_inference_mode_and_used_outside() -> None:
    model, x = network(device="cuda"), picture(1, 1, 40, 40, device="cuda")
    wrapped = RecordedModel(model)
    expected = model(x, 0.1)
    with torch.inference_mode():
        for _ in range(3):
            wrapped(x.clone(), 0.1)
    result = wrapped(x, 0.1)
    assert_same(result, expected)
    result.mul_(2)
    with torch.inference_mode():
        assert_same(wrapped(x, 0.1), expected)


@pytest.mark.cuda
@pytest.mark.parametrize("failure", [torch.OutOfMemoryError, RuntimeError])
def test_a_recording_that_fails_leaves_the_call(failure: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of the capture, after which the thread is on its stream again and others can be recorded."""
    model, x = network(device="cuda"), picture(1, 1, 40, 40, device="cuda")
    wrapped, expected, stream, plain = RecordedModel(model), model(x, 0.1), torch.cuda.current_stream(), TNRD.states

    def failing(self: TNRD, *arguments: Any, **named: Any) -> Any:
        for i, state in enumerate(plain(self, *arguments, **named)):
            if i == 1 and torch.cuda.is_current_stream_capturing():
                raise failure("short")
            yield state

    with monkeypatch.context() as patch:
        patch.setattr(TNRD, "states", failing)
        for _ in range(3):
            assert_same(wrapped(x, 0.1), expected)
    assert not wrapped._passes._kept
    assert torch.cuda.current_stream() == stream
    counts, wide = counted(monkeypatch), picture(1, 1, 40, 41, device="cuda")
    for _ in range(3):
        assert_same(wrapped(wide, 0.1), model(wide, 0.1))
    assert counts == [1, 2]
    assert_same(wrapped(x, 0.1), expected)


@pytest.mark.cuda
@pytest.mark.parametrize("channels", [None, 3])
def test_a_restoration_by_tiles_replays(channels: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(CONFIGS["half resolution"])
    shape = (200, 220) if channels is None else (200, 220, channels)
    noisy = np.random.default_rng(0).random(shape, dtype=np.float32)
    axis = None if channels is None else -1
    expected = tnrd.denoise(noisy, 0.1, model=model, channel_axis=axis, tile=40)
    counts = counted(monkeypatch)
    found = tnrd.denoise(noisy, 0.1, model=copy.deepcopy(model).cuda(), channel_axis=axis, tile=40)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert counts[0] >= 1
    assert counts[1] > 10
