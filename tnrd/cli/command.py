"""The command itself: paths, picture, model, noise level, result, receipt, in this order."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tnrd import __version__
from tnrd.cli.options import check_noise, parse
from tnrd.cli.reporting import (
    INPUT,
    INTERRUPTED,
    OUTPUT,
    TERMINATED,
    UNEXPECTED,
    USAGE,
    WEIGHTS,
    CommandError,
    TerminatedError,
    check_stdout,
    ending,
    open_closed_streams,
    progress,
    say,
    terminable,
    timed,
    to_stdout,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tnrd.image_io import Picture
    from tnrd.inference.noise_model import Noise
    from tnrd.model import TNRD
    from tnrd.weights import WeightsFile


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name; those of the process when None.

    Returns:
        The exit status, see the table in :mod:`tnrd.cli`.
    """
    open_closed_streams()
    try:
        with terminable():
            return _run(parse(argv))
    except SystemExit as leaving:  # argparse, after --help, --version or a wrong option
        return leaving.code if isinstance(leaving.code, int) else 0
    except CommandError as failure:
        say(str(failure))
        return failure.status
    except KeyboardInterrupt:
        say("Interrupted.")
        return INTERRUPTED
    except TerminatedError:
        say("Terminated.")
        return TERMINATED
    except MemoryError:
        say("There is not enough memory; a smaller --tile needs less.")
        return UNEXPECTED
    except Exception:
        traceback.print_exc()
        say("This is a fault of the program; please report it together with the lines above.")
        return UNEXPECTED


def _run(options: argparse.Namespace) -> int:
    check_noise(options)
    if options.json or (not options.batch and options.output == "-"):
        check_stdout()
    if options.stack:
        from tnrd.cli.stack import run_stack

        return run_stack(options)
    if options.batch:
        from tnrd.cli.batch import run_batch

        return run_batch(options)
    return _run_one(options)


def _run_one(options: argparse.Namespace) -> int:
    from tnrd.image_io import ImageError, check_storable, lost_metadata
    from tnrd.weights import WeightsError, find_weights

    seconds: dict[str, float] = {}
    output_format = _check_paths(options)
    with ending(WEIGHTS, WeightsError):
        find_weights(options.model)
    with timed(seconds, "read"):
        picture = _read(options)
    format = output_format or options.format or picture.format
    with ending(OUTPUT, ImageError):
        check_storable(picture, format)
    source, lost = _described(picture), lost_metadata(picture, format)
    with timed(seconds, "start"):
        import tnrd.inference.noise_model  # noqa: F401 (with it torch, which is no part of the estimate)
    with timed(seconds, "estimate"):
        noise, is_given = _noise(options, picture)
    with timed(seconds, "load"):
        file, model = _load(options, picture, noise)
    if not options.quiet and not is_given:
        _say_noise(options, noise, picture)
    with timed(seconds, "denoise"):
        picture = _restored(options, picture, model, noise)
    with timed(seconds, "write"):
        sha256 = _write(options, picture, format)
    if lost and not options.quiet:
        say(f"{format} has no place for the picture's {', '.join(lost)}.")
    if options.json:
        receipt = {
            "version": __version__,
            "input": {"name": options.input, **source},
            "output": {"name": options.output, "format": format, "sha256": sha256},
            "noise": options.noise,
            "sigma": _noise_receipt(options, noise),
            "strength": options.strength,
            "weights": {"name": file.name, "sha256": file.sha256},
            **_engine(options, model),
            "seconds": seconds,
        }
        _give_receipt(options, receipt)
    return 0


def _check_paths(options: argparse.Namespace) -> str | None:
    """The format that the output's suffix asks for, None for stdout; everything that can fail here fails early."""
    from tnrd.image_io import ImageError, check_target, output_format

    if options.input == "-" and sys.stdin.isatty():
        raise CommandError(USAGE, "The picture is to come from stdin, which is a terminal.")
    if options.output == "-":
        if sys.stdout.isatty():
            raise CommandError(USAGE, "The picture is to go to stdout, which is a terminal; redirect it.")
        return None
    if options.format is not None:
        raise CommandError(USAGE, f"--format is for stdout only: the suffix of {options.output} names the format.")
    with ending(OUTPUT, ImageError):
        format = output_format(options.output)
        if not options.overwrite and _same_file(options.input, options.output):
            raise CommandError(OUTPUT, f"{options.output}: it is the input itself; only --overwrite replaces it.")
        check_target(options.output, overwrite=options.overwrite)
    return format


def _same_file(first: str, second: str) -> bool:
    try:
        return os.path.samefile(first, second)
    except OSError:  # one of them does not exist, so they are not the same
        return False


def _read(options: argparse.Namespace) -> Picture:
    from tnrd.image_io import ImageError, read_image

    limit = {} if options.max_pixels is None else {"max_pixels": options.max_pixels}
    with ending(INPUT, ImageError, OSError):
        picture = read_image(sys.stdin.buffer.read() if options.input == "-" else options.input, **limit)
    is_given = options.sigma is not None or options.gain is not None
    if is_given and picture.pixels.dtype.kind == "f" and picture.pixels.max() > 2 and not options.quiet:
        say(f"The intensities reach {picture.pixels.max():g}, but what is given of the noise counts 255 steps up to 1.")
    return picture


