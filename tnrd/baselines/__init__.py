"""Classic denoisers to measure the trained diffusion against, one file each, one signature: (image, sigma) -> image.

This package lists them; what one of them needs is imported when it is called.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from tnrd.baselines.contract import Progress, Unit

SPEEDS = {  # for grey pictures, on two cores
    "fast": "under a second a megapixel",
    "medium": "seconds a megapixel",
    "slow": "ten seconds or more a megapixel",
}


class Baseline(NamedTuple):
    """A classic denoiser.

    Attributes:
        home: Module in this package and name in it.
        description: A plain line about it.
        licence: Of what computes it.
        speed: One of :data:`SPEEDS`.
        weights: Names of the shipped weights that it reads.
    """

    home: tuple[str, str]
    description: str
    licence: str
    speed: str
    weights: tuple[str, ...] = ()

    def denoise(
        self, image: ArrayLike, sigma: float, *, channel_axis: int | None = None, progress: Progress | None = None
    ) -> Unit:
        """The denoised image; arguments, result and errors as in :class:`tnrd.baselines.contract.Denoiser`."""
        module, name = self.home
        method = getattr(import_module(f"{__name__}.{module}"), name)
        result: Unit = method(image, sigma, channel_axis=channel_axis, progress=progress)
        return result


BASELINES: dict[str, Baseline] = {
    "perona_malik": Baseline(
        ("perona_malik", "perona_malik"),
        "Perona-Malik diffusion (1990; regularised 1992): smooths within regions and slows down at edges.",
        "Apache-2.0, this project",
        "medium",
    ),
    "perona_malik_1990": Baseline(
        ("perona_malik", "perona_malik_1990"),
        "Perona-Malik as published, without the small blur that tells edges from noise.",
        "Apache-2.0, this project",
        "fast",
    ),
    "srcnn": Baseline(
        ("srcnn", "srcnn"),
        "SRCNN (2016): a small convolutional network of three layers, trained here for noise.",
        "Apache-2.0, this project",
        "fast",
        ("srcnn", "srcnn-color"),
    ),
    "epll": Baseline(
        ("epll", "epll"),
        "EPLL (2011): makes every patch likely under a mixture of 200 Gaussians, learned from photographs.",
        "Apache-2.0, this project",
        "slow",
        ("epll",),
    ),
    "wnnm": Baseline(
        ("wnnm", "wnnm"),
        "WNNM (2014): finds patches that look alike and keeps what they share; best on repeating patterns, and slow.",
        "Apache-2.0, this project",
        "slow",
    ),
    "bm3d": Baseline(
        ("bm3d", "bm3d"),
        "BM3D (2007): filters groups of similar blocks together; its package is for non-commercial use only.",
        "non-commercial use only, the bm3d package, an extra",
        "slow",
    ),
    "heat": Baseline(
        ("heat", "heat"),
        "Heat equation: an even blur, of edges as well as noise; the oldest and plainest way.",
        "BSD-3-Clause, SciPy",
        "fast",
    ),
    "tv": Baseline(
        ("total_variation", "total_variation"),
        "Total variation (1992): flat areas come out clean, edges sharp; fine texture goes, soft shading turns patchy.",
        "BSD-3-Clause, scikit-image",
        "fast",
    ),
    "nlm": Baseline(
        ("non_local_means", "non_local_means"),
        "Non-local means (2005): averages places that look alike; good on repeating patterns.",
        "BSD-3-Clause, scikit-image",
        "medium",
    ),
    "nlm_opencv": Baseline(
        ("non_local_means_opencv", "non_local_means_opencv"),
        "Non-local means as photo scripts call it, from OpenCV: quicker, on pictures rounded to 8 bits.",
        "Apache-2.0, OpenCV",
        "fast",
    ),
    "wavelet": Baseline(
        ("wavelet", "wavelet"),
        "Wavelet shrinkage (2000): drops weak detail scale by scale; may leave faint ripples along edges.",
        "BSD-3-Clause, scikit-image, and MIT, PyWavelets",
        "fast",
    ),
    "bilateral": Baseline(
        ("bilateral", "bilateral"),
        "Bilateral filter (1998): a blur that does not cross edges, the surface blur of photo editors.",
        "Apache-2.0, OpenCV",
        "fast",
    ),
    "median": Baseline(
        ("median", "median"),
        "Median filter: takes the middle value around each pixel; for specks and dust rather than grain.",
        "Apache-2.0, OpenCV; BSD-3-Clause, SciPy",
        "fast",
    ),
    "guided": Baseline(
        ("guided", "guided"),
        "Guided filter (2010): smooths where the picture is flat and follows it at edges, without halos.",
        "Apache-2.0, kornia",
        "fast",
    ),
    "wiener": Baseline(
        ("wiener", "wiener"),
        "Local Wiener filter (1980): blurs flat areas and holds back where there is detail; leaves grain at edges.",
        "BSD-3-Clause, SciPy",
        "fast",
    ),
}
