"""The diffusion step: its engines against the reference, as operators of torch, and what they do with awkward input."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
import re
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tnrd.kernels import dispatch, plan_numba, step_numba, step_torch
from tnrd.kernels.dispatch import ENGINES, diffusion_step, resolve_engine
from tnrd.kernels.plan_numba import plan
from tnrd.kernels.simd import LANES

NAMES = ("u", "f", "kernels", "table", "inner", "outer", "reaction")
# (N, C, O, H, W, F, k)
PROBLEMS = [
    (1, 1, 1, 1, 1, 4, 3),
    (2, 1, 1, 2, 2, 5, 5),
    (1, 1, 1, 63, 63, 24, 5),
    (1, 1, 1, 127, 65, 48, 7),
    (1, 1, 1, 3, 130, 3, 9),
    (1, 1, 1, 140, 2, 1, 9),
    (2, 3, 3, 40, 33, 10, 9),
    (3, 16, 4, 32, 32, 64, 3),
    (1, 16, 4, 70, 300, 48, 3),
    (2, 5, 2, 1, 1, 7, 3),
    (1, 4, 4, 2, 3, 5, 3),
    (1, 6, 2, 701, 19, 6, 3),
    (1, 5, 2, 19, 23, 7, 1),
    (1, 1, 1, 50, 961, 100, 7),
    (1, 1, 1, 700, 20, 6, 3),
]


def dyadic(generator: torch.Generator, shape: tuple[int, ...], denominator: int, largest: float = 1.0) -> Tensor:
    top = int(largest * denominator)
    return torch.randint(-top, top + 1, shape, generator=generator).float() / denominator


def problem(size: tuple[int, ...], *, maps: bool = False, observed: int | None = None) -> dict[str, Any]:
    """Arguments whose responses are exact in float32, or nearly so, and samples of the table that lie between those.

    Rounding then moves none of them across a sample, where the slope jumps. Kernels of many components have norm 1, as
    those of models do: what is added up for the table is as exact as responses are beside its spacing.
    """
    n, channels, count, height, width, filters, k = size
    generator = torch.Generator().manual_seed(sum(size))
    plane = (height, width) if maps else (1, 1)
    x = torch.linspace(-6, 6, 193)
    phase = torch.rand(filters, 1, generator=generator)
    return {
        "u": dyadic(generator, (n, channels, height, width), 64),
        "f": dyadic(generator, (n, observed or count, height, width), 64),
        "kernels": dyadic(generator, (filters, channels, k, k), *((64, 0.5) if channels < 4 else (256, 0.125))),
        "table": torch.sin((1 + phase) * x + 6 * phase) / (1 + x**2),
        "origin": -6.0 + 2.0**-17,
        "spacing": 1 / 16,
        "inner": 2.0 ** torch.randint(-2, 2, (n, filters, *plane), generator=generator),
        "outer": 0.1 + 0.1 * torch.rand(n, filters, *plane, generator=generator),
        "reaction": torch.rand(n, 1, *plane, generator=generator),
    }


def converted(arguments: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    return {k: v.to(dtype) if isinstance(v, Tensor) else v for k, v in arguments.items()}


def solve(arguments: dict[str, Any], engine: str) -> list[Tensor]:
    """The result and the gradients for all tensors, of a sum weighted by exact numbers."""
    leaves = {k: v.detach().requires_grad_() if isinstance(v, Tensor) else v for k, v in arguments.items()}
    out = diffusion_step(**leaves, engine=engine)
    generator = torch.Generator().manual_seed(1)
    gradient = dyadic(generator, tuple(out.shape), 64).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, [leaves[name] for name in NAMES], gradient)]


def assert_same(actual: list[Tensor], expected: list[Tensor], tolerance: float = 1e-5) -> None:
    for name, a, b in zip(("result", *NAMES), actual, expected, strict=False):
        assert a.shape == b.shape, name
        error = float((a.double() - b.double()).norm())
        assert error <= tolerance * float(b.double().norm()), f"{name}: {error} of {float(b.norm())}"


# --- the reference


def test_the_reference_is_the_equation() -> None:
    """Against a sum over pixels written out, mirrored indices and all."""
    arguments = converted(problem((1, 2, 1, 4, 3, 2, 3)), torch.float64)
    u, f, q = (arguments[k][0] if k != "kernels" else arguments[k] for k in ("u", "f", "kernels"))

    def mirrored(i: int, length: int) -> int:
        return (-1 - i) if i < 0 else (2 * length - 1 - i if i >= length else i)

    expected = u.clone()
    expected[:1] -= arguments["reaction"][0, 0, 0, 0] * (u[:1] - f)
    x = -6 + 2.0**-17 + torch.arange(193) / 16
    taps = list(itertools.product(range(2), range(3), range(3)))
    for i, y0, x0 in itertools.product(range(2), range(4), range(3)):
        cells = [(c, mirrored(y0 + dy - 1, 4), mirrored(x0 + dx - 1, 3), q[i, c, dy, dx]) for c, dy, dx in taps]
        z = sum(float(u[c, a, b] * w) for c, a, b, w in cells)
        argument = float(arguments["inner"][0, i, 0, 0]) * z
        psi = float(arguments["outer"][0, i, 0, 0]) * np.interp(argument, x, arguments["table"][i])
        for c, a, b, w in cells:
            expected[c, a, b] -= psi * w
    torch.testing.assert_close(diffusion_step(**arguments, engine="torch")[0], expected, rtol=1e-12, atol=1e-12)


def test_gradients_of_the_reference() -> None:
    arguments = converted(problem((2, 2, 1, 3, 4, 2, 3)), torch.float64)
    generator = torch.Generator().manual_seed(3)
    # Off the samples of the table, where it has no slope.
    arguments["u"] = arguments["u"] + 0.003 * torch.rand(arguments["u"].shape, generator=generator)
    leaves = [arguments[name].requires_grad_() for name in NAMES]

    def step(*values: Tensor) -> Tensor:
        return step_torch.diffusion_step(**{**arguments, **dict(zip(NAMES, values, strict=True))})

    assert torch.autograd.gradcheck(step, leaves, eps=1e-7, atol=1e-5)


# --- the compiled CPU engine


@pytest.mark.parametrize("size", PROBLEMS, ids=str)
def test_result_and_gradients_are_those_of_the_reference(size: tuple[int, ...]) -> None:
    arguments = problem(size)
    assert_same(solve(arguments, "numba"), solve(converted(arguments, torch.float64), "torch"))


@pytest.mark.slow
def test_result_and_gradients_are_those_of_the_reference_on_a_whole_picture() -> None:
    arguments = problem((1, 1, 1, 512, 512, 24, 5))
    assert_same(solve(arguments, "numba"), solve(converted(arguments, torch.float64), "torch"))


@pytest.mark.parametrize("size", [(2, 1, 1, 1, 1, 4, 3), (1, 16, 4, 40, 33, 6, 3), (1, 1, 1, 30, 700, 4, 7)], ids=str)
def test_the_scales_may_vary_from_pixel_to_pixel(size: tuple[int, ...]) -> None:
    arguments = problem(size, maps=True)
    result = diffusion_step(**arguments, engine="numba")
    assert_same([result], [diffusion_step(**converted(arguments, torch.float64), engine="torch")])


def test_gradients_under_a_map_come_from_the_reference_or_not_at_all() -> None:
    arguments = problem((1, 1, 1, 6, 5, 3, 3), maps=True)
    assert_same(solve(arguments, "auto"), solve(converted(arguments, torch.float64), "torch"))
    with pytest.raises(ValueError, match=r"Engine 'numba' has no gradients under a noise map; 'torch' has\."):
        solve(arguments, "numba")


def test_float32_stays_float32_whatever_the_default() -> None:
    arguments = problem((2, 8, 4, 9, 12, 6, 3))
    expected = solve(arguments, "numba")
    torch.set_default_dtype(torch.float64)
    try:
        found = solve(arguments, "numba")
    finally:
        torch.set_default_dtype(torch.float32)
    assert {t.dtype for t in found} == {torch.float32}
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("layout", ["among NaN", "transposed", "channels last"])
def test_memory_layout_does_not_matter(layout: str) -> None:
    arguments = problem((2, 3, 2, 21, 18, 5, 5))
    expected = solve(arguments, "numba")

    def moved(tensor: Tensor) -> Tensor:
        if layout == "transposed":
            return tensor.transpose(2, 3).contiguous().transpose(2, 3)
        if layout == "channels last":
            return tensor.contiguous(memory_format=torch.channels_last)
        n, c, height, width = tensor.shape
        buffer = torch.full((n, c + 2, height + 4, width + 4), torch.nan)
        buffer[:, 1 : c + 1, 2 : height + 2, 3 : width + 3] = tensor
        return buffer[:, 1 : c + 1, 2 : height + 2, 3 : width + 3]

    for name in ("u", "f", "kernels", "inner", "outer", "reaction"):
        arguments[name] = moved(arguments[name])
    for a, b in zip(solve(arguments, "numba"), expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("size", [(1, 1, 1, 5, 7, 4, 7), (1, 3, 3, 70, 300, 7, 5), (3, 16, 4, 32, 32, 13, 3)], ids=str)
def test_what_scratch_memory_held_before_does_not_matter(size: tuple[int, ...]) -> None:
    arguments = problem(size)
    expected = solve(arguments, "numba")
    step_numba._workspaces.array.fill(np.nan)
    for a, b in zip(solve(arguments, "numba"), expected, strict=True):
        assert torch.equal(a, b)


def test_the_first_step_leaves_the_number_of_threads_alone() -> None:
    """Starting the pool of the compiled loops must not give torch all cores where it was told to use one."""
    script = (
        "import numba, torch; from tnrd.kernels.threads_numba import use_torch_threads;"
        "print(torch.get_num_threads(), use_torch_threads(), torch.get_num_threads(), numba.get_num_threads())"
    )
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_NUM_THREADS"}
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["1", "1", "1", "1"]


@pytest.mark.parametrize(
    "size", [(1, 1, 1, 127, 265, 7, 5), (3, 16, 4, 64, 64, 24, 3), (1, 8, 4, 257, 70, 24, 3)], ids=str
)
def test_same_bytes_from_run_to_run_and_for_any_number_of_threads(size: tuple[int, ...]) -> None:
    import numba

    arguments = problem(size)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        once, again = solve(arguments, "numba"), solve(arguments, "numba")
        torch.set_num_threads(min(4, numba.config.NUMBA_NUM_THREADS))
        threaded = solve(arguments, "numba")
    finally:
        torch.set_num_threads(before)
    for a, b, c in zip(once, again, threaded, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()
        assert a.numpy().tobytes() == c.numpy().tobytes()


def test_pictures_of_a_batch_do_not_touch_each_other() -> None:
    arguments = problem((3, 2, 1, 17, 40, 5, 5))
    together = diffusion_step(**arguments, engine="numba")
    for n in range(3):
        alone = {k: v[n : n + 1] if k in ("u", "f", "inner", "outer", "reaction") else v for k, v in arguments.items()}
        assert torch.equal(together[n : n + 1], diffusion_step(**alone, engine="numba"))


NOT_FINITE = """
import sys
sys.path.insert(0, "tests")
import torch
from test_step import problem, diffusion_step
channels, size, row = map(int, sys.argv[1:])
arguments = problem((1, channels, 2, 40, 50, 5, size))
clean = diffusion_step(**arguments, engine="numba")
for value in (torch.nan, torch.inf, -torch.inf, 3e38):
    spoiled = dict(arguments, u=arguments["u"].clone())
    spoiled["u"][0, 1, row, 23] = value
    spoiled["u"].requires_grad_()
    spoiled["table"] = spoiled["table"].clone().requires_grad_()
    result = diffusion_step(**spoiled, engine="numba")
    # A response reads r pixels around it and is felt r pixels around it; or, by points, in the fours of rows
    # that those belong to.
    near = torch.zeros(40, 50, dtype=torch.bool)
    if size == 5:
        near[row - 4 : row + 5, 19:28] = True
    else:
        near[11:23, 21:26] = True
    difference = (result != clean).any(1)[0]
    assert not bool((difference & ~near).any()), value
    assert bool(difference[row, 23])
    if value != value:
        reference = diffusion_step(**spoiled, engine="torch")
        assert not bool((reference.isnan() & ~result.isnan()).any())
        assert size == 3 or torch.equal(result.isnan(), reference.isnan())
    result.nan_to_num().sum().backward()
