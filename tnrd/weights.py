"""From a name to a trained model: manifest -> SHA-256 -> safetensors -> TNRD."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tnrd.model import TNRD

FORMAT = "tnrd-1"
MANIFEST_KEYS = {"file", "sha256", "description"}
SUFFIX = ".safetensors"


class WeightsError(ValueError):
    """A weights file or name that cannot be used; the message says why."""


@dataclass(frozen=True)
class WeightsFile:
    """A weights file whose content is known.

    Attributes:
        name: "gray" for shipped weights, the path for others.
        path: Where it lies.
        sha256: Of its bytes.
    """

    name: str
    path: Path
    sha256: str


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
    """Names of the shipped weights and a line on each."""
    return {name: str(entry["description"]) for name, entry in _manifest().items()}


def find_weights(model: str | Path) -> WeightsFile:
    """Resolve the name of shipped weights, or the path of a .safetensors file, and check its hash.

    Args:
        model: "gray", or a path that ends in .safetensors.

    Returns:
        The file and its SHA-256.

    Raises:
        WeightsError: No such name or file, or a shipped file that is not the one its manifest describes.
    """
    if str(model).endswith(SUFFIX):
        path = Path(model)
        return WeightsFile(str(model), path, _sha256(path))
    manifest = _manifest()
    if str(model) not in manifest:
        raise WeightsError(
            f"No weights {str(model)!r}: give one of {', '.join(manifest)}, or a path to a {SUFFIX} file."
        )
    entry = manifest[str(model)]
    path = weights_folder() / str(entry["file"])
    found = _sha256(path)
    if found != entry["sha256"]:
        raise WeightsError(f"{path} is damaged: its SHA-256 is {found}, the manifest says {entry['sha256']}.")
    return WeightsFile(str(model), path, found)


def load_model(model: str | Path = "gray", *, device: str = "cpu", engine: str = "auto") -> TNRD:
    """Load trained weights, ready to denoise.

    Args:
        model: Name of shipped weights, or path of a .safetensors file.
        device: A torch device, such as "cpu" or "cuda".
        engine: Compute engine, see :mod:`tnrd.kernels.dispatch`.

    Returns:
        The model in evaluation mode, without gradients on its weights. ``model(x, sigma)`` takes (N, C, H, W) images
        in [0, 1] and the noise level on the same scale.

    Raises:
        WeightsError: The weights cannot be found or are not usable.
    """
    return read_weights(find_weights(model), device=device, engine=engine)


def read_weights(file: WeightsFile, *, device: str = "cpu", engine: str = "auto") -> TNRD:
    """Build the model that a checked file describes; arguments and errors as in :func:`load_model`."""
    from safetensors import SafetensorError, safe_open

    from tnrd.model import TNRD, TNRDConfig

    try:
        with safe_open(file.path, framework="pt", device="cpu") as opened:
            metadata = opened.metadata() or {}
            state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{file.path} is not a readable safetensors file: {error}.") from error
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{file.path} does not hold weights of this project (format {metadata.get('format')!r}).")
    try:
        network = TNRD(TNRDConfig.from_dict(json.loads(metadata["config"])))
        network.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"The weights in {file.path} do not fit their own configuration: {reason}") from error
    broken = [key for key, value in state.items() if not value.isfinite().all()]
    if broken:
        raise WeightsError(f"The weights in {file.path} are not finite: {', '.join(broken)}.")
    network.engine = engine
    return network.requires_grad_(False).eval().to(device)


def save_weights(path: str | Path, model: TNRD, metadata: dict[str, str] | None = None) -> None:
    """Write a model as safetensors, the configuration as JSON in its metadata; complete or not at all.

    Args:
        path: Target, ending in .safetensors.
        model: The model.
        metadata: More strings to keep beside the configuration.
    """
    from safetensors.torch import save

    target = Path(path)
    if target.suffix != SUFFIX:
        raise ValueError(f"A weights file must end in {SUFFIX}, got {target}.")
    config = json.dumps(dataclasses.asdict(model.config))
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    content = _ordered(save(state, metadata={**(metadata or {}), "format": FORMAT, "config": config}))
    temporary = target.with_name(target.name + ".part")
    try:
        temporary.write_bytes(content)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _ordered(content: bytes) -> bytes:
    """The same safetensors file with its header in sorted order; the library leaves that of the metadata to chance."""
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


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


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(f"Cannot read the weights {path}: {error.strerror}.") from error
