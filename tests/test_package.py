"""The package as installed: version, lazy import, a quick command line, the files that must ship."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

import tnrd

PACKAGE = Path(tnrd.__file__).parent
HEAVY = ("torch", "numpy", "cv2", "skimage", "scipy", "numba", "PIL", "tifffile", "safetensors")
RUN_CLI = "from tnrd.cli import main; raise SystemExit(main())"


def heavy_modules_after(statement: str) -> list[str]:
    """Run a statement in a fresh interpreter; the heavy modules that it left imported."""
    code = (
        "import json, sys\n"
        f"try:\n    {statement}\n"
        "except SystemExit as leaving:\n    assert not leaving.code, leaving.code\n"
        f"print('\\n' + json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    imported: list[str] = json.loads(run.stdout.splitlines()[-1])
    return imported


def test_version_is_that_of_the_installed_distribution() -> None:
    assert version("tnrd") == tnrd.__version__


def test_the_command_is_installed() -> None:
    (command,) = entry_points(group="console_scripts", name="tnrd-denoise")
    assert command.value == "tnrd.cli:main"


def test_import_is_lazy() -> None:
    assert heavy_modules_after("import tnrd") == []


def test_the_probe_of_lazy_imports_sees_a_heavy_module() -> None:
    assert "numpy" in heavy_modules_after("import numpy")


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_command_answers_without_heavy_imports(option: str) -> None:
    assert heavy_modules_after(f"from tnrd.cli import main; raise SystemExit(main([{option!r}]))") == []


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_command_answers_within_300_ms(option: str) -> None:
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", RUN_CLI, option], capture_output=True, check=True, timeout=60)
        return time.perf_counter() - start

    # The best of five: a busy machine may delay one run, only a slow start delays all.
    assert min(seconds() for _ in range(5)) < 0.3


def test_version_option_prints_the_version() -> None:
    run = subprocess.run([sys.executable, "-c", RUN_CLI, "--version"], capture_output=True, text=True, timeout=60)
    assert tnrd.__version__ in run.stdout.split()


@pytest.mark.parametrize("name", tnrd.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(tnrd, name) is getattr(tnrd, name)
    assert name in dir(tnrd)


def test_public_names_live_where_they_are_declared() -> None:
    assert tnrd.denoise.__module__.startswith("tnrd.")
    assert tnrd.TNRD.__module__ == "tnrd.model"
    assert tnrd.TNRDConfig.__module__ == "tnrd.config"


def test_star_import_brings_all_public_names() -> None:
    namespace: dict[str, object] = {}
    exec("from tnrd import *", namespace)
    assert set(tnrd.__all__) <= set(namespace)


def test_unknown_attribute_raises() -> None:
    with pytest.raises(AttributeError, match="module 'tnrd' has no attribute 'denoize'"):
        tnrd.denoize  # noqa: B018
    assert not hasattr(tnrd, "denoize")


def test_typing_marker_ships() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_weights_are_found() -> None:
    # Inside the package when installed from a wheel, beside it in a checkout.
    folders = [folder for folder in (PACKAGE / "_shipped_weights", PACKAGE.parent / "weights") if folder.is_dir()]
    assert folders, "neither shipped nor checked-out weights"
    assert (folders[0] / "manifest.json").is_file()
    assert list(folders[0].glob("*.safetensors"))