print("survived")
"""


@pytest.mark.parametrize(("channels", "size", "row"), [(2, 5, 17), (6, 3, 16), (6, 3, 17)])
def test_values_that_are_not_finite_stay_where_they_are(channels: int, size: int, row: int, root: Any) -> None:
    """In a process of its own: an index computed from NaN would read or write memory that is not the table's."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", NOT_FINITE, str(channels), str(size), str(row)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        cwd=root,
    )
    assert run.stdout == "survived\n", f"exit status {run.returncode}\n{run.stderr[-1500:]}"


NARROW = """
import sys
sys.path.insert(0, "tests")
from test_step import *
from tnrd.kernels import simd
assert simd.LANES == int(sys.argv[1]), simd.LANES
for size in PROBLEMS[:13]:
    arguments = problem(size)
    assert_same(solve(arguments, "numba"), solve(converted(arguments, torch.float64), "torch"))
print("same")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("cpu", "lanes"), [("haswell", 8), ("nehalem", 4)])
def test_processors_with_narrower_vectors(cpu: str, lanes: int, root: Any, tmp_path: Any) -> None:
    """The code that those processors run, on this one: registers of 8 and of 4 numbers."""
    import llvmlite.binding

    if not llvmlite.binding.get_host_cpu_features().get("avx2"):
        pytest.skip("this processor is no superset of those")
    features = {"haswell": "+avx,+avx2,+fma,-avx512f", "nehalem": "+sse4.2,-avx,-avx2,-fma,-avx512f"}[cpu]
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": cpu,
        "NUMBA_CPU_FEATURES": features,
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    run = subprocess.run(
        [sys.executable, "-c", NARROW, str(lanes)],
        capture_output=True,
        text=True,
        timeout=500,
        env=environment,
        cwd=root,
    )
    assert run.stdout == "same\n", f"exit status {run.returncode}\n{run.stderr[-1500:]}"


def test_compiled_code_is_used_where_its_cache_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package folder and a home that cannot be written, as in many a container: a slower start, not an error."""
    from numba.core import caching

    from tnrd.kernels import step_forward_numba

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    spec = importlib.util.spec_from_file_location("step_forward_numba_without_cache", step_forward_numba.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)  # decorating a function is what looks for a cache
    assert callable(module.forward)


