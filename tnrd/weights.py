"""From a name to a trained model: manifest -> SHA-256 -> safetensors -> TNRD."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from tnrd.model import TNRD

FORMAT = "tnrd-1"
MANIFEST_KEYS = {"file", "kind", "sha256", "description"}
KINDS = ("diffusion", "baseline")  # the project's models, and what the learned among the baselines need
SUFFIX = ".safetensors"
# What most people want to say, and what it means at present, for grey pictures and for those with colours.
ALIASES = {"fast": "gray-fast", "default": "gray", "best": "gray-best"}
COLOUR_ALIASES = {"fast": "color-fast", "default": "color", "best": "color-best"}


class WeightsError(ValueError):
    """A weights file or name that cannot be used; the message says why."""


@dataclass(frozen=True)
class WeightsFile:
    """A weights file whose content is known.

    Attributes:
        name: "gray" for shipped weights, the path for others.
        path: Where it lies.
        sha256: Of its content.
        content: The bytes that were hashed, so that what is loaded is what was checked.
    """

    name: str
    path: Path
    sha256: str
    content: bytes = field(repr=False, compare=False)


def weights_folder() -> Path:
    """The shipped weights: inside the package when installed, beside it in a source checkout.

    Raises:
        WeightsError: Neither exists.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "_shipped_weights", package.parent / "weights"):
        if (folder / "manifest.json").is_file():
            return folder
    raise WeightsError(f"No shipped weights: neither {package / '_shipped_weights'} nor {package.parent / 'weights'}.")


def available_models() -> dict[str, str]:
    """Names of the shipped models and a line on each; weights of baselines are not among them."""
    manifest = _manifest().items()
    return {name: str(entry["description"]) for name, entry in manifest if entry["kind"] == KINDS[0]}


def find_weights(model: str | Path, *, colour: bool = False) -> WeightsFile:
    """Resolve the name of shipped weights, or the path of a .safetensors file, and check its hash.

    Args:
        model: "fast", "default" or "best"; the name of shipped weights; or a path that ends in .safetensors.
        colour: The first three are to mean weights for colour pictures, where there are such.

    Returns:
        The file and its SHA-256.

    Raises:
        WeightsError: No such name or file, or a shipped file that is not the one its manifest describes.
    """
    if str(model).endswith(SUFFIX):
        return _read(str(model), Path(model))
    manifest = _manifest()
    name = ALIASES.get(str(model), str(model))
    if colour:
        name = COLOUR_ALIASES.get(str(model), name)
    if name not in manifest:
        known = ", ".join([*available_models(), *ALIASES])
        raise WeightsError(f"No weights {str(model)!r}: give one of {known}, or a path to a {SUFFIX} file.")
    entry = manifest[name]
    file = _read(name, weights_folder() / str(entry["file"]))
    if file.sha256 != entry["sha256"]:
        raise WeightsError(
            f"{file.path} is damaged: its SHA-256 is {file.sha256}, the manifest says {entry['sha256']}."
        )
    return file


def load_model(
    model: str | Path = "default", *, colour: bool = False, device: str = "cpu", engine: str = "auto"
) -> TNRD:
    """Load trained weights, ready to denoise.

    Args:
        model: As in :func:`find_weights`; "fast", "default" and "best" mean grey models.
        colour: Let these names mean the models of colour pictures (C = 3).
        device: A torch device, such as "cpu" or "cuda".
        engine: Compute engine, see :mod:`tnrd.kernels.dispatch`.

    Returns:
        The model in evaluation mode, without gradients on its weights. ``model(x, sigma)`` takes (N, C, H, W) images
        in [0, 1] and the noise level on the same scale.

    Raises:
        WeightsError: The weights cannot be found or are not usable.
    """
    return read_weights(find_weights(model, colour=colour), device=device, engine=engine)


