"""The options of ``tnrd-denoise``."""

from __future__ import annotations

import argparse
import glob
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from tnrd import __version__
from tnrd.cli.reporting import PROGRAM, USAGE, WEIGHTS, CommandError, ending

if TYPE_CHECKING:
    from tnrd.inference.noise_model import NoiseModel

EPILOG = """\
exit status:
  0    the output is complete
  1    unexpected: out of memory, or a fault of the program
  2    the options are wrong
  3    the input cannot be read, or its noise level cannot be estimated
  4    the output cannot be written
  5    the weights, the device or the engine cannot be used
  6    of several files some failed, or are missing; the others are complete
  130  interrupted; an output is complete or absent
  143  terminated; an output is complete or absent

examples:
  tnrd-denoise noisy.png clean.png
  tnrd-denoise --sigma 25 --json noisy.tif clean.tif > receipt.json
  decoder | tnrd-denoise - - --format png | viewer
  tnrd-denoise --recursive scans/ clean/
  tnrd-denoise --recursive scans/ clean/ --skip-existing     (resumes an interrupted run)
  tnrd-denoise 'scans/*.tif' clean/ --suffix _clean --format png
  find scans -name '*.png' -print0 | tnrd-denoise --files-from - --null --root scans clean/
  tnrd-denoise --recursive scans/ clean/ --shard 2/8         (in each of 8 jobs, with its number)
  tnrd-denoise --recursive scans/ clean/ --merge-manifests   (afterwards: reports missing files)
  tnrd-denoise --stack cells.ome.tif clean.ome.tif --per-plane
  tnrd-denoise slide.zarr clean.zarr --scheduler tcp://host:8786
"""
USAGE_LINES = """\
%(prog)s [options] input output
       %(prog)s [options] input [input ...] output_folder
       %(prog)s [options] --files-from list output_folder"""
# Options of stacks alone, and options that they have no use for besides those of many files.
STACKS, NO_STACKS = ("per_plane", "channel_axis", "scheduler"), ("format", "max_pixels")
# Options that only make sense for many files; any of them makes the last path an output folder.
MANY = ("files_from", "null", "root", "recursive", "suffix", "skip_existing", "manifest", "shard", "merge_manifests")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; ``paths`` are those given, ``batch`` tells whether they are those of many files.

    Paths and options may be mixed; what follows a ``--`` is a path.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    options_of = parser()
    options = options_of.parse_intermixed_args(arguments[:cut])
    options.paths += arguments[cut + 1 :]
    missing = ("input", "output")[len(options.paths) :]
    if options.files_from is not None:
        missing = () if options.paths else ("output",)
    if missing:
        options_of.error(f"the following arguments are required: {', '.join(missing)}")
    options.stack = options.stack or any(path.rstrip("/").endswith(".zarr") for path in options.paths)
    if options.stack and len(options.paths) != 2:
        options_of.error("a stack has one input and one output")
    for name in (*MANY, *NO_STACKS) if options.stack else STACKS:
        if _is_given(getattr(options, name)):
            kinds = "not for stacks" if options.stack else "for stacks: add --stack"
            options_of.error(f"--{name.replace('_', '-')} is {kinds}")
    options.batch = not options.stack and _is_batch(options)
    if not options.batch:
        options.input, options.output = options.paths
    return options


def parser() -> argparse.ArgumentParser:
    """The parser; its errors end the process with status 2 and one line."""
    options = _Parser(
        prog=PROGRAM,
        allow_abbrev=False,
        usage=USAGE_LINES,
        description="Denoise pictures by trained nonlinear reaction diffusion.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = options.add_argument
    add(
        "paths",
        nargs="*",
        metavar="path",
        help="a noisy picture (PNG, JPEG, TIFF, WebP or BMP; - for stdin) and the clean picture, its format by the "
        "suffix (- for stdout); or folders, pictures and quoted patterns, and the folder for the results",
    )
    add("--version", action="version", version=f"%(prog)s {__version__}")
    add("--list-models", action=_ListModels, nargs=0, help="list the shipped weights and exit")
    add("--sigma", type=_sigma, metavar="S", help="noise level on the 8-bit scale, 0 to 100; estimated when not given")
    add(
        "--noise",
        choices=("gaussian", "poisson-gaussian", "correlated"),
        default="gaussian",
        help="noise model: gaussian, white noise of one level (the default); poisson-gaussian, photon and read noise; "
        "correlated, as in a camera's JPEG or a scan: smooths more, by the level at lower resolution",
    )
    add(
        "--gain",
        type=_positive,
        metavar="G",
        help="of photon noise: signal of one photon, in 8-bit steps; estimated when not given",
    )
    add(
        "--read-noise",
        type=_at_least_0,
        metavar="R",
        help="of photon noise: standard deviation at black, in 8-bit steps",
    )
    add("--offset", type=_at_least_0, metavar="O", help="of photon noise: black level of the sensor, in 8-bit steps")
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
        help="default: auto, numba on the CPU, triton on an NVIDIA GPU and torch elsewhere",
    )
    add("--tile", type=_count, metavar="N", help="side of the tiles in pixels; smaller ones need less memory")
    add("--overwrite", action="store_true", help="replace an existing output, even if it is the input file")
    add("--max-pixels", type=_count, metavar="N", help="refuse larger pictures (default: 400000000)")
    add(
        "--format",
        type=str.upper,
        choices=("PNG", "JPEG", "TIFF", "WEBP", "BMP"),
        help="of a picture on stdout, or of all results in a folder (default: that of the input)",
    )
    add("--json", action="store_true", help="print a receipt on stdout, or on stderr if the picture goes to stdout")
    add("--quiet", action="store_true", help="nothing on stderr but errors")
    _add_batch(options.add_argument_group("many files").add_argument)
    _add_stack(options.add_argument_group("stacks, and pictures larger than memory (extra bigimage)").add_argument)
    return options