def _described(picture: Picture) -> dict[str, Any]:
    height, width = picture.pixels.shape[:2]
    return {
        "format": picture.format,
        "width": width,
        "height": height,
        "channels": 1 if picture.pixels.ndim == 2 else 3,
        "alpha": picture.alpha is not None,
        "depth": picture.pixels.dtype.name,
    }


def _in_8_bit(levels: NDArray[np.float32]) -> list[float]:
    return [round(255 * float(level), 4) for level in levels]


def _load(options: argparse.Namespace, picture: Picture, noise: Noise) -> tuple[WeightsFile, TNRD]:
    from tnrd.inference.choice import weights_for
    from tnrd.inference.loading import load
    from tnrd.inference.restore import check_model, side_of_tiles

    with ending(WEIGHTS, ValueError):
        file = weights_for(options.model, picture.pixels, noise)
        model = load(file, options.device, options.engine)
        check_model(model, picture.pixels)
    with ending(USAGE, ValueError):
        options.tile = side_of_tiles(model, options.tile)
    return file, model


def _noise(options: argparse.Namespace, picture: Picture) -> tuple[Noise, bool]:
    """The noise, and whether it was given rather than estimated."""
    from tnrd.cli.options import assumed

    noise_model = assumed(options)
    with ending(INPUT, ValueError):
        return noise_model.of(picture.pixels), noise_model.is_given


def _say_noise(options: argparse.Namespace, noise: Noise, picture: Picture) -> None:
    from tnrd.cli.noise_report import described_level, hint_for
    from tnrd.photon_noise import PhotonNoise

    if isinstance(noise, PhotonNoise):
        gain, read_noise, offset = (255 * value for value in noise)
        black = f", black = {offset:.3g}" if offset else ""
        none = "" if gain else " That is no photon noise: the level does not depend on the brightness."
        say(
            f"The estimated photon noise: gain = {gain:.3g}, read noise = {read_noise:.3g}{black} on the 8-bit scale."
            f"{none}"
        )
        return
    say(f"The estimated noise level is {described_level(noise, picture.pixels.dtype)}.")
    if options.noise == "gaussian":
        hint = hint_for(noise, picture.pixels)
        if hint:
            say(hint)
    if not noise.levels.any():
        say("That is no noise: the picture stays as it is.")


def _restored(options: argparse.Namespace, picture: Picture, model: TNRD, noise: Noise) -> Picture:
    from tnrd.inference.noise_model import restore_noisy
    from tnrd.inference.restore import NumericalError

    pixels, depth = picture.pixels, picture.pixels.dtype
    try:
        with ending(WEIGHTS, NumericalError), progress(options.quiet) as report:
            restored = restore_noisy(
                pixels, model, noise, strength=options.strength, tile=options.tile, dtype=depth, progress=report
            )
    except RuntimeError as error:  # torch's way to say it, on the CPU and on a GPU
        if "memory" not in str(error):
            raise
        raise MemoryError(str(error)) from error
    return dataclasses.replace(picture, pixels=restored)


def _noise_receipt(options: argparse.Namespace, noise: Noise) -> dict[str, Any]:
    from tnrd.photon_noise import PhotonNoise

    if isinstance(noise, PhotonNoise):
        source = "estimated" if options.gain is None else "given"
        in_8_bit = {name: 255 * value for name, value in noise._asdict().items()}
        return {**in_8_bit, "unit": "8-bit", "source": source}
    return {
        "values": _in_8_bit(noise.levels),
        "luminance_chrominance": None if noise.planes is None else _in_8_bit(noise.planes),
        "unit": "8-bit",
        "source": "estimated" if options.sigma is None else "given",
    }


def _write(options: argparse.Namespace, picture: Picture, format: str) -> str | None:
    """Write the picture; the SHA-256 of the output where the receipt needs it."""
    from tnrd.image_io import ImageError, encode_image, write_image

    with ending(OUTPUT, ImageError, OSError):
        if options.output == "-":
            data = encode_image(picture, format)
            to_stdout(data)
            return hashlib.sha256(data).hexdigest()
        write_image(options.output, picture, overwrite=options.overwrite)
        if not options.json:
            return None
        with open(options.output, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


def _engine(options: argparse.Namespace, model: TNRD) -> dict[str, Any]:
    import torch

    from tnrd.inference.loading import device_of
    from tnrd.kernels.dispatch import resolve_engine

    device = device_of(model)
    return {
        "engine": resolve_engine(model.engine, device),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "tile": options.tile,
    }


def _give_receipt(options: argparse.Namespace, receipt: dict[str, Any]) -> None:
    text = json.dumps(receipt, indent=2) + "\n"
    if options.output == "-":
        sys.stderr.write(text)
    else:
        to_stdout(text.encode())
