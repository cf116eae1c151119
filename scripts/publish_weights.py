"""Put the result of a training run among the shipped weights.

    python scripts/publish_weights.py runs/gray/gray.safetensors --description "grey pictures, sigma 0 to 75"

Copies the file and its card to weights/ and enters the SHA-256 in weights/manifest.json, last: until then the manifest
tells that the file is not the one it describes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tnrd.image_io.completion import completed
from tnrd.weights import KINDS, WeightsError, find_weights, read_weights

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"


def main() -> None:
    """Parse the arguments, check the file, publish it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="a .safetensors file with its card beside it")
    parser.add_argument("--description", required=True, help="one line for the list of models")
    parser.add_argument("--kind", choices=KINDS, default=KINDS[0], help="a model, or what a baseline needs")
    arguments = parser.parse_args()

    name = arguments.weights.stem
    card = arguments.weights.with_suffix(".md")
    try:
        checked = find_weights(arguments.weights)
        if arguments.kind == KINDS[0]:
            read_weights(checked)
        text = card.read_bytes()
    except WeightsError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"The weights need their card beside them, {card}: {error.strerror}.")
    manifest_path = WEIGHTS / "manifest.json"
    manifest = json.loads(manifest_path.read_text(encoding="utf-8")) if manifest_path.exists() else {}
    manifest[name] = {
        "description": arguments.description,
        "file": f"{name}.safetensors",
        "kind": arguments.kind,
        "sha256": checked.sha256,
    }
    listing = (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()
    contents = {WEIGHTS / f"{name}.safetensors": checked.content, WEIGHTS / f"{name}.md": text, manifest_path: listing}
    for path, content in contents.items():
        with completed(path, overwrite=True) as temporary:
            Path(temporary).write_bytes(content)
    print(f"published {name}, SHA-256 {checked.sha256}")


if __name__ == "__main__":
    main()