def _add_stack(add: Callable[..., argparse.Action]) -> None:
    add(
        "--stack",
        action="store_true",
        help="work block by block: multi-page, tiled, Big- or OME-TIFF; always for .zarr",
    )
    add("--per-plane", action="store_true", help="estimate the noise of each plane by itself, not once for all")
    add("--channel-axis", type=int, metavar="N", help="the axis of the colours in a Zarr array")
    add("--scheduler", metavar="ADDRESS", help="of a Dask cluster, such as tcp://host:8786; its workers do the work")


def _add_batch(add: Callable[..., argparse.Action]) -> None:
    add("--recursive", action="store_true", help="search subfolders, and mirror the folder tree")
    add("--suffix", default="", metavar="TEXT", help="added to the stem of each name: _clean makes a_clean.png")
    add("--files-from", metavar="LIST", help="a file with a path a line; - for stdin")
    # Without the -0 that others have for it: an option that looks like a number would make one of "--sigma -3".
    add("--null", action="store_true", help="the paths of --files-from end in NUL, as find -print0 writes them")
    add(
        "--root",
        metavar="DIR",
        help="mirror single and listed files by their path below this folder, not the name alone",
    )
    add(
        "--skip-existing",
        action="store_true",
        help="leave outputs alone that are finished: the manifest shows the same input, settings and result; others "
        "are reported, or replaced with --overwrite",
    )
    add("--manifest", metavar="PATH", help="JSON, a line a file (default: tnrd-manifest.jsonl in the output folder)")
    add(
        "--shard",
        metavar="I/N",
        help="work off part I of N, counted from 1; auto takes them from SLURM_ARRAY_TASK_ID and _COUNT or from RANK "
        "and WORLD_SIZE",
    )
    add(
        "--merge-manifests",
        action="store_true",
        help="denoise nothing: merge the manifests of all shards into one and say what is missing",
    )


def _is_given(value: object) -> bool:
    """Whether the value of an option is not what it has of itself; axis 0 is."""
    return value is not None and value is not False and value != ""


def _is_batch(options: argparse.Namespace) -> bool:
    """Whether the paths are those of many files rather than a picture and its result."""
    if len(options.paths) != 2 or any(getattr(options, name) for name in MANY):
        return True
    source, target = options.paths
    if "-" in (source, target):
        return False
    from tnrd.image_io import ImageError, output_format

    try:
        output_format(target)
    except ImageError:
        is_folder = os.path.isdir(source) or os.path.isdir(target) or not os.path.basename(target)
        return is_folder or (glob.has_magic(source) and not os.path.lexists(source))
    return False  # the name of a picture, be there a folder of that name


def _sigma(text: str) -> float:
    return _number(text, 100, "sigma must lie in [0, 100] on the 8-bit scale")


def assumed(options: argparse.Namespace) -> NoiseModel:
    """What the options say of the noise.

    Raises:
        CommandError: They do not fit together.
    """
    from tnrd.inference.noise_model import NoiseModel

    given = (options.sigma, options.gain, options.read_noise, options.offset)
    in_unit = [None if value is None else value / 255 for value in given]
    with ending(USAGE, ValueError):
        return NoiseModel(options.noise, *in_unit)


def check_noise(options: argparse.Namespace) -> None:
    """End with a sentence if options of one kind of noise come with the other kind.

    Raises:
        CommandError: They do.
    """
    photons = options.noise == "poisson-gaussian"
    if photons and options.sigma is not None:
        raise CommandError(USAGE, "--sigma is for Gaussian noise; photon noise has --gain and --read-noise.")
    if options.noise == "correlated" and options.sigma is not None:
        raise CommandError(USAGE, "--noise correlated measures the level; --sigma gives it.")
    others = {"--read-noise": options.read_noise, "--offset": options.offset}
    if not photons and any(value is not None for value in (options.gain, *others.values())):
        raise CommandError(USAGE, "--gain, --read-noise and --offset need --noise poisson-gaussian.")
    for name, value in others.items():
        if value is not None and options.gain is None:
            raise CommandError(USAGE, f"{name} says nothing without --gain; give both, or none.")


def _positive(text: str) -> float:
    value = _number(text, 255, "gain must lie in (0, 255], 8-bit steps a photon")
    if value == 0:
        raise argparse.ArgumentTypeError(f"gain must lie in (0, 255], 8-bit steps a photon, got {text}")
    return value


def _at_least_0(text: str) -> float:
    return _number(text, 255, "it must lie in [0, 255] on the 8-bit scale")


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
        from tnrd.weights import ALIASES, COLOUR_ALIASES, WeightsError, available_models

        with ending(WEIGHTS, WeightsError):
            models = available_models()
        for alias, name in ALIASES.items():
            print(f"{alias}  the same as {name}; for colour pictures usually {COLOUR_ALIASES[alias]}")
        for name, description in models.items():
            print(f"{name}  {description}")
        parser.exit()
