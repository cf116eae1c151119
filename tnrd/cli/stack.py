"""``tnrd-denoise --stack``: stacks and pictures larger than memory, block by block."""

from __future__ import annotations

import argparse
import json
import time

from tnrd import __version__
from tnrd.cli.reporting import INPUT, USAGE, WEIGHTS, CommandError, ending, progress, say, to_stdout


def run_stack(options: argparse.Namespace) -> int:
    """Denoise a stack as the options say; the exit status."""
    from tnrd.image_io import ImageError
    from tnrd.inference.stacks.errors import VolumeError
    from tnrd.inference.stacks.volume import DEFAULT_SIDE, denoise_volume
    from tnrd.weights import WeightsError

    _check(options)
    start = time.perf_counter()
    sigma = "per-plane" if options.per_plane else None if options.sigma is None else options.sigma / 255
    with (
        ending(USAGE, ImportError, ValueError),
        ending(INPUT, VolumeError, ImageError),
        ending(WEIGHTS, WeightsError),
        progress(options.quiet) as report,
    ):
        done = denoise_volume(
            options.input,
            options.output,
            sigma,
            model=options.model,
            strength=options.strength,
            channel_axis=options.channel_axis,
            side=options.tile or DEFAULT_SIDE,
            device=options.device,
            engine=options.engine,
            scheduler=options.scheduler,
            overwrite=options.overwrite,
            progress=report,
        )
    levels = [round(255 * level, 4) for level in done.sigma]
    if not options.quiet:
        if options.sigma is None:
            shown = ", ".join(f"{level:.1f}" for level in levels[:8]) + (" ..." if len(levels) > 8 else "")
            say(f"The estimated noise level is sigma = {shown} on the 8-bit scale.")
        if done.kept:
            say(f"{done.kept} blocks of an earlier run were kept.")
    if options.json:
        receipt = {
            "version": __version__,
            "input": options.input,
            "output": options.output,
            "planes": done.planes,
            "blocks": {"done": done.blocks, "kept": done.kept},
            "sigma": {"values": levels, "unit": "8-bit", "source": "estimated" if options.sigma is None else "given"},
            "strength": options.strength,
            "weights": {"name": options.model, "sha256": done.sha256},
            "seconds": round(time.perf_counter() - start, 3),
        }
        to_stdout((json.dumps(receipt, indent=2) + "\n").encode())
    return 0


def _check(options: argparse.Namespace) -> None:
    if "-" in (options.input, options.output):
        raise CommandError(USAGE, "A stack comes from a file and goes to a file, not through a pipe.")
    if options.noise != "gaussian":
        raise CommandError(USAGE, "Photon noise is known for pictures, not yet for stacks.")
    if options.per_plane and options.sigma is not None:
        raise CommandError(USAGE, "--per-plane estimates the noise level; --sigma gives it.")
