"""What one visitor has at hand."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tnrd.image_io import Picture
from tnrd.inference.advice import Advice, advice
from tnrd.inference.levels import NoiseLevel, estimate_noise, given_noise
from tnrd.inference.planes import planes_of

from .pictures import PageError, orientation_of, plain_pixels, write_png

Unit = NDArray[np.float32]


@dataclass
class Result:
    """What a denoiser made of the picture.

    Attributes:
        label: Name of the method for people.
        sigma: The noise level it was told, [0, 1] scale.
        seconds: How long it took, by the clock.
        png: The exact pixels for the browser.
        psnr: Against the clean picture, dB; None where that is not known.
        ssim: Structural similarity, likewise.
        estimated_psnr: Stein's estimate of it, where there is no clean picture and the method is quick.
        download: The true result as a file, once somebody asked for it.
        error: Why there is no result, a sentence; empty when there is one.
    """

    label: str
    sigma: float = 0.0
    seconds: float = 0.0
    png: str = ""
    psnr: float | None = None
    ssim: float | None = None
    estimated_psnr: float | None = None
    download: str = ""
    error: str = ""


class Seen(NamedTuple):
    """A picture as one event sees it, while others may bring another."""

    noisy: Unit
    clean: Unit | None
    noise: NoiseLevel
    version: int


class Session:
    """One visitor's picture, noise and results; arrays of results lie on disk.

    Attributes:
        folder: Everything of the picture on disk; gone when the next one but one is there, or the visitor gone.
        batches: The folders of the latest batches, which have nothing to do with the picture.
        name: What the visitor called the picture.
        picture: As uploaded.
        clean: On the [0, 1] scale, where noise was added here; None where the picture is noisy itself.
        noisy: What is denoised, float32 on the [0, 1] scale, not clipped.
        noise: The level that the methods were told.
        better: Which kind of noise would suit an upload better, by the latest estimate of its level.
        shown: PNGs of the noisy and the clean picture.
        results: By method.
        states: Files of the states of the diffusion.
        version: Counts pictures and changes of the noise: work for an earlier one stops.
        tickets: Of each kind of long work the number of the latest; one of another number is to stop.
        lock: Held while the picture or the results change: a visitor's events run beside each other.
    """

    def __init__(self) -> None:
        self.folder, self.name = "", ""
        self.left = ""  # the folder of the picture before: a browser may still be loading from it
        self.batches: list[str] = []
        self.picture: Picture | None = None
        self.clean: Unit | None = None
        self.noisy: Unit | None = None
        self.noise: NoiseLevel | None = None
        self.shown: dict[str, str] = {}
        self.results: dict[str, Result] = {}
        self.states: list[str] = []
        self.version = 0
        self.tickets = {"run": 0, "batch": 0}
        self._estimate: NoiseLevel | None = None
        self.better: Advice | None = None
        self.lock = threading.RLock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Session:
        """A visitor begins with nothing: this is how Gradio makes the first value of each."""
        return Session()

    def place(self) -> str:
        """The visitor's own folder within the server's temporary folder."""
        if not self.folder or not Path(self.folder).is_dir():
            self.folder = tempfile.mkdtemp(prefix="visitor-", dir=server_folder())
        return self.folder

    def place_of_batch(self) -> str:
        """A folder for another batch; that of the one before stays, since a browser may still be loading from it."""
        with self.lock:
            self.batches.append(tempfile.mkdtemp(prefix="visitor-", dir=server_folder()))
            _remove(self.batches[:-2])
            del self.batches[:-2]
            return self.batches[-1]

    def open(self, picture: Picture, name: str) -> None:
        """Begin with another picture."""
        left, self.folder = self.folder, ""
        self.clear()
        self.picture, self.name, self.left = picture, name, left

    def set_noisy(self, noisy: Unit, clean: Unit | None) -> None:
        """Begin with other noise: what was made of the former is gone."""
        self.version += 1
        self.results, self.states, self.noise, self._estimate, self.better = {}, [], None, None, None
        self.noisy, self.clean = self._on_disk("noisy", noisy), None if clean is None else self._on_disk("clean", clean)
        self.shown = {"input": self.show(noisy, "input")}
        if clean is not None:
            self.shown["clean"] = self.show(clean, "clean")

    def take_ticket(self, kind: str) -> int:
        """Begin long work of a kind, or end what is under way: either way, the work before it is to stop."""
        self.tickets[kind] += 1
        return self.tickets[kind]

    def _on_disk(self, stem: str, image: Unit) -> Unit:
        """The same array, read-only, in a file: many visitors with large pictures do not fill the memory."""
        path = Path(self.place()) / f"{stem}-{self.version}.npy"
        np.save(path, image)
        mapped: Unit = np.load(path, mmap_mode="r")
        return mapped

    def show(self, image: NDArray[Any], stem: str) -> str:
        """A PNG of this picture, the right way up."""
        return write_png(image, self.place(), stem, orientation_of(self.picture) if self.picture else 1)

    def level(self, sigma: float | None) -> NoiseLevel:
        """The noise level given on the 8-bit scale, or estimated.

        Raises:
            PageError: It cannot be estimated.
        """
        with self.lock:
            noisy, known, version = self.required(), self._estimate, self.version
            # The upload itself: whole steps of its depth are no noise, and what is clipped is known by them.
            source = plain_pixels(self.picture) if self.clean is None and self.picture is not None else noisy
        try:
            if sigma is not None:
                return given_noise(sigma / 255, noisy)
            noise = known or estimate_noise(source)
            better = advice(noise, source) if known is None and self.clean is None else self.better
        except ValueError as error:
            raise PageError(str(error)) from error
        with self.lock:
            if self.version == version:
                self._estimate, self.better = noise, better
        return noise

    def at_level(self, sigma: float | None) -> Seen:
        """The picture and its noise level, which is that of no other picture.

        Raises:
            PageError: There is no picture, no level, or another picture has come meanwhile.
        """
        with self.lock:
            noisy, clean, version = self.required(), self.clean, self.version
        noise = self.level(sigma)
        if self.version != version:
            raise PageError("The picture has changed meanwhile; please run it again.")
        return Seen(noisy, clean, noise, version)

    def required(self) -> Unit:
        """The noisy picture.

        Raises:
            PageError: There is none yet.
        """
        if self.noisy is None:
            raise PageError("Choose a picture first: drop one on the left, or take an example.")
        return self.noisy

    def store(self, key: str, restored: Unit) -> None:
        """Keep the result of a method."""
        np.save(Path(self.place()) / f"{key}.npy", restored)

    def load(self, key: str) -> Unit:
        """The result of a method, as stored."""
        result: Unit = np.load(Path(self.place()) / f"{key}.npy")
        return result

    def close(self) -> None:
        """Forget everything, on disk too."""
        with self.lock:
            self.clear()
            _remove(self.batches)
            self.batches = []

    def clear(self) -> None:
        """Forget the picture and what was made of it, on disk too."""
        with self.lock:
            self.version += 1
            _remove([self.folder, self.left])
            self.folder, self.left, self.name = "", "", ""
            self.picture, self.clean, self.noisy, self.noise = None, None, None, None
            self.shown, self.results, self.states, self._estimate, self.better = {}, {}, [], None, None


def _remove(folders: Sequence[str]) -> None:
    for folder in folders:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def single_level(noise: NoiseLevel) -> float:
    """One number for methods that take one: the root mean square over the channels, [0, 1] scale."""
    return float(np.sqrt(np.mean(np.square(noise.levels, dtype=np.float64))))


def luminance(image: Unit, noise: NoiseLevel) -> tuple[Unit, float]:
    """What a grey model sees first of a picture, and its noise level: the picture, or the luminance of a colour one."""
    import torch

    plane, level = planes_of(torch.from_numpy(np.array(image)), noise, channels=1)[0]
    return plane[0].numpy(), float(level)


def server_folder() -> str:
    """Where the server keeps uploads and everything that it shows."""
    from gradio.utils import get_upload_folder

    Path(get_upload_folder()).mkdir(parents=True, exist_ok=True)
    return str(get_upload_folder())
