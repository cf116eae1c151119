"""What the files of a batch have in common, and what a result depends on."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from tnrd.image_io import DEFAULT_MAX_PIXELS
from tnrd.inference.batch.manifest import Record
from tnrd.inference.loading import device_of
from tnrd.inference.noise_model import NoiseModel
from tnrd.inference.restore import side_of_tiles
from tnrd.kernels.dispatch import resolve_engine
from tnrd.model import TNRD


@dataclass(frozen=True)
class Settings:
    """What a result depends on besides its input.

    Attributes:
        model: The loaded model.
        weights: The SHA-256 of its weights.
        noise_model: What is known of the noise.
        strength: Where the diffusion stops.
        tile: The side of the tiles; results with other tiles differ by float rounding only.
        max_pixels: Larger pictures are refused.
        colour_model: What pictures in colour are restored with, where that is another model.
        colour_weights: The SHA-256 of its weights.
    """

    model: TNRD
    weights: str
    noise_model: NoiseModel = field(default_factory=NoiseModel)
    strength: float = 1.0
    tile: int | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS
    colour_model: TNRD | None = None
    colour_weights: str | None = None

    def side_of_tiles(self, tile: int | None) -> int:
        """The side that ``tile`` means for the models.

        Raises:
            ValueError: It is smaller than a cell of one of them.
        """
        return max(side_of_tiles(model, tile) for model in (self.model, self.colour_model) if model is not None)

    @property
    def receipt(self) -> Record:
        """What results depend on beside weights: the same for all files."""
        return {"strength": self.strength, **self.noise_model.receipt}

    @property
    def all_weights(self) -> Record:
        """SHA-256 of the weights for grey pictures and for colour."""
        return {"grey": self.weights, "colour": self.colour_weights or self.weights}

    def made(self, receipt: Record) -> bool:
        """Whether a result that was noted is what this run would make of the same picture."""
        if {key: receipt.get(key) for key in self.receipt} != self.receipt:
            return False
        if receipt.get("channels") == 1:
            return bool(receipt.get("weights") == self.weights)
        # Which of the two a picture in colour takes depends on its noise, and was settled when it was made.
        return bool(receipt.get("all_weights") == self.all_weights)

    @property
    def engine(self) -> Record:
        """What computes it, which the result does not depend on but for rounding."""
        device = device_of(self.model)
        return {
            "engine": resolve_engine(self.model.engine, device),
            "device": str(device),
            "threads": torch.get_num_threads(),
            "tile": self.tile,
        }
