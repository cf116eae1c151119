"""Train the small convolutional network of tnrd/baselines/srcnn.py.

    python scripts/train_srcnn.py --data IMAGES --validation IMAGES --output runs/srcnn --channels 1

Call it again after an interruption and it goes on where the last checkpoint stands, to the same weights. The result is
srcnn.safetensors, or srcnn-color.safetensors for three channels, and its card, in the output folder.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import textwrap
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from tnrd.baselines.srcnn import FORMAT, SRCNN, TOP_LEVEL, SRCNNConfig, denoise_picture
from tnrd.training.data import CropSampler, load_images
from tnrd.training.losses import weighted_mse
from tnrd.training.optimizers import build_optimizer, learning_rate
from tnrd.training.recipe import Phase
from tnrd.training.validation import score
from tnrd.weights import find_weights, save_tensors

SEED = 1
SCALES = (1.0, 0.9, 0.8, 0.7)
LEVELS = (15.0, 25.0, 50.0)
CHECKPOINT_EVERY = 250
PHASE = Phase(
    batch=8, crop=48, learning_rate=8e-3, final_learning_rate=2e-5, warmup=100, average=0.998, iterations=5000
)
DATA = (
    "BSDS500 (Arbelaez, Maire, Fowlkes & Malik, IEEE TPAMI 33(5), 2011), its train and test parts, 400 photographs; "
    "the data set is offered for research use, and none of its pictures is part of these weights or of this package."
)
Picture = NDArray[np.uint8]
Parts = dict[str, nn.Module | torch.optim.Optimizer]


def main() -> None:
    """Parse the arguments, train, score, write weights and card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean training pictures")
    parser.add_argument("--validation", type=Path, help="folder of clean pictures for the PSNR of the card")
    parser.add_argument("--output", type=Path, required=True, help="folder of checkpoint, weights and card")
    parser.add_argument("--channels", type=int, choices=(1, 3), default=1, help="1 for grey, 3 for colour")
    parser.add_argument("--iterations", type=int, default=PHASE.iterations, help="Adam updates")
    arguments = parser.parse_args()

    phase = dataclasses.replace(PHASE, iterations=arguments.iterations)
    config = SRCNNConfig(channels=arguments.channels)
    pictures = load_images(arguments.data, config.channels, SCALES)
    network = train(config, phase, pictures, arguments.output)
    held_out = load_images(arguments.validation, config.channels) if arguments.validation else []
    scores = validate(network, held_out)
    command = (
        f"python scripts/train_srcnn.py --data bsds400 --output runs/{name_of(config)} "
        f"--channels {config.channels} --iterations {phase.iterations}"
    )
    if arguments.validation:
        command += f" --validation {arguments.validation.name}"
    write_result(network, arguments.output, command, scores)


def name_of(config: SRCNNConfig) -> str:
    """Name of the weights."""
    return "srcnn" if config.channels == 1 else "srcnn-color"


def train(config: SRCNNConfig, phase: Phase, pictures: list[Picture], output: Path) -> SRCNN:
    """Train from the checkpoint in the output folder or from the start, to the end of the phase.

    Args:
        config: Shape of the network.
        phase: Batch, crop, number of updates, learning rates and average.
        pictures: 8-bit training pictures.
        output: Folder of the checkpoint, made if missing.

    Returns:
        The moving average of the networks.

    Raises:
        ValueError: The checkpoint belongs to another network or phase.
    """
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    network = SRCNN(config)
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = build_optimizer(phase, network.parameters())
    parts: Parts = {"network": network, "average": average, "optimizer": optimizer}
    run = json.dumps({"config": dataclasses.asdict(config), "phase": dataclasses.asdict(phase)})
    first = resume(output / "checkpoint.pt", run, parts)
    sampler = CropSampler(pictures, phase.crop, phase.batch, (0.0, TOP_LEVEL), SEED)
    bar = tqdm(range(first, phase.iterations), initial=first, total=phase.iterations, mininterval=10)
    for iteration in bar:
        loss = update(network, average, optimizer, phase, sampler, iteration)
        if (iteration + 1) % CHECKPOINT_EVERY == 0 or iteration + 1 == phase.iterations:
            bar.set_postfix(loss=f"{loss:.3e}")
            save_checkpoint(output / "checkpoint.pt", run, iteration + 1, parts)
    return average