@pytest.mark.parametrize("channels", [1, 3, 16])
@pytest.mark.parametrize("backward", [False, True])
def test_plans_cover_every_pixel_once_and_keep_borders_whole(channels: int, backward: bool) -> None:
    """What lies beyond a border folds onto the strip or band at that border, which has to be wide enough."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        height, width, filters, size = (int(rng.integers(1, top)) for top in (2000, 2500, 130, 5))
        size = 2 * size + 1
        layout = plan((1, channels, height, width), filters, size, backward, int(rng.integers(1, 65)))
        covered = np.zeros((height, width), np.uint8)
        for _, y0, y1, x0, x1 in layout.parts:
            covered[y0:y1, x0:x1] += 1
            assert x1 - x0 >= min(width, size // 2)
            assert y1 - y0 >= min(height, size // 2)
            assert x1 == width or (x1 - x0) % LANES == 0
        assert (covered == 1).all()


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 6, 8, 12, 16])
@pytest.mark.parametrize("side", [256, 384, 1024])
def test_no_thread_has_much_more_to_do_than_another(threads: int, side: int) -> None:
    parts = plan((1, 8, side, side), 64, 3, False, threads).parts
    rows = (parts[:, 2] - parts[:, 1] + 2) * (parts[:, 4] - parts[:, 3])
    # Numba gives every thread as many parts in a row, or one less.
    busiest = max(int(own.sum()) for own in np.array_split(rows, threads))
    assert busiest <= 1.25 * side * side / threads


# --- operators of torch


@pytest.mark.parametrize("engine", ["numba"])
def test_torchs_own_checks_of_an_operator(engine: str) -> None:
    arguments = problem((2, 3, 2, 5, 6, 4, 3))
    leaves = tuple(v.requires_grad_() if isinstance(v, Tensor) else v for v in arguments.values())
    torch.library.opcheck(getattr(torch.ops.tnrd, f"diffusion_step_{engine}").default, leaves)


def test_torch_compile_sees_one_operator() -> None:
    arguments = problem((1, 2, 1, 9, 8, 3, 3))
    u = arguments.pop("u").requires_grad_()

    def function(u: Tensor) -> Tensor:
        return diffusion_step(u, **arguments, engine="numba").sin()

    expected = function(u)
    out = torch.compile(function, backend="aot_eager", fullgraph=True)(u)
    assert torch.equal(out, expected)
    assert torch.equal(*(torch.autograd.grad(value.sum(), u)[0] for value in (out, expected)))


def test_autograd_asks_for_no_more_than_it_needs() -> None:
    arguments = problem((1, 1, 1, 9, 8, 3, 3))
    kernels = arguments["kernels"].requires_grad_()
    diffusion_step(**arguments, engine="numba").sum().backward()
    assert kernels.grad is not None
    with torch.inference_mode():
        assert not diffusion_step(**arguments, engine="numba").requires_grad


def test_a_gradient_takes_what_its_own_step_has_arranged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for both, also where other steps come between them, with gradient or without."""
    arranged: list[Tensor] = []

    def arrange(kernels: Tensor, table: Tensor) -> Any:
        arranged.append(kernels)
        return plan_numba.arrange(kernels, table)

    monkeypatch.setattr(step_numba, "arrange", arrange)
    problems = [problem((2, 4, 1, 6, 9, 7, 3)) for _ in range(2)]
    problems[1]["kernels"] = -0.5 * problems[1]["kernels"]
    leaves = [arguments["kernels"].requires_grad_() for arguments in problems]
    results = [diffusion_step(**arguments, engine="numba") for arguments in problems]
    with torch.no_grad():
        diffusion_step(**problems[0], engine="numba")
    found = [torch.autograd.grad(result.sum(), leaf)[0] for result, leaf in zip(results, leaves, strict=True)]
    assert len(arranged) == 3
    for arguments, gradient in zip(problems, found, strict=True):
        reference = converted(arguments, torch.float64)
        leaf = reference["kernels"].detach().requires_grad_()
        result = diffusion_step(**{**reference, "kernels": leaf}, engine="torch")
        assert_same([gradient], [torch.autograd.grad(result.sum(), leaf)[0]])


