"""Pictures to begin with, all from scikit-image's own files.

They lie outside the server's folder: what lies in there is deleted after a while.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

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
    """The pictures and their thumbnails as PNG files; they go when the process ends."""
    from skimage import data

    folder = Path(tempfile.mkdtemp(prefix="tnrd-examples-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    whole, small = [], []
    for example in EXAMPLES:
        image = Image.fromarray(np.asarray(getattr(data, example.name)()))
        whole.append(str(folder / f"{example.name}.png"))
        image.save(whole[-1], compress_level=1)
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        small.append(str(folder / f"{example.name}-small.png"))
        image.save(small[-1])
    return tuple(whole), tuple(small)
