"""A small convolutional network in the manner of SRCNN, trained as a denoiser: the plainest learned rival.

Three convolutions, 9 x 9, 1 x 1 and 5 x 5, with ReLU between them, as in the paper's 9-1-5 network; everything is
measured in units of the noise, x = f/sigma:

    h_1 = relu(W_1 * x + a l + b_1),    h_2 = relu(W_2 * h_1 + b_2),    z(x) = W_3 * h_2,
    u   = f - sigma phi(z(x) - z(0)),   phi(z) = z/sqrt(1 + (z/c)^2),    l = min(sigma/(75/255), 1).

a l is what a constant plane of the noise level (FFDNet) gives as one more input channel: correlating a constant with
9 x 9 weights is one weight per filter. * correlates; the picture is extended by the 6 pixels of the network's reach,
mirrored, once at the start.

What differs from the published network, which enlarges pictures:

- The noise is predicted and subtracted, not the picture itself, and one set of weights serves every noise level.
- Each kernel of W_1 has zero mean in every channel and the response z(0) is subtracted, so that a constant picture,
  of whatever value, is left alone exactly (up to rounding).
- |phi| < c: no pixel moves by more than c sigma. So the result tends to the picture as sigma tends to 0.
- The result has the size of the picture, through the mirrored margin; the published one is smaller by the reach.

Dong, Loy, He & Tang, "Image super-resolution using deep convolutional networks", IEEE TPAMI 38(2), 2016; the plane of
the level: Zhang, Zuo & Zhang, "FFDNet", IEEE TIP 27(9), 2018.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tnrd.baselines.contract import Progress, Unit, denoiser
from tnrd.kernels.correlate_torch import pad_mirrored
from tnrd.weights import WeightsError, WeightsFile, find_weights, read_tensors

FORMAT = "srcnn-1"
TOP_LEVEL = 75 / 255  # largest noise level of the training
LIMIT = 4.0  # c: noise beyond four deviations is rare, 6e-5 of the pixels
SIGMA_FLOOR = 1e-6  # below it 1/sigma would overflow sooner or later; the prediction still scales with sigma
TILE = 256


@dataclasses.dataclass(frozen=True)
class SRCNNConfig:
    """Shape of the network.

    Attributes:
        channels: 1 for grey, 3 for colour.
        features: Filters of the first and the second layer.
        sizes: Side of the kernels of the three layers, odd.

    Raises:
        ValueError: A number does not fit.
    """

    channels: int = 1
    features: tuple[int, int] = (64, 32)
    sizes: tuple[int, int, int] = (9, 1, 5)

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3, got {self.channels}.")
        if len(self.features) != 2 or not all(1 <= count <= 1024 for count in self.features):
            raise ValueError(f"features must be two numbers in [1, 1024], got {self.features}.")
        if len(self.sizes) != 3 or not all(size % 2 and 1 <= size <= 31 for size in self.sizes):
            raise ValueError(f"sizes must be three odd numbers in [1, 31], got {self.sizes}.")

    @property
    def reach(self) -> int:
        """Pixels on each side that a result depends on."""
        return sum(size // 2 for size in self.sizes)

    @classmethod
    def from_json(cls, text: str) -> SRCNNConfig:
        """The inverse of ``json.dumps(dataclasses.asdict(config))``; ValueError or TypeError if it does not fit."""
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError(f"A configuration must be a JSON object, got {text[:100]}.")
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return cls(**fields)


class SRCNN(nn.Module):
    """The network of the module's formula.

    Args:
        config: Its shape. The third layer begins at zero, so that the untrained network returns the picture.
    """

    def __init__(self, config: SRCNNConfig) -> None:
        super().__init__()
        self.config = config
        first, second = config.features
        self.patches = nn.Conv2d(config.channels, first, config.sizes[0], bias=False)
        self.bias = nn.Parameter(torch.zeros(first))
        self.slope = nn.Parameter(torch.zeros(first))
        self.mapping = nn.Conv2d(first, second, config.sizes[1])
        self.reconstruction = nn.Conv2d(second, config.channels, config.sizes[2], bias=False)
        nn.init.zeros_(self.reconstruction.weight)

    def forward(self, f: Tensor, sigma: Tensor) -> Tensor:
        """The denoised pictures.

        Args:
            f: (N, C, H, W), any H, W >= 1, intensities in [0, 1].
            sigma: (N,), standard deviation of the noise on the same scale.

        Returns:
            The shape of ``f``. Mirrored boundary.
        """
        return f - self.noise(pad_mirrored(f, self.config.reach), sigma)

    def noise(self, extended: Tensor, sigma: Tensor) -> Tensor:
        """sigma phi(z(x) - z(0)) of pictures with a margin of ``config.reach`` pixels, which it loses."""
        deviation = sigma.view(-1, 1, 1, 1)
        flat = extended.new_zeros(len(sigma), *extended.shape[1:2], *2 * (2 * self.config.reach + 1,))
        x = extended / deviation.clamp_min(SIGMA_FLOOR)
        z = self._response(x, sigma) - self._response(flat, sigma)
        return deviation * z * torch.rsqrt(1 + (z / LIMIT) ** 2)

    def _response(self, x: Tensor, sigma: Tensor) -> Tensor:
        kernels = self.patches.weight - self.patches.weight.mean((2, 3), keepdim=True)
        level = (sigma / TOP_LEVEL).clamp_max(1.0)
        bias = self.bias + level[:, None] * self.slope
        h = functional.relu_(functional.conv2d(x, kernels).add_(bias[:, :, None, None]))
        h = functional.relu_(self.mapping(h))
        z: Tensor = self.reconstruction(h)
        return z


@denoiser
def srcnn(u: Unit, sigma: float, progress: Progress) -> Unit:
    """Denoise a picture by the trained network of the module, weights "srcnn" for grey and "srcnn-color" for colour.

    Grey and colour have a network each; the noise level enters the network, and no other parameter is left. Levels
    beyond 75/255, the largest of the training, are treated as that one with all intensities scaled. The picture is
    worked on in tiles that overlap by the network's reach, so that memory beyond copies of the picture is bounded.

    Arguments, result and errors as in :class:`tnrd.baselines.contract.Denoiser`; ``progress`` is called after each
    tile. Mirrored boundary.

    Raises:
        WeightsError: The weights are missing or damaged.
    """
    network = read_network(find_weights("srcnn" if u.ndim == 2 else "srcnn-color"))
    return denoise_picture(network, u, sigma, progress)


def denoise_picture(network: SRCNN, u: Unit, sigma: float, progress: Progress) -> Unit:
    """:func:`denoise_tiled` of a picture (M, N) or (M, N, 3), as the network has channels."""
    pixels = torch.from_numpy(np.ascontiguousarray(u).reshape(*u.shape[:2], -1))
    f = pixels.permute(2, 0, 1)[None]  # channels last in memory, which the convolutions of three channels like better
    result: Unit = denoise_tiled(network, f, sigma, progress)[0].permute(1, 2, 0).reshape(u.shape).numpy()
    return result


@torch.no_grad()
def denoise_tiled(network: SRCNN, f: Tensor, sigma: float, progress: Progress, tile: int = TILE) -> Tensor:
    """``network(f, sigma)`` in tiles of at most ``tile`` x ``tile`` pixels, equal to it up to rounding.

    Args:
        network: In evaluation.
        f: (1, C, H, W), any H, W >= 1.
        sigma: Standard deviation of the noise, scale of ``f``.
        progress: Called after each tile with the number of tiles done and their total.
        tile: Side in pixels, at least 1.

    Returns:
        The shape of ``f``.
    """
    height, width = f.shape[2:]
    margin = 2 * network.config.reach
    extended = pad_mirrored(f, network.config.reach)
    level = torch.tensor([sigma], dtype=f.dtype)
    u = f.clone()
    corners = list(itertools.product(range(0, height, tile), range(0, width, tile)))
    for done, (y, x) in enumerate(corners, start=1):
        rows, columns = min(tile, height - y), min(tile, width - x)
        part = extended[:, :, y : y + rows + margin, x : x + columns + margin]
        u[:, :, y : y + rows, x : x + columns] -= network.noise(part, level)
        progress(done, len(corners))
    return u


def read_network(file: WeightsFile) -> SRCNN:
    """The network that a checked file describes.

    Args:
        file: From :func:`tnrd.weights.find_weights`.

    Returns:
        The network, without gradients on its weights.

    Raises:
        WeightsError: The file does not hold weights of this network.
    """
    tensors, metadata = read_tensors(file, FORMAT)
    try:
        config = SRCNNConfig.from_json(metadata["config"])
        with torch.device("meta"):  # nothing is drawn or allocated: the weights come from the file
            network = SRCNN(config)
        network.load_state_dict(tensors, assign=True)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"The weights in {file.path} do not fit their own configuration: {reason}") from error
    return network.requires_grad_(False).eval()
