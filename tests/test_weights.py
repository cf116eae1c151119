"""Weights files: what is written is what is read, and every unusable file or name gets one clear sentence."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import publish_weights

import tnrd.weights
from tnrd.config import TNRDConfig
from tnrd.model import TNRD
from tnrd.weights import (
    ALIASES,
    WeightsError,
    available_models,
    find_weights,
    load_model,
    read_tensors,
    read_weights,
    save_tensors,
    save_weights,
    weights_folder,
)

ROOT = Path(__file__).resolve().parents[1]

CONFIGS = {
    "grey": TNRDConfig(stages=2, filters=3, kernel_size=3, nodes=9),
    "all settings": TNRDConfig(
        stages=3, filters=4, kernel_size=5, channels=3, grid=2, companions=2, basis="dct", vanishing_moments=(0, 1),
        norm="bounded", nodes=7, reach=5.5, node_width=0.8, sigma_degree=1, repeats=3,
    ),
    "transposes": TNRDConfig(
        stages=2, filters=6, kernel_size=3, grid=2, companions=2, nodes=9, scales=2, transposes=True,
    ),
}  # fmt: skip


def trained(config: TNRDConfig) -> TNRD:
    torch.manual_seed(0)
    model = TNRD(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def picture(model: TNRD) -> Tensor:
    return torch.rand((2, model.config.channels, 9, 12), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model() -> TNRD:
    return trained(CONFIGS["grey"])


@pytest.fixture
def saved(model: TNRD, tmp_path: Path) -> Path:
    path = tmp_path / "some.safetensors"
    save_weights(path, model, {"recipe": "none"})
    return path


@pytest.fixture
def shipped(saved: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped weights that holds one model, "tiny"."""
    folder = saved.parent
    digest = hashlib.sha256(saved.read_bytes()).hexdigest()
    entry = {"file": saved.name, "kind": "diffusion", "sha256": digest, "description": "a test"}
    (folder / "manifest.json").write_text(json.dumps({"tiny": entry}), encoding="utf-8")
    monkeypatch.setattr(tnrd.weights, "weights_folder", lambda: folder)
    return folder


def rewritten(path: Path, *, config: Any = None, metadata: dict[str, str] | None = None, **tensors: Tensor) -> Path:
    """The same file with another configuration, other metadata, or tensors added or replaced."""
    with safe_open(path, framework="pt") as opened:
        texts = {**opened.metadata(), **(metadata or {})}
    if config is not None:
        texts["config"] = config if isinstance(config, str) else json.dumps(config)
    state = {**load_file(path), **tensors}
    save_file(state, path, metadata=texts)
    return path


# --- round trip


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_what_is_saved_is_loaded_bit_for_bit(config: TNRDConfig, tmp_path: Path) -> None:
    model = trained(config)
    path = tmp_path / "model.safetensors"
    save_weights(path, model)
    loaded = load_model(path)
    assert loaded.config == config
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    x = picture(model)
    with torch.no_grad():
        assert torch.equal(loaded(x, 0.1), model(x, 0.1))


def test_a_loaded_model_is_ready_to_denoise(saved: Path) -> None:
    model = load_model(str(saved), engine="torch")
    assert not model.training
    assert model.engine == "torch"
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model(picture(model), 0.1).requires_grad


def test_saving_twice_gives_the_same_bytes_and_leaves_nothing_else(model: TNRD, saved: Path) -> None:
    """A hash tells weights apart, so a repeated training run must not differ in the order of its metadata."""
    contents = set()
    for _ in range(8):
        save_weights(saved, model, {"recipe": "none", "psnr": "29.8", "date": "today"})
        contents.add(saved.read_bytes())
    assert len(contents) == 1
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_model_in_use_can_be_saved(model: TNRD, saved: Path, tmp_path: Path) -> None:
    """Gradients, evaluation mode and channels-last weights change nothing in the file."""
    model(picture(model), 0.1).sum().backward()
    model.eval().to(memory_format=torch.channels_last)
    other = tmp_path / "other.safetensors"
    save_weights(other, model)
    before, after = load_file(saved), load_file(other)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_metadata_is_kept_beside_the_configuration(model: TNRD, saved: Path) -> None:
    save_weights(saved, model, {"psnr": "29.8", "format": "mine", "config": "{}"})
    with safe_open(saved, framework="pt") as opened:
        metadata = opened.metadata()
    assert metadata["psnr"] == "29.8"
    assert metadata["format"] == tnrd.weights.FORMAT
    assert json.loads(metadata["config"])["filters"] == 3