def test_a_second_derivative_is_refused_not_wrong() -> None:
    arguments = problem((1, 1, 1, 9, 8, 3, 3))
    u = arguments["u"].requires_grad_()
    (slope,) = torch.autograd.grad(diffusion_step(**arguments, engine="numba").sum(), u, create_graph=True)
    with pytest.raises(RuntimeError):
        slope.sum().backward()


# --- which engine


def test_engines_are_resolved_without_silent_fallback() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert resolve_engine("auto", cpu) == "numba"
    assert resolve_engine("auto", cpu, torch.float64) == "torch"
    assert resolve_engine("torch", cpu) == "torch"
    with pytest.raises(ValueError, match=r"'numba' computes float32 on the CPU, got torch.float32 on cuda"):
        resolve_engine("numba", cuda)
    with pytest.raises(ValueError, match=r"engine must be one of auto, torch, numba, .*got 'cupy'\."):
        resolve_engine("cupy", cpu)
    assert ENGINES[0] == "auto"


def test_numba_refuses_float64() -> None:
    arguments = converted(problem((1, 1, 1, 3, 3, 2, 3)), torch.float64)
    with pytest.raises(ValueError, match=r"Engine 'numba' computes float32 on the CPU, got torch.float64 on cpu"):
        diffusion_step(**arguments, engine="numba")


