"""Train a model by a recipe, from images to a weights file.

    python scripts/train.py scripts/recipes/gray.toml --data IMAGES --validation IMAGES --output runs/gray

Call it again after an interruption and it goes on where the last checkpoint stands. Several GPUs, or machines, share
every batch where it is started by `torchrun --nproc-per-node N scripts/train.py ...`. Several recipes share one GPU,
which a small model alone does not fill; the results lie in a folder of each recipe's name.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tnrd.training.recipe import Recipe
    from tnrd.training.train import Trainer


def main() -> None:
    """Parse the arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True, help="folder of clean training pictures")
    parser.add_argument("--validation", type=Path, help="folder of clean pictures for the reported PSNR")
    parser.add_argument("--output", type=Path, required=True, help="folder of checkpoint, log and weights")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda; of several GPUs each process takes its own")
    parser.add_argument("--tf32", action="store_true", help="multiply in TF32 on a GPU: faster, rounds to 11 bits")
    parser.add_argument("--tensorboard", action="store_true", help="log for TensorBoard, in the output folder")
    parser.add_argument("--stop-after", type=float, default=float("inf"), metavar="SECONDS")
    arguments = parser.parse_args()

    import torch

    from tnrd.training.data import load_images
    from tnrd.training.processes import join_processes, leave_processes
    from tnrd.training.recipe import read_recipe
    from tnrd.training.train import Trainer
    from tnrd.weights import WeightsError, load_model

    recipes: dict[Path, Recipe] = {}
    for path in arguments.recipe:
        try:
            recipes[path] = read_recipe(path)
        except (ValueError, OSError) as error:
            parser.error(f"the recipe {path} cannot be used: {error}")
    if arguments.tensorboard and find_spec("tensorboard") is None:
        parser.error('--tensorboard needs the package tensorboard: pip install "tnrd[tensorboard]"')
    alone = len(arguments.recipe) == 1
    if not alone and (arguments.device != "cuda" or "WORLD_SIZE" in os.environ):
        parser.error("several recipes at once are trained on one GPU (--device cuda), by one process")
    if len({recipe.name for recipe in recipes.values()}) < len(arguments.recipe):
        parser.error("recipes trained at once need names of their own: their results lie in folders of these names")
    if arguments.tf32 and arguments.device != "cuda":
        parser.error("--tf32 is for a GPU (--device cuda)")
    if arguments.tf32:
        torch.set_float32_matmul_precision("high")
    index = int(os.environ.get("LOCAL_RANK", "0")) if arguments.device == "cuda" else None
    try:
        device = torch.device(arguments.device, index)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter where torch is built without that device
        parser.error(f"--device {arguments.device} cannot be used: {str(error).splitlines()[0]}")
    processes = join_processes(device)
    load = cache(load_images)

    def prepare(path: Path, recipe: Recipe) -> Trainer:
        channels = recipe.model.channels
        training = load(arguments.data, channels, recipe.scales)
        validation = load(arguments.validation, channels) if arguments.validation else []
        output = arguments.output if alone else arguments.output / recipe.name
        board = None
        if arguments.tensorboard and processes.is_first:
            from torch.utils.tensorboard import SummaryWriter

            board = SummaryWriter(output)
        trainer = Trainer(recipe, training, validation, output, device, alone, processes, board)
        if not trainer.resume() and recipe.initial:
            try:
                trainer.load_initial(load_model(recipe.initial))
            except WeightsError as error:
                parser.error(f"{path} goes on from other weights, of a recipe to be run before it: {error}")
        return trainer

    def train(trainer: Trainer, path: Path) -> None:
        try:
            ended = trainer.run(arguments.stop_after)
        except FloatingPointError as error:
            raise SystemExit(str(error)) from error
        if ended and processes.is_first:
            write_result(trainer, path.read_text(encoding="utf-8"))

    try:
        trainers = [prepare(path, recipe) for path, recipe in recipes.items()]
    except (ValueError, OSError) as error:  # of the folders, the pictures, a checkpoint
        parser.error(str(error))
    if alone:
        train(trainers[0], arguments.recipe[0])
    else:
        with ThreadPoolExecutor(len(trainers)) as pool:
            runs = [pool.submit(train, trainer, path) for trainer, path in zip(trainers, arguments.recipe, strict=True)]
            try:
                wait(runs, return_when=FIRST_EXCEPTION)
            finally:  # an interrupt or a failure ends them all, each with a checkpoint
                for trainer in trainers:
                    trainer.stop()
        for run in runs:
            run.result()
    leave_processes()


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