def update(
    network: SRCNN,
    average: SRCNN,
    optimizer: torch.optim.Optimizer,
    phase: Phase,
    sampler: CropSampler,
    iteration: int,
) -> float:
    """One Adam update and the moving average; the loss before it."""
    clean, noisy, sigma = sampler(iteration)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(phase, iteration)
    optimizer.zero_grad(set_to_none=True)
    loss = weighted_mse(network(noisy, sigma), clean, sigma)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    decay = min(phase.average, (1 + iteration) / (10 + iteration))
    with torch.no_grad():
        for mean, value in zip(average.parameters(), network.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
    return float(loss.detach())


def save_checkpoint(path: Path, run: str, iteration: int, parts: Parts) -> None:
    """Write the whole state beside the target and rename it."""
    temporary = path.with_name(path.name + ".part")
    torch.save(
        {"run": run, "iteration": iteration, **{key: part.state_dict() for key, part in parts.items()}}, temporary
    )
    temporary.replace(path)


def resume(path: Path, run: str, parts: Parts) -> int:
    """Load the checkpoint if there is one; the number of updates already made."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    if state["run"] != run:
        raise ValueError(f"{path} belongs to another run, {state['run']}; this one is {run}.")
    for key, part in parts.items():
        part.load_state_dict(state[key])
    return int(state["iteration"])


def validate(network: SRCNN, pictures: list[Picture]) -> dict[float, float]:
    """Mean PSNR in dB per noise level on the 8-bit scale, by the protocol of tnrd.training.validation."""

    def denoise(noisy: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
        return denoise_picture(network, noisy, sigma, lambda done, total: None)

    return {
        level: float(np.mean([score(denoise, picture / 255, level, i).psnr for i, picture in enumerate(pictures)]))
        for level in (LEVELS if pictures else ())
    }


def write_result(network: SRCNN, output: Path, command: str, scores: dict[float, float]) -> None:
    """Save the weights and their card in the output folder."""
    name = name_of(network.config)
    path = output / f"{name}.safetensors"
    config = json.dumps(dataclasses.asdict(network.config))
    save_tensors(path, network.state_dict(), {"format": FORMAT, "config": config, "command": command})
    path.with_suffix(".md").write_text(card(network, find_weights(path).sha256, command, scores), encoding="utf-8")
    print(f"wrote {path} and its card {name}.md")


def card(network: SRCNN, sha256: str, command: str, scores: dict[float, float]) -> str:
    """What the weights are, what they were trained on, what they score, in Markdown."""
    config = network.config
    count = sum(parameter.numel() for parameter in network.parameters())
    colour = "grey" if config.channels == 1 else "colour"
    shape = (
        f"The baseline srcnn for {colour} pictures: three convolutions of {'-'.join(map(str, config.sizes))}, "
        f"{config.features[0]} and {config.features[1]} filters; {count:,} parameters. tnrd/baselines/srcnn.py has "
        "its formula and says what differs from the published network."
    )
    limits = (
        f"Trained for white Gaussian noise of standard deviation 0 to {255 * TOP_LEVEL:g} (8-bit scale). Noise that is "
        "correlated, that depends on the signal or that is impulsive is not what it expects. It sees "
        f"{2 * config.reach + 1} x {2 * config.reach + 1} pixels: flat ground stays mottled under strong noise."
    )
    rows = "".join(f"| {level:g} | {value:.2f} |\n" for level, value in scores.items())
    table = f"| sigma | PSNR (dB) |\n|---|---|\n{rows}" if rows else "not measured\n"
    sections = {
        "Data": fill(DATA),
        "Scores": f"Pictures of `--validation` below, protocol of docs/results.md, one set for all levels:\n\n{table}",
        "Limits": fill(limits),
        "Command": f"    {command}\n",
    }
    head = f"# {name_of(config)}\n\n{fill(shape)}\nSHA-256 `{sha256}`\n"
    return head + "".join(f"\n## {title}\n\n{text}" for title, text in sections.items())


def fill(text: str) -> str:
    """Wrapped, with a line end."""
    return textwrap.fill(text, 118) + "\n"


if __name__ == "__main__":
    main()