@pytest.mark.parametrize("engine", ["torch", "numba"])
@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("u", (1, 2, 0, 5), "no pixels"),
        ("u", (1, 3, 6, 5), "C = 2"),
        ("f", (1, 3, 6, 5), "does not fit the state"),
        ("f", (1, 1, 6, 4), "does not fit the state"),
        ("kernels", (4, 2, 4, 4), "k odd"),
        ("table", (3, 20), "table of 4 functions"),
        ("inner", (1, 4, 6, 4), "inner has shape"),
        ("outer", (1, 3, 1, 1), "outer has shape"),
        ("reaction", (2, 1, 1, 1), "reaction has shape"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(engine: str, name: str, shape: tuple[int, ...], message: str) -> None:
    arguments = problem((1, 2, 1, 6, 5, 4, 3))
    arguments[name] = torch.zeros(shape)
    with pytest.raises(ValueError, match=message):
        dispatch.diffusion_step(**arguments, engine=engine)


@pytest.mark.slow
def test_machine_code_is_kept_and_said_until_a_part_of_it_changes(tmp_path: Any, root: Any) -> None:
    """The parts are compiled into functions of other files, which is all that Numba looks at by itself."""
    package = tmp_path / "tnrd"
    shutil.copytree(root / "tnrd", package, ignore=shutil.ignore_patterns("__pycache__"))
    code = "import test_step as t; print(t.diffusion_step(**t.problem((1, 1, 1, 9, 8, 3, 3)), engine='numba').sum())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(root / "tests")])}

    def run() -> tuple[str, str]:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, cwd=tmp_path)
        return done.stdout, done.stderr

    said = "Compiling the diffusion step for this processor; this is kept, and happens once.\n"
    first, second = run(), run()
    assert (first[1], second) == (said, (first[0], ""))
    part = package / "kernels" / "correlate_numba.py"
    part.write_text(part.read_text().replace("out[x] -= middle[x]", "out[x] -= 2 * middle[x]"))
    third = run()
    assert third[0] != first[0] and third[1] == said


def test_every_file_of_a_compiled_function_is_among_its_sources(root: Any) -> None:
    folder = root / "tnrd" / "kernels"

    def imported(file: str, seen: frozenset[str] = frozenset()) -> frozenset[str]:
        for found in re.findall(r"^from tnrd\.kernels\.(\w+) import", (folder / file).read_text(), re.MULTILINE):
            if f"{found}.py" not in seen:
                seen = imported(f"{found}.py", seen | {f"{found}.py"})
        return seen

    compiled = [path.stem for path in folder.glob("*.py") if "= compiled(" in path.read_text()]
    assert set(compiled) == {"step_forward_numba", "step_backward_numba", "step_winograd_numba"}
    for name in compiled:
        module = importlib.import_module(f"tnrd.kernels.{name}")
        assert imported(f"{name}.py") <= {"simd.py", "correlate_numba.py", *getattr(module, "_FILES", ())}
