"""Train a model by a recipe, from images to a weights file.

    python scripts/train.py scripts/recipes/gray.toml --data IMAGES --validation IMAGES --output runs/gray

Call it again after an interruption and it goes on where the last checkpoint stands.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tnrd.training.train import Trainer


def main() -> None:
    """Parse the arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean training pictures")
    parser.add_argument("--validation", type=Path, help="folder of clean pictures for the reported PSNR")
    parser.add_argument("--output", type=Path, required=True, help="folder of checkpoint, log and weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--stop-after", type=float, default=float("inf"), metavar="SECONDS")
    arguments = parser.parse_args()

    from tnrd.training.data import load_images
    from tnrd.training.recipe import read_recipe
    from tnrd.training.train import Trainer
    from tnrd.weights import load_model

    recipe = read_recipe(arguments.recipe)
    channels = recipe.model.channels
    training = load_images(arguments.data, channels, recipe.scales)
    validation = load_images(arguments.validation, channels) if arguments.validation else []
    trainer = Trainer(recipe, training, validation, arguments.output, arguments.device)
    if recipe.initial:
        trainer.load_initial(load_model(recipe.initial).state_dict())
    trainer.resume()
    if trainer.run(arguments.stop_after):
        write_result(trainer, arguments.recipe.read_text(encoding="utf-8"))


def write_result(trainer: Trainer, recipe_text: str) -> None:
    """Save the weights and their card in the output folder."""
    from tnrd.training.card import card
    from tnrd.weights import find_weights, save_weights

    name = trainer.recipe.name
    path = trainer.output / f"{name}.safetensors"
    save_weights(path, trainer.average, {"recipe": recipe_text})
    text = card(trainer.average, trainer.recipe, recipe_text, find_weights(path).sha256, trainer.last_scores)
    (trainer.output / f"{name}.md").write_text(text, encoding="utf-8")
    print(f"wrote {path} and its card {name}.md")


if __name__ == "__main__":
    main()