def test_a_target_of_another_kind_is_refused(model: TNRD, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.safetensors, got .*model\.pt\."):
        save_weights(tmp_path / "model.pt", model)
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_old_file(model: TNRD, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def refuse(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)  # the last thing that can fail
    with pytest.raises(OSError, match="No space left"):
        save_weights(saved, model)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name], "nor does it leave a temporary file"


# --- shipped weights


def test_shipped_weights_are_those_of_the_manifest() -> None:
    models = available_models()
    assert "gray" in models
    for name, description in models.items():
        assert description
        found = find_weights(name)
        assert found.name == name
        assert found.path.parent == weights_folder()
        assert hashlib.sha256(found.path.read_bytes()).hexdigest() == found.sha256


@pytest.mark.parametrize("name", available_models())
def test_shipped_weights_carry_the_recipe_that_makes_them(name: str) -> None:
    with safe_open(find_weights(name).path, "pt") as file:
        assert file.metadata()["recipe"] == (ROOT / "scripts" / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def test_the_default_weights_denoise_grey_pictures() -> None:
    model = load_model()
    assert model.config.channels == 1
    clean = torch.linspace(0.2, 0.8, 48).expand(1, 1, 48, 48)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    error = (model(noisy, 0.1) - clean).square().mean()
    assert float(error) < 0.5 * float((noisy - clean).square().mean())


def test_weights_are_found_by_name_and_by_path(shipped: Path, saved: Path, model: TNRD) -> None:
    assert available_models() == {"tiny": "a test"}
    by_name, by_path = find_weights("tiny"), find_weights(saved)
    assert by_name.name == "tiny"
    assert by_path.name == str(saved)
    assert by_name.sha256 == by_path.sha256 == hashlib.sha256(saved.read_bytes()).hexdigest()
    x = picture(model)
    for file in (by_name, by_path):
        assert torch.equal(read_weights(file)(x, 0.1), model(x, 0.1).detach())


def test_weights_of_a_baseline_are_found_but_are_no_model(shipped: Path, saved: Path) -> None:
    path = saved.with_name("rival.safetensors")
    save_tensors(path, {"a": torch.ones(3)}, {"format": "rival-1"})
    manifest = json.loads((shipped / "manifest.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest["rival"] = {"file": path.name, "kind": "baseline", "sha256": digest, "description": "another"}
    (shipped / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert available_models() == {"tiny": "a test"}
    tensors, metadata = read_tensors(find_weights("rival"), "rival-1")
    assert torch.equal(tensors["a"], torch.ones(3)) and metadata["format"] == "rival-1"
    with pytest.raises(WeightsError, match=r"does not hold weights of the format 'tnrd-1', it says 'rival-1'"):
        load_model("rival")


def test_every_alias_is_of_shipped_weights() -> None:
    for alias, name in ALIASES.items():
        assert find_weights(alias) == find_weights(name)
        assert find_weights(alias).name == name
    assert load_model().config == load_model("gray").config
    assert load_model(colour=True).config == load_model("color").config


def test_an_unknown_name_lists_the_known_ones(shipped: Path) -> None:
    with pytest.raises(
        WeightsError,
        match=r"No weights 'grey': give one of tiny, fast, default, best, or a path to a \.safetensors file\.",
    ):
        load_model("grey")


def test_a_shipped_file_that_was_changed_is_refused(shipped: Path, saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-5] ^= 1
    saved.write_bytes(content)
    with pytest.raises(WeightsError, match=r"some\.safetensors is damaged: its SHA-256 is [0-9a-f]{64}, the manifest"):
        load_model("tiny")


def test_a_shipped_file_that_is_missing_is_named(shipped: Path, saved: Path) -> None:
    saved.unlink()
    with pytest.raises(WeightsError, match=r"Cannot read the weights .*some\.safetensors: No such file"):
        load_model("tiny")


@pytest.mark.parametrize("text", ["{", "[]", '{"tiny": {}}', '{"tiny": 3}'])
def test_a_manifest_that_is_broken_is_named(shipped: Path, text: str) -> None:
    (shipped / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(WeightsError, match=r"manifest\.json|No weights 'tiny'"):
        load_model("tiny")


def test_a_package_without_weights_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tnrd.weights, "__file__", str(tmp_path / "tnrd" / "weights.py"))
    with pytest.raises(WeightsError, match=r"No shipped weights: neither .*_shipped_weights nor .*weights"):
        weights_folder()
    shipped = tmp_path / "tnrd" / "_shipped_weights"
    shipped.mkdir(parents=True)
    (shipped / "manifest.json").write_text("{}", encoding="utf-8")
    assert weights_folder() == shipped


# --- files that cannot be used


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"Cannot read the weights .*absent\.safetensors: No such file or directory"):
        load_model(tmp_path / "absent.safetensors")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    with pytest.raises(WeightsError, match=r"Cannot read the weights .*folder\.safetensors"):
        load_model(folder)


@pytest.mark.parametrize("content", [b"", b"not a tensor in sight", b"\x80\x02}q\x00.", bytes(200)])
def test_what_is_no_safetensors_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"other\.safetensors is not a readable safetensors file"):
        load_model(path)


def test_a_truncated_file_is_refused(saved: Path) -> None:
    content = saved.read_bytes()
    for length in (7, 100, len(content) // 2, len(content) - 1):
        saved.write_bytes(content[:length])
        with pytest.raises(WeightsError, match="is not a readable safetensors file"):
            load_model(saved)


def test_weights_of_another_project_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    for metadata in (None, {"format": "pt"}, {"format": "tnrd-0"}):
        save_file({"conv.weight": torch.zeros(3)}, path, metadata=metadata)
        with pytest.raises(
            WeightsError, match=r"foreign\.safetensors does not hold weights of the format 'tnrd-1', it says"
        ):
            load_model(path)


@pytest.mark.parametrize(
    "config",
    [
        {"stages": 2, "filters": 3, "kernel_size": 3, "nodes": 9, "depth": 4},
        {"stages": 2, "filters": 3, "kernel_size": 5, "nodes": 9},
        {"stages": 1, "filters": 3, "kernel_size": 3, "nodes": 9},
        {"stages": 3, "filters": 3, "kernel_size": 3, "nodes": 9},
        {"stages": 0},
        {"filters": "many"},
        {"vanishing_moments": 1},
        {"basis": ["dct"]},
        {"reach": 0},
        {"stages": 2, "filters": 3, "kernel_size": 3, "nodes": 9, "reach": 1e308},
        {"stages": 2, "filters": 3, "kernel_size": 3, "nodes": 9, "node_width": 1e-300},
        [],
        3,
        None,
        "{not json",
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_configuration_that_does_not_fit_is_refused(config: Any, saved: Path) -> None:
    path = rewritten(saved, config=json.dumps(config) if config is None else config)
    with pytest.raises(WeightsError, match=r"The weights in .*some\.safetensors do not fit their own configuration: "):
        load_model(path)


def test_the_sentence_names_an_unknown_setting(saved: Path, model: TNRD) -> None:
    path = rewritten(saved, config={**dataclasses.asdict(model.config), "depth": 4})
    with pytest.raises(WeightsError, match="Unknown model setting depth; known are accuracy, basis"):
        load_model(path)


def test_a_file_without_configuration_is_refused(saved: Path) -> None:
    save_file(load_file(saved), saved, metadata={"format": tnrd.weights.FORMAT})
    with pytest.raises(WeightsError, match="do not fit their own configuration"):
        load_model(saved)


def test_tensors_too_many_or_of_another_shape_are_refused(saved: Path) -> None:
    content = saved.read_bytes()
    for tensors in ({"extra": torch.zeros(2)}, {"stages.0.influence.weights": torch.zeros(3, 8)}):
        saved.write_bytes(content)
        with pytest.raises(WeightsError, match="do not fit their own configuration"):
            load_model(rewritten(saved, **tensors))


def test_weights_that_are_not_finite_are_refused(saved: Path) -> None:
    weights = load_file(saved)["stages.1.influence.weights"]
    weights[0, 0] = torch.nan
    with pytest.raises(WeightsError, match=r"stages\.1\.influence\.weights"):
        load_model(rewritten(saved, **{"stages.1.influence.weights": weights}))


def test_every_error_is_one_short_line(tmp_path: Path, saved: Path) -> None:
    """A batch lists its errors one a line."""
    unusable = [tmp_path / "absent.safetensors", rewritten(saved, config={"stages": 3}), "no such name"]
    for name in unusable:
        with pytest.raises(WeightsError) as caught:
            load_model(name)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600


# --- no pickle


def test_weights_are_never_unpickled() -> None:
    tree = ast.parse(Path(tnrd.weights.__file__).read_text(encoding="utf-8"))
    imported: set[str] = set()
    called: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call):
            called.add(ast.unparse(node.func))
    assert imported, "the probe sees the imports"
    assert not any(name.split(".")[0] in {"pickle", "shelve", "joblib", "dill"} for name in imported)
    assert "torch.load" not in called


@pytest.mark.parametrize("setting", [{"stages": 10**9}, {"filters": 10**12}, {"kernel_size": 10**6 + 1}])
def test_a_configuration_larger_than_its_file_is_refused_before_it_is_built(
    saved: Path, model: TNRD, setting: dict[str, int]
) -> None:
    path = rewritten(saved, config={**dataclasses.asdict(model.config), **setting})
    with pytest.raises(WeightsError, match=r"it describes \d+ parameters, the file holds"):
        load_model(path)


@pytest.mark.parametrize("setting", [{"node_width": 1e-8}])
def test_influence_functions_that_cannot_be_tabulated_are_refused(
    saved: Path, model: TNRD, setting: dict[str, float]
) -> None:
    path = rewritten(saved, config={**dataclasses.asdict(model.config), **setting})
    with pytest.raises(WeightsError, match="psi"):
        load_model(path)


@pytest.mark.parametrize("reach", [float("nan"), float("inf"), True, "12"])
def test_the_sentence_names_a_setting_that_is_no_number(saved: Path, model: TNRD, reach: Any) -> None:
    path = rewritten(saved, config={**dataclasses.asdict(model.config), "reach": reach})
    with pytest.raises(WeightsError, match="reach must be a finite number, got"):
        load_model(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int32, torch.float8_e4m3fn])
def test_weights_of_another_precision_are_refused(saved: Path, dtype: torch.dtype) -> None:
    name = "stages.1.influence.weights"
    with pytest.raises(WeightsError, match=r"float32 numbers: stages\.1\.influence\.weights"):
        load_model(rewritten(saved, **{name: load_file(saved)[name].to(dtype)}))


def test_loading_leaves_the_random_numbers_of_the_caller_alone(saved: Path) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    load_model(saved)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_model_is_float32_whatever_the_default(saved: Path) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        loaded = load_model(saved)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_the_parameter_count_is_that_of_the_model(config: TNRDConfig) -> None:
    assert config.parameter_count == sum(p.numel() for p in TNRD(config).parameters())


# --- publishing


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped weights that holds an older "some"."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    for name in ("some.safetensors", "some.md", "manifest.json"):
        (folder / name).write_text("{}", encoding="utf-8")
    monkeypatch.setattr(publish_weights, "WEIGHTS", folder)
    return folder


def test_weights_are_published_with_their_card(published: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved.with_suffix(".md").write_text("card", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["publish_weights.py", str(saved), "--description", "a test"])
    publish_weights.main()
    manifest = json.loads((published / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["some"]["sha256"] == find_weights(published / "some.safetensors").sha256
    assert (published / "some.safetensors").read_bytes() == saved.read_bytes()
    assert (published / "some.md").read_text(encoding="utf-8") == "card"
    assert len(list(published.iterdir())) == 3


def test_weights_without_a_card_are_not_published(
    published: Path, saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["publish_weights.py", str(saved), "--description", "a test"])
    with pytest.raises(SystemExit):
        publish_weights.main()
    assert "need their card beside them" in capsys.readouterr().err
    assert {path.read_text(encoding="utf-8") for path in published.iterdir()} == {"{}"}