def read_weights(file: WeightsFile, *, device: str = "cpu", engine: str = "auto") -> TNRD:
    """Build the model that a checked file describes; arguments and errors as in :func:`load_model`."""
    import torch

    from tnrd.config import TNRDConfig
    from tnrd.model import TNRD

    state, metadata = read_tensors(file, FORMAT)
    try:
        config = TNRDConfig.from_dict(json.loads(metadata["config"]))
        held = sum(value.numel() for value in state.values())
        if held != config.parameter_count:  # before anything of that size is allocated
            raise ValueError(f"it describes {config.parameter_count} parameters, the file holds {held}.")
        # Initial weights are drawn, and overwritten: not from the user's generator.
        with torch.random.fork_rng(devices=[]):
            network = TNRD(config).float()
        network.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"The weights in {file.path} do not fit their own configuration: {reason}") from error
    network.engine = engine
    return network.requires_grad_(False).eval().to(device)


def read_tensors(file: WeightsFile, format: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The float32 tensors of a checked file, and the strings kept beside them.

    Args:
        file: From :func:`find_weights`.
        format: What the file must say it holds.

    Raises:
        WeightsError: It is no safetensors file of that format, or holds anything but finite float32 numbers.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        state = load(file.content)
        metadata = _header(file.content).get("__metadata__") or {}
    except (SafetensorError, ValueError, KeyError) as error:
        raise WeightsError(f"{file.path} is not a readable safetensors file: {error}.") from error
    if metadata.get("format") != format:
        raise WeightsError(
            f"{file.path} does not hold weights of the format {format!r}, it says {metadata.get('format')!r}."
        )
    unusable = [key for key, value in state.items() if value.dtype != torch.float32 or not value.isfinite().all()]
    if unusable:
        raise WeightsError(f"The weights in {file.path} are not finite float32 numbers: {', '.join(unusable)[:300]}.")
    return state, metadata


def save_weights(path: str | Path, model: TNRD, metadata: dict[str, str] | None = None) -> None:
    """Write a model as safetensors, the configuration as JSON in its metadata; complete or not at all.

    Args:
        path: Target, ending in .safetensors.
        model: The model.
        metadata: More strings to keep beside the configuration.
    """
    config = json.dumps(dataclasses.asdict(model.config))
    save_tensors(path, model.state_dict(), {**(metadata or {}), "format": FORMAT, "config": config})


def save_tensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors as safetensors, complete or not at all; the same content gives the same bytes.

    Args:
        path: Target, ending in .safetensors.
        tensors: By name.
        metadata: Strings to keep beside them, "format" among them.
    """
    from safetensors.torch import save

    from tnrd.image_io.completion import completed

    target = Path(path)
    if target.suffix != SUFFIX:
        raise ValueError(f"A weights file must end in {SUFFIX}, got {target}.")
    state = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    content = _ordered(save(state, metadata=metadata))
    with completed(target, overwrite=True) as temporary:
        Path(temporary).write_bytes(content)


def _ordered(content: bytes) -> bytes:
    """The same safetensors file with its header in sorted order; the library leaves that of the metadata to chance."""
    header = json.dumps(_header(content), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + int.from_bytes(content[:8], "little") :]


def _header(content: bytes) -> dict[str, Any]:
    """The JSON at the head of a safetensors file."""
    header: dict[str, Any] = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return header


def _manifest() -> dict[str, dict[str, Any]]:
    path = weights_folder() / "manifest.json"
    try:
        manifest: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path} is not valid JSON: {error}.") from error
    entries = manifest.values() if isinstance(manifest, dict) else [None]
    if not all(isinstance(entry, dict) and set(entry) >= MANIFEST_KEYS for entry in entries):
        raise WeightsError(f"{path} must map each name to {', '.join(sorted(MANIFEST_KEYS))}.")
    return manifest


def _read(name: str, path: Path) -> WeightsFile:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"Cannot read the weights {path}: {error.strerror}.") from error
    return WeightsFile(name, path, hashlib.sha256(content).hexdigest(), content)
