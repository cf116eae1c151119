"""The options of ``tnrd-denoise``."""

from __future__ import annotations

import argparse
import math
from typing import NoReturn

from tnrd import __version__
from tnrd.cli.reporting import PROGRAM, USAGE, WEIGHTS, ending

EPILOG = """\
exit status:
  0    the output is complete
  1    unexpected: out of memory, or a fault of the program
  2    the options are wrong
  3    the input cannot be read, or its noise level not be estimated
  4    the output cannot be written
  5    the weights, the device or the engine cannot be used
  130  interrupted; an output is complete or absent

examples:
  tnrd-denoise noisy.png clean.png
  tnrd-denoise --sigma 25 --json noisy.tif clean.tif > receipt.json
  decoder | tnrd-denoise - - --format png | viewer
"""


def parser() -> argparse.ArgumentParser:
    """The parser; its errors end the process with status 2 and one line."""
    options = _Parser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="Denoise a picture by trained nonlinear reaction diffusion.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = options.add_argument
    add("input", help="noisy picture: PNG, JPEG, TIFF, WebP or BMP; - for stdin")
    add("output", help="clean picture, its format by the suffix; - for stdout")
    add("--version", action="version", version=f"%(prog)s {__version__}")
    add("--list-models", action=_ListModels, nargs=0, help="list the shipped weights and exit")
    add("--sigma", type=_sigma, metavar="S", help="noise level on the 8-bit scale, 0 to 100; estimated when not given")
    add(
        "--model",
        default="default",
        metavar="NAME|PATH",
        help="fast, default or best; other shipped weights by name, or a .safetensors file (default: default)",
    )
    add(
        "--strength",
        type=_strength,
        default=1.0,
        metavar="X",
        help="stop the diffusion early: the state at time X T of its T steps, linear between steps; "
        "0 leaves the picture as it is, 1 is the full result (default: 1)",
    )
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="default: auto, a GPU if there is one")
    add(
        "--engine",
        choices=("auto", "torch", "numba", "triton"),
        default="auto",
        help="default: auto, numba on the CPU and torch elsewhere",
    )
    add("--tile", type=_count, metavar="N", help="side of the tiles in pixels; smaller ones need less memory")
    add("--overwrite", action="store_true", help="replace an existing output, be it the input itself")
    add("--max-pixels", type=_count, metavar="N", help="refuse larger pictures (default: 400000000)")
    add(
        "--format",
        type=str.upper,
        choices=("PNG", "JPEG", "TIFF", "WEBP", "BMP"),
        help="of a picture on stdout (default: that of the input)",
    )
    add("--json", action="store_true", help="print a receipt on stdout, or on stderr if the picture goes to stdout")
    add("--quiet", action="store_true", help="nothing on stderr but errors")
    return options


def _sigma(text: str) -> float:
    return _number(text, 100, "sigma must lie in [0, 100] on the 8-bit scale")


def _strength(text: str) -> float:
    return _number(text, 1, "strength must lie in [0, 1]")


def _number(text: str, highest: float, rule: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= highest:
        raise argparse.ArgumentTypeError(f"{rule}, got {text}")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"it must be a whole number of at least 1, got {text}")
    return int(text)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message}; see --help.\n")


class _ListModels(argparse.Action):
    """Like --version: print, and end."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from tnrd.weights import ALIASES, WeightsError, available_models

        with ending(WEIGHTS, WeightsError):
            models = available_models()
        for alias, name in ALIASES.items():
            print(f"{alias}  the same as {name}")
        for name, description in models.items():
            print(f"{name}  {description}")
        parser.exit()
