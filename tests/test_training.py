"""Training: recipes, crops, phases, exact resume, and that it learns."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tnrd.config import TNRDConfig
from tnrd.model import TNRD
from tnrd.training import train
from tnrd.training.losses import weighted_mse
from tnrd.training.optimizers import learning_rate
from tnrd.training.processes import Processes
from tnrd.training.recipe import Phase, Recipe
from tnrd.training.train import Trainer
from tnrd.training.validation import protocol_seed, score
from tnrd.weights import load_model, save_weights

ROOT = Path(__file__).resolve().parents[1]
TINY = TNRDConfig(stages=2, filters=4, kernel_size=3, nodes=15)


def recipe(*phases: Phase, model: TNRDConfig = TINY) -> Recipe:
    return Recipe("tiny", model, phases, sigma=(10.0, 40.0), seed=3, validate_every=4, checkpoint_every=2)


def weights_of(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.average.parameters()])


def test_weighted_mse_is_the_formula() -> None:
    u, clean, sigma = torch.rand(3, 1, 4, 5), torch.rand(3, 1, 4, 5), torch.tensor([0.0, 0.1, 0.2])
    expected = np.mean([float(((u[n] - clean[n]) ** 2).mean()) / (float(sigma[n]) + 1 / 255) for n in range(3)])
    assert float(weighted_mse(u, clean, sigma)) == pytest.approx(expected, rel=1e-5)
    roots = np.mean([math.sqrt(float(weighted_mse(u[[n]], clean[[n]], sigma[[n]])) + 2e-4) for n in range(3)])
    assert float(weighted_mse(u, clean, sigma, power=0.5)) == pytest.approx(roots, rel=1e-5)
    several = weighted_mse(torch.stack([u, clean, u]), clean, sigma)
    torch.testing.assert_close(several, torch.tensor([expected, 0.0, expected], dtype=several.dtype))


def test_learning_rate_warms_up_and_ends_where_it_says() -> None:
    phase = Phase(iterations=100, warmup=10, learning_rate=1.0, final_learning_rate=0.01)
    rates = [learning_rate(phase, i) for i in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0) and rates[10] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.01)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_an_interrupted_run_ends_in_the_same_weights(
    tmp_path: Path, pictures: list[np.ndarray], optimizer: str
) -> None:
    plan = recipe(
        Phase(optimizer, "greedy", iterations=3, batch=2, crop=24, warmup=1),
        Phase(optimizer, "joint", iterations=5, batch=2, crop=24, warmup=1),
    )
    whole = Trainer(plan, pictures, [], tmp_path / "whole", progress=False)
    assert whole.run()
    for attempt in range(12):  # each attempt is cut off after at least one update
        part = Trainer(plan, pictures, [], tmp_path / "part", progress=False)
        assert part.resume() == (attempt > 0)
        segments = part.segments()
        if part.position < len(segments):
            index, phase, steps = segments[part.position]
            deadline = time.monotonic()
            part._train_segment(index, phase, steps, deadline + 0.02)
        if part.run(stop_after=0.0):
            break
    else:
        part.run()
    torch.testing.assert_close(weights_of(part), weights_of(whole), rtol=0, atol=0)


def test_a_phase_by_the_clock_ends_after_its_seconds_of_work(
    tmp_path: Path, pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train.time, "monotonic", itertools.count().__next__)  # each look at the clock takes a second
    phase = Phase(iterations=1, seconds=30.0, batch=2, crop=24, warmup=1, learning_rate=0.1, final_learning_rate=0.01)
    plan = recipe(phase, Phase(iterations=2, batch=2, crop=24, warmup=1))
    trainer = Trainer(plan, pictures, [], tmp_path, progress=False)
    assert not trainer.run(stop_after=12.0)
    assert trainer.position == 0 and trainer.updates > 1 and 8 <= trainer.elapsed <= 12
    assert trainer.optimizer is not None and 0.01 < trainer.optimizer.param_groups[0]["lr"] < 0.1
    again = Trainer(plan, pictures, [], tmp_path, progress=False)
    assert again.resume() and again.elapsed == trainer.elapsed and again.updates == trainer.updates
    begun = next(train.time.monotonic.__self__)
    assert again.run()
    passed = next(train.time.monotonic.__self__) - begun
    assert 30 - trainer.elapsed <= passed <= 30 - trainer.elapsed + 20
    assert again.updates > trainer.updates + 2 and again.position == 2


def test_the_learning_rate_follows_the_clock() -> None:
    phase = Phase(iterations=5, seconds=10.0, warmup=20, learning_rate=1.0, final_learning_rate=0.01)
    assert learning_rate(phase, 0, 0.0) == pytest.approx(1 / 20)
    assert learning_rate(phase, 19, 5.0) == pytest.approx(0.505)
    assert learning_rate(phase, 20, 5.0) == pytest.approx(0.505)
    assert learning_rate(phase, 10**6, 10.0) == pytest.approx(0.01)


def test_processes_cannot_share_a_phase_by_the_clock(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="clocks"):
        Trainer(recipe(Phase(seconds=1.0)), pictures, [], tmp_path, progress=False, processes=Processes(0, 2))


def test_a_phase_begins_from_the_average_of_the_one_before(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    phase = Phase(iterations=6, batch=2, crop=24, warmup=1, learning_rate=1e-2)
    trainer = Trainer(recipe(phase, phase), pictures, [], tmp_path, progress=False)
    trainer._train_segment(0, phase, range(2), float("inf"))
    assert not torch.equal(weights_of(trainer), torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    expected = weights_of(trainer)
    trainer.position, trainer.iteration, trainer.elapsed, trainer.optimizer = 1, 0, 0.0, None
    trainer._train_segment(1, phase, range(2), deadline=0.0)
    torch.testing.assert_close(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]), expected)


def test_the_loss_of_a_phase_takes_the_power_of_the_phase(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    trainer = Trainer(recipe(Phase(crop=24)), pictures, [], tmp_path, progress=False)
    clean, sigma = torch.rand(2, 1, 12, 12), torch.tensor([0.1, 0.2])
    noisy = clean + sigma.view(2, 1, 1, 1) * torch.randn_like(clean)
    inner, last = [u[:, :1] for u in trainer.model.states(noisy, sigma)][1:]
    for power in (0.5, 1.0):
        phase = Phase(loss_power=power, deep_supervision=0.3)
        expected = weighted_mse(last, clean, sigma, power) + 0.3 * weighted_mse(inner, clean, sigma, power)
        torch.testing.assert_close(trainer._loss(phase, clean, noisy, sigma, range(2)), expected)


def test_a_checkpoint_of_another_device_takes_the_options_of_this_one(
    tmp_path: Path, pictures: list[np.ndarray]
) -> None:
    plan = recipe(Phase(iterations=6, batch=2, crop=24, warmup=1))
    trainer = Trainer(plan, pictures, [], tmp_path, progress=False)
    trainer._train_segment(0, plan.phases[0], range(2), time.monotonic() + 0.02)
    trainer.save_checkpoint()
    path = tmp_path / "checkpoint.pt"
    state = torch.load(path)
    state["optimizer"]["param_groups"][0].update(lr=torch.tensor(0.5), fused=True, capturable=True)
    torch.save(state, path)
    again = Trainer(plan, pictures, [], tmp_path, progress=False)
    assert again.resume() and again.optimizer is not None
    (group,) = again.optimizer.param_groups
    assert (group["lr"], group["fused"], group["capturable"]) == (plan.phases[0].learning_rate, None, False)
    assert again.run()


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    trainer = Trainer(recipe(Phase(iterations=2, batch=2, crop=24)), pictures, [], tmp_path, progress=False)
    trainer.save_checkpoint()
    path = tmp_path / "checkpoint.pt"
    state = torch.load(path)
    del state["format"]
    torch.save(state, path)
    with pytest.raises(ValueError, match="written by another version"):
        trainer.resume()


def test_a_run_that_is_stopped_leaves_a_checkpoint(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    trainer = Trainer(recipe(Phase(iterations=6, batch=2, crop=24)), pictures, [], tmp_path, progress=False)
    trainer.stop()
    assert not trainer.run()
    assert trainer.resume()


@pytest.mark.cuda
def test_recorded_updates_are_those_made_one_by_one(
    tmp_path: Path, pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = recipe(Phase(iterations=8, batch=2, crop=24, warmup=1), Phase(iterations=8, batch=2, crop=32, warmup=1))
    found = []
    for uncaptured in (2, 100):
        monkeypatch.setattr("tnrd.training.cuda_graph.UNCAPTURED", uncaptured)
        trainer = Trainer(plan, pictures, pictures, tmp_path / str(uncaptured), "cuda", progress=False)
        assert trainer.run()
        found.append(weights_of(trainer))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("names", "options", "sentence"),
    [
        (("gray", "gray-fast"), (), "several recipes at once are trained on one GPU"),
        (("gray", "gray"), ("--device", "cuda"), "need names of their own"),
        (("gray",), ("--tf32",), "--tf32 is for a GPU"),
    ],
)
def test_recipes_that_cannot_be_trained_so_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    names: tuple[str, ...],
    options: tuple[str, ...],
    sentence: str,
) -> None:
    recipes = [str(ROOT / "scripts" / "recipes" / f"{name}.toml") for name in names]
    refused_by_script(monkeypatch, *recipes, "--data", str(tmp_path), *options, "--output", str(tmp_path))
    assert sentence in capsys.readouterr().err


def refused_by_script(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    """scripts/train.py within this process, which ends by a sentence."""
    monkeypatch.setattr(sys, "argv", ["train.py", *options])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "scripts" / "train.py"), run_name="__main__")
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        (None, (), "the recipe tiny.toml cannot be used: [Errno 2]"),
        ("seed = 'x'\n[[phases]]", (), "the recipe tiny.toml cannot be used: seed must be an integer, got 'x'"),
        ("[[phases]]", (), "No training picture is at least 64 x 64 pixels"),
        ("[[phases]]\ncrop = 24", ("--validation", "nowhere"), "No such file or directory: 'nowhere'"),
        ("[[phases]]\ncrop = 24", ("--device", "abacus"), "--device abacus cannot be used"),
    ],
)
def test_what_cannot_be_trained_is_told_in_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    pictures: list[np.ndarray],
    text: str | None,
    options: tuple[str, ...],
    sentence: str,
) -> None:
    Image.fromarray(pictures[0]).save(tmp_path / "a.png")
    if text is not None:
        (tmp_path / "tiny.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    refused_by_script(monkeypatch, "tiny.toml", "--data", ".", "--output", "run", *options)
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_a_resumed_run_needs_its_first_weights_no_more(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    Image.fromarray(pictures[0]).save(tmp_path / "a.png")
    save_weights(tmp_path / "first.safetensors", TNRD(TINY))
    (tmp_path / "tiny.toml").write_text(
        "initial = 'first.safetensors'\n[model]\nstages = 2\nfilters = 4\nkernel_size = 3\nnodes = 15\n"
        "[[phases]]\niterations = 2\nbatch = 2\ncrop = 24\n"
    )
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "tiny.toml", "--data", ".", "--output", "run"]
    subprocess.run([*command, "--stop-after", "0"], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "first.safetensors").unlink()
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "run" / "tiny.safetensors").exists()


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_training_improves_on_the_noisy_picture_and_on_its_start(
    tmp_path: Path, pictures: list[np.ndarray], optimizer: str
) -> None:
    phase = Phase(optimizer, "joint", iterations=12, batch=4, crop=32, learning_rate=2e-2, warmup=2, average=0.5)
    plan = Recipe("tiny", TINY, (phase,), sigma=(25.0, 25.0), validation_sigma=(25.0,), validate_every=1)
    trainer = Trainer(plan, pictures, pictures, tmp_path, progress=False)
    assert trainer.run()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    noisy = np.mean([score(lambda f, s: f, image / 255, 25, i).psnr for i, image in enumerate(pictures)])
    assert rows[-1]["psnr"]["25.0"] > noisy + 2
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert trainer.last_scores[25.0] == rows[-1]["psnr"]["25.0"]


def test_lbfgs_searches_along_its_lines(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    phase = Phase("lbfgs", iterations=30, batch=4, crop=24)
    plan = Recipe("tiny", TINY, (phase,), sigma=(25.0, 25.0), validate_every=1)
    assert Trainer(plan, pictures, [], tmp_path, progress=False).run()
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] / 3
    assert all(after <= before for before, after in itertools.pairwise(losses))


def test_a_greedy_step_leaves_the_earlier_ones_alone(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    plan = recipe(Phase("adam", "greedy", iterations=2, batch=2, crop=24, warmup=1))
    trainer = Trainer(plan, pictures, [], tmp_path, progress=False)
    index, phase, steps = trainer.segments()[1]
    before = [p.detach().clone() for p in trainer.model.stage(0).parameters()]
    start = [p.detach().clone() for p in trainer.model.stage(1).parameters()]
    trainer.position = 1
    trainer._train_segment(index, phase, steps, time.monotonic() + 60)
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.stage(0).parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(start, trainer.model.stage(1).parameters(), strict=True))


def test_the_seed_of_the_protocol() -> None:
    assert protocol_seed(25, 3) == 25003
    clean = np.full((40, 40), 0.5)
    noisy = clean + 25 / 255 * np.random.default_rng(25003).standard_normal(clean.shape)
    seen = []
    score(lambda f, s: seen.append((f, s)) or f, clean, 25, 3)
    np.testing.assert_allclose(seen[0][0], noisy, atol=1e-6)
    assert seen[0][1] == 25 / 255


@pytest.mark.slow
def test_the_script_survives_a_kill_and_writes_weights_and_card(tmp_path: Path, pictures: list[np.ndarray]) -> None:

    import tnrd

    (tmp_path / "data").mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "data" / f"{i}.png")
    (tmp_path / "tiny.toml").write_text(
        "data = 'two waves'\ncheckpoint_every = 1\n[model]\nstages = 1\nfilters = 2\nkernel_size = 3\n"
        "[[phases]]\niterations = 60\nbatch = 2\ncrop = 24\n"
    )
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "tiny.toml", "--data", "data", "--output", "run"]
    first = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    while not (tmp_path / "run" / "checkpoint.pt").exists() and first.poll() is None:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "run" / "tiny.safetensors").exists()
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    model = tnrd.load_model(tmp_path / "run" / "tiny.safetensors")
    assert model.config.filters == 2
    text = (tmp_path / "run" / "tiny.md").read_text()
    assert "iterations = 60" in text and "two waves" in text


TINY_RECIPE = """
seed = 3
validate_every = 8
validation_sigma = [25.0]
[model]
stages = 2
filters = 4
kernel_size = 3
nodes = 15
[[phases]]
iterations = 8
batch = 4
crop = 16
deep_supervision = 0.1
[[phases]]
optimizer = "lbfgs"
iterations = 12
batch = 4
crop = 16
"""


@pytest.mark.slow
def test_two_processes_train_the_model_of_one(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    (tmp_path / "tiny.toml").write_text(TINY_RECIPE, encoding="utf-8")
    options = [str(ROOT / "scripts" / "train.py"), str(tmp_path / "tiny.toml"), "--data", str(tmp_path)]
    starters = {
        "one": [sys.executable],
        "two": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    }
    rows = {}
    for name, starter in starters.items():
        output = tmp_path / name
        command = [*starter, *options, "--output", str(output), "--validation", str(tmp_path)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 0, done.stderr
        assert load_model(output / "tiny.safetensors").config == TINY
        rows[name] = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
        assert [row["iteration"] for row in rows[name]] == [8, 8, 12]  # the first process alone reports
    one, two = rows["one"][0], rows["two"][0]  # at the end of Adam's phase
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert two["psnr"]["25.0"] == pytest.approx(one["psnr"]["25.0"], abs=1e-4)
    # A line search in float32 is led by rounding: other sums end in other weights of a like loss.
    losses = {name: [row["loss"] for row in found] for name, found in rows.items()}
    assert losses["two"][-1] == pytest.approx(losses["one"][-1], rel=0.2)
    assert losses["two"][-1] < losses["two"][0] / 2


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    batch = torch.arange(6)
    assert [Processes(rank, 3).share(batch).tolist() for rank in range(3)] == [[0, 3], [1, 4], [2, 5]]
    with pytest.raises(ValueError, match="batch of 6 cannot be divided evenly among 4 processes"):
        Processes(0, 4).share(batch)


def test_what_tensorboard_shows_is_what_the_log_says(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    class Board:
        """Keeps what a SummaryWriter would write."""

        def __init__(self) -> None:
            self.scalars: dict[tuple[str, int], float] = {}

        def add_scalar(self, name: str, value: float, step: int) -> None:
            self.scalars[name, step] = value

        def flush(self) -> None:
            pass

    board = Board()
    phases = (Phase(iterations=4, batch=2, crop=16), Phase(iterations=4, batch=2, crop=16))
    Trainer(recipe(*phases), pictures, pictures, tmp_path, progress=False, board=board).run()  # type: ignore[arg-type]
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [board.scalars["loss", step] for step in (4, 8)] == [row["loss"] for row in rows]
    assert board.scalars["psnr/25", 8] == rows[1]["psnr"]["25.0"]
    assert board.scalars["learning_rate", 8] > 0


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    phase = Phase(iterations=2, batch=2, crop=24, warmup=1)
    Trainer(recipe(phase), pictures, [], tmp_path, progress=False).run()
    other = Trainer(recipe(dataclasses.replace(phase, iterations=3)), pictures, [], tmp_path, progress=False)
    with pytest.raises(ValueError, match="another recipe: phases differ"):
        other.resume()


def test_a_run_goes_on_under_a_recipe_of_the_same_weights(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    plan = recipe(Phase(iterations=2, batch=2, crop=24, warmup=1))
    Trainer(plan, pictures, [], tmp_path, progress=False).run()
    plan = dataclasses.replace(
        plan, name="other", data="d", validation_sigma=(50.0,), validate_every=7, checkpoint_every=9
    )
    assert Trainer(plan, pictures, [], tmp_path, progress=False).resume()


@pytest.mark.parametrize(
    ("late", "count", "sentence"),
    [
        ({"crop": 49}, 1, "No training picture is at least 49 x 49 pixels"),
        ({"batch": 3}, 2, "batch of 3 cannot be divided evenly among 2 processes"),
    ],
)
def test_a_late_phase_that_cannot_run_is_refused_at_once(
    tmp_path: Path, pictures: list[np.ndarray], late: dict[str, int], count: int, sentence: str
) -> None:
    phase = Phase(iterations=2, batch=2, crop=24)
    with pytest.raises(ValueError, match=sentence):
        Trainer(
            recipe(phase, dataclasses.replace(phase, **late)), pictures, [], tmp_path, processes=Processes(0, count)
        )


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_run_that_diverges_keeps_what_it_had(tmp_path: Path, pictures: list[np.ndarray], optimizer: str) -> None:
    plan = recipe(Phase(optimizer, iterations=12, batch=2, crop=24, warmup=1))
    trainer = Trainer(plan, pictures, pictures, tmp_path, progress=False)
    trainer.save_checkpoint()
    good = (tmp_path / "checkpoint.pt").read_bytes()
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(float("nan"))
        next(trainer.average.parameters()).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="training of tiny has diverged within 2 updates"):
        trainer.run()
    assert (tmp_path / "checkpoint.pt").read_bytes() == good
    assert not (tmp_path / "log.jsonl").exists()


def test_a_loss_that_is_not_finite_is_not_reported(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    trainer = Trainer(recipe(Phase(crop=24)), pictures, [], tmp_path, progress=False)
    with pytest.raises(FloatingPointError, match="diverged"):
        trainer._report(math.inf, 0, range(2))


def test_what_a_killed_checkpoint_left_is_removed(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    left = tmp_path / ".tnrd-0123456789abcdef.tmp"
    left.write_bytes(b"half a checkpoint")
    assert not Trainer(recipe(Phase(crop=24)), pictures, [], tmp_path, progress=False).resume()
    assert not left.exists()


RESUMING = """
import os, sys
from pathlib import Path
import numpy as np, torch
from tnrd.training.processes import join_processes, leave_processes
from tnrd.training.train import Trainer
from test_training import Phase, recipe

processes = join_processes(torch.device("cpu"))
output = Path(sys.argv[1]) / os.environ["RANK"]
phase = Phase(iterations=4, batch=2, crop=24)
trainer = Trainer(recipe(phase), [np.zeros((24, 24), np.uint8)], [], output, progress=False, processes=processes)
try:
    trainer.resume()
except ValueError as error:
    (output / "said").write_text(str(error))
leave_processes()
"""


@pytest.mark.slow
def test_processes_that_find_different_checkpoints_say_so(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    Trainer(recipe(Phase(iterations=4, batch=2, crop=24)), pictures, [], tmp_path / "0", progress=False).run()
    (tmp_path / "resume.py").write_text(RESUMING, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [*command, str(tmp_path / "resume.py"), str(tmp_path)], capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for rank in "01":
        assert "do not find the same checkpoint" in (tmp_path / rank / "said").read_text(encoding="utf-8")
