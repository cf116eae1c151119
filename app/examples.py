"""Pictures to begin with, all from scikit-image's own files."""

from __future__ import annotations

import secrets
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from .session import server_folder

THUMBNAIL = 160


class Example(NamedTuple):
    """A clean picture.

    Attributes:
        label: For people.
        name: Of the function in ``skimage.data``.
    """

    label: str
    name: str


EXAMPLES = (
    Example("Photograph", "camera"),
    Example("Colour", "astronaut"),
    Example("Text", "page"),
    Example("Microscope", "cell"),
    Example("Texture", "brick"),
)


@cache
def example_files() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The pictures and their thumbnails as PNG files in the server's folder."""
    from skimage import data

    folder = Path(server_folder()) / f"examples-{secrets.token_hex(6)}"
    folder.mkdir()
    whole, small = [], []
    for example in EXAMPLES:
        image = Image.fromarray(np.asarray(getattr(data, example.name)()))
        whole.append(str(folder / f"{example.name}.png"))
        image.save(whole[-1], compress_level=1)
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        small.append(str(folder / f"{example.name}-small.png"))
        image.save(small[-1])
    return tuple(whole), tuple(small)
