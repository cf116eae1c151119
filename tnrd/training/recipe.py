"""Recipes: everything that fixes a training run, read from TOML."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from tnrd.config import TNRDConfig
from tnrd.settings import build, check_types


@dataclass(frozen=True)
class Phase:
    """One stretch of training.

    Attributes:
        optimizer: "adam" or "lbfgs".
        stages: "joint" trains all steps together; "greedy" trains step 1, then step 2 on its output, and so on, with
            ``iterations`` each.
        iterations: Adam updates, or L-BFGS iterations.
        seconds: Length by the clock, interruptions not counted, in place of iterations, whose number then depends on
            the machine; a greedy phase has as many for each step. 0 for none.
        batch: Crops per batch; L-BFGS sees one fixed set of this many crops.
        crop: Side of a crop in pixels.
        learning_rate: Adam's peak, reached after ``warmup`` updates.
        final_learning_rate: Where its cosine ends.
        warmup: Updates of linear increase.
        average: Decay of the moving average of the weights that is validated and saved; 0 keeps the last weights.
        deep_supervision: Weight of the mean loss of the inner states u_1 ... u_{T-1}, which makes them pictures too.
        loss_power: Exponent of a crop's error in the loss, in (0, 1] (:func:`tnrd.training.losses.weighted_mse`).
        sigma_exponent: Levels are low + (high - low) u^p with u uniform on [0, 1]; p > 1 shows more of the low ones.
    """

    optimizer: str = "adam"
    stages: str = "joint"
    iterations: int = 1000
    seconds: float = 0.0
    batch: int = 16
    crop: int = 64
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5
    warmup: int = 100
    average: float = 0.999
    deep_supervision: float = 0.0
    loss_power: float = 1.0
    sigma_exponent: float = 1.0

    def __post_init__(self) -> None:
        check_types(self)
        if self.optimizer not in ("adam", "lbfgs"):
            raise ValueError(f"optimizer must be 'adam' or 'lbfgs', got {self.optimizer!r}.")
        if self.stages not in ("joint", "greedy"):
            raise ValueError(f"stages must be 'joint' or 'greedy', got {self.stages!r}.")
        if min(self.iterations, self.batch, self.crop) < 1:
            raise ValueError(f"iterations, batch and crop must be at least 1, got {self}.")
        if self.seconds < 0:
            raise ValueError(f"seconds must be at least 0, got {self.seconds}.")
        if min(self.learning_rate, self.final_learning_rate) <= 0 or self.warmup < 0:
            raise ValueError(f"Learning rates must be positive and warmup at least 0, got {self}.")
        if not 0 <= self.average < 1 or self.deep_supervision < 0:
            raise ValueError(f"average must lie in [0, 1) and deep_supervision be at least 0, got {self}.")
        if not 0 < self.loss_power <= 1:
            raise ValueError(f"loss_power must lie in (0, 1], got {self.loss_power}.")
        if self.sigma_exponent <= 0:
            raise ValueError(f"sigma_exponent must be positive, got {self.sigma_exponent}.")


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Attributes:
        name: Name of the weights, and of their file without its suffix.
        model: Shape of the model.
        phases: Stretches of training, in order.
        sigma: Interval of noise levels, 8-bit scale.
        seed: Of initial weights, crops and noise.
        scales: Sizes at which training pictures are used.
        recoloured: Share of the colour crops that change their colours (:class:`tnrd.training.data.CropSampler`).
        validation_sigma: Noise levels of the validation, 8-bit scale.
        validate_every: Iterations between validations.
        checkpoint_every: Iterations between checkpoints.
        initial: Weights file to start from instead of the initialisation, empty for none.
        data: What it is trained on and under which terms, a sentence for the card.
    """

    name: str
    model: TNRDConfig
    phases: tuple[Phase, ...]
    sigma: tuple[float, float] = (0.0, 75.0)
    seed: int = 0
    scales: tuple[float, ...] = (1.0,)
    recoloured: float = 0.0
    validation_sigma: tuple[float, ...] = (15.0, 25.0, 50.0)
    validate_every: int = 1000
    checkpoint_every: int = 500
    initial: str = ""
    data: str = ""

    def __post_init__(self) -> None:
        check_types(self)
        if not self.name or self.name == ".." or Path(self.name).name != self.name:
            raise ValueError(f"name must be that of a file, without a folder, got {self.name!r}.")
        if not 0 <= self.sigma[0] <= self.sigma[1] <= 100:
            raise ValueError(f"sigma must be an interval within [0, 100] on the 8-bit scale, got {self.sigma}.")
        if not self.scales or not all(0 < scale <= 1 for scale in self.scales):
            raise ValueError(f"scales must lie in (0, 1], got {self.scales}.")
        if min(self.validation_sigma, default=0.0) < 0:
            raise ValueError(f"validation_sigma must be at least 0, got {self.validation_sigma}.")
        if not 0 <= self.recoloured <= 1:
            raise ValueError(f"recoloured must lie in [0, 1], got {self.recoloured}.")
        if self.recoloured and self.model.channels == 1:
            raise ValueError(f"recoloured must be 0 for a grey model, got {self.recoloured}.")
        if min(self.validate_every, self.checkpoint_every) < 1 or self.seed < 0:
            raise ValueError(
                f"validate_every and checkpoint_every must be at least 1 and seed at least 0, got "
                f"{self.validate_every}, {self.checkpoint_every} and {self.seed}."
            )


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe; an unknown key is an error that names it.

    Args:
        path: TOML file with the fields of :class:`Recipe`, a table [model] and tables [[phases]].

    Returns:
        The recipe.

    Raises:
        ValueError: It is no TOML, a key is unknown or a value does not fit.
        OSError: The file cannot be read.
    """
    with open(path, "rb") as file:
        values = tomllib.load(file)
    model = TNRDConfig.from_dict(values.pop("model", {}))
    phases = values.pop("phases", [])
    if not isinstance(phases, list) or not phases:
        raise ValueError(f"{path} has no [[phases]].")
    built = tuple(build(Phase, phase, "phase") for phase in phases)
    return build(Recipe, {"name": Path(path).stem, **values, "model": model, "phases": built}, "recipe")
