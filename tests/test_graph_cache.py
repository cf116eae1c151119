"""Which passes of a model are recorded, and which are kept; a fake takes the place of CUDA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cuda_graph_material import LEVEL, Log, network, picture
from torch import Tensor

from tnrd.inference import graph_cache as kept_passes
from tnrd.inference.graph_cache import MOST_PASSES, PATIENCE, Passes, kind_of, weights_of
from tnrd.influence import RadialBasisInfluence
from tnrd.model import TNRD


def finder(log: Log, model: TNRD | None = None) -> tuple[Passes, Callable[..., bool]]:
    passes, model = Passes(log), model or network()

    def find(width: int, strength: float = 1.0) -> bool:
        return passes.find(model, torch.zeros(1, 1, 4, width), LEVEL, strength) is not None

    return passes, find


def test_the_second_call_of_a_kind_records_and_later_ones_replay() -> None:
    log = Log()
    _, find = finder(log)
    assert [find(5), find(6), find(5), find(5), find(6), find(5)] == [False, False, True, True, True, True]
    assert len(log.made) == 2


def test_few_passes_are_kept_and_one_in_use_is_not_dropped() -> None:
    log = Log()
    _, find = finder(log)
    for width in [*range(1, MOST_PASSES + 1)] * 2:
        find(width)
    for _ in range(PATIENCE):  # more kinds than there is room for, in turn: nothing is recorded again and again
        assert not find(50)
        assert all(find(width) for width in range(1, MOST_PASSES + 1))
    assert len(log.made) == MOST_PASSES


def test_a_pass_long_unused_makes_room_before_another_is_recorded() -> None:
    class Watching(Log):
        def __call__(self, *arguments: Any) -> Callable[[Tensor, Tensor], Tensor]:
            before.append(self.alive)
            return super().__call__(*arguments)

    before: list[list[bool]] = []
    log = Watching()
    _, find = finder(log)
    widths = range(1, MOST_PASSES + 1)
    for width in [*widths] * 2:
        find(width)
    calls = 0
    while not find(50):
        assert all(find(width) for width in widths[1:])
        calls += MOST_PASSES
    assert PATIENCE - 2 * MOST_PASSES <= calls <= PATIENCE + MOST_PASSES
    assert before[-1] == [False] + [True] * (MOST_PASSES - 1)
    assert [find(width) for width in widths] == [False] + [True] * (MOST_PASSES - 1)


def test_other_weights_forget_all_passes() -> None:
    model, log = network(), Log()
    _, find = finder(log, model)
    assert [find(5), find(5)] == [False, True]
    model.stage(1).influence.weights.mul_(2)
    assert log.alive == [True]
    assert [find(5), log.alive, find(5)] == [False, [False], True]
    model.stage(0).reaction.theta = torch.nn.Parameter(model.stage(0).reaction.theta.clone(), requires_grad=False)
    assert [find(5), find(5)] == [False, True]


def test_what_cannot_be_recorded_is_not_tried_again() -> None:
    log = Log()
    _, find = finder(log)
    find(5)
    log.failure = torch.OutOfMemoryError("short")
    assert not find(5)
    log.failure = None
    assert [find(5), find(5)] == [False, False]
    assert [find(6), find(6)] == [False, True]


def test_errors_of_arguments_are_not_taken_for_those_of_cuda() -> None:
    log = Log()
    _, find = finder(log)
    find(5)
    log.failure = ValueError("no such thing")
    with pytest.raises(ValueError, match="no such thing"):
        find(5)


def test_passes_that_gave_way_are_not_recorded_again() -> None:
    log = Log()
    passes, find = finder(log)
    assert [find(5), find(5), passes.give_way(), find(5), find(5)] == [False, True, 1, False, False]
    assert log.alive == [False]
    assert passes.give_way() == 0


def test_remembered_kinds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_passes, "MOST_KINDS", 3)
    log = Log()
    _, find = finder(log)
    assert not any(find(width) for width in (1, 2, 3, 4))
    assert [find(1), find(4)] == [False, True]


@pytest.mark.parametrize("what", ["exact", "hook"])
def test_a_model_in_which_the_host_takes_part_is_not_recorded(what: str) -> None:
    model, log = network(), Log()
    _, find = finder(log, model)
    find(5)
    if what == "exact":
        next(m for m in model.modules() if isinstance(m, RadialBasisInfluence)).exact = True
        assert weights_of(model) is None
        assert [find(5), find(5)] == [False, False]
    else:
        with model.stages[0].register_forward_hook(lambda *_: None) as _hook:
            assert [find(5), find(5)] == [False, False]
        assert [find(5), find(5)] == [False, True]


def test_kinds() -> None:
    """Whatever changes the launches of a pass makes another kind; values do not."""
    model, x = network(), picture(2, 1, 6, 8)
    level = model.check(x, 0.1)
    kinds = [kind_of(model, x, level, 1.0)]
    assert kind_of(model, picture(2, 1, 6, 8, seed=1), model.check(x, torch.tensor([0.3])), 1.0) == kinds[0]
    assert kind_of(model, x.clone(), model.check(x, torch.tensor([0.3, 0.2])), 1.0) == kinds[0]
    kinds.append(kind_of(model, x, level, 0.5))
    kinds.append(kind_of(model, picture(2, 1, 8, 6), level, 1.0))
    kinds.append(kind_of(model, x.mT.contiguous().mT, level, 1.0))
    kinds.append(kind_of(model, x.double(), level.double(), 1.0))
    kinds.append(kind_of(model, x.to("meta"), level, 1.0))
    kinds.append(kind_of(model, x, model.check(x, torch.full((1, 1, 6, 8), 0.1)), 1.0))
    model.engine = "torch"
    kinds.append(kind_of(model, x, level, 1.0))
    before = torch.get_float32_matmul_precision()
    for precision in {"highest", "high", "medium"} - {before}:
        torch.set_float32_matmul_precision(precision)
        try:
            kinds.append(kind_of(model, x, level, 1.0))
        finally:
            torch.set_float32_matmul_precision(before)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=True):
        kinds.append(kind_of(model, x, level, 1.0))
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        kinds.append(kind_of(model, x, level, 1.0))
    assert len(set(kinds)) == len(kinds)
