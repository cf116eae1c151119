"""``tnrd-denoise --stack``: stacks and pictures larger than memory, block by block."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tnrd import __version__
from tnrd.cli.options import assumed
from tnrd.cli.reporting import INPUT, OUTPUT, USAGE, WEIGHTS, CommandError, as_level, ending, progress, say, to_stdout

if TYPE_CHECKING:
    from tnrd.inference.noise_model import NoiseModel
    from tnrd.inference.stacks.volume import VolumeReport

# Planes whose noise is said on a line.
_FEW = 8


def run_stack(options: argparse.Namespace) -> int:
    """Denoise a stack as the options say; the exit status."""
    from tnrd.inference.stacks.errors import VolumeError, VolumeTargetError
    from tnrd.inference.stacks.volume import DEFAULT_SIDE, denoise_volume
    from tnrd.weights import WeightsError, find_weights

    _check(options)
    start = time.perf_counter()
    if options.scheduler is None:
        from tnrd.inference.loading import check_place

        with ending(WEIGHTS, ValueError):
            check_place(options.device, options.engine)
    known = assumed(options)
    with (
        ending(USAGE, ImportError, ValueError),
        ending(INPUT, VolumeError),
        ending(OUTPUT, VolumeTargetError),
        ending(WEIGHTS, WeightsError),
        progress(options.quiet) as report,
    ):
        done = denoise_volume(
            options.input,
            options.output,
            "per-plane" if options.per_plane else known.sigma,
            noise=known.kind,
            gain=known.gain,
            read_noise=known.read_noise,
            offset=known.offset,
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
    if not options.quiet:
        if not known.is_given:
            _say_noise(done)
            if done.channels > 1 and not options.per_plane:
                say(f"That is of one plane, for all {done.channels} channels alike; --per-plane measures each of them.")
        if done.kept:
            say(f"{done.kept} blocks of an earlier run were kept.")
    if options.json:
        receipt = {
            "version": __version__,
            "input": options.input,
            "output": options.output,
            "planes": done.planes,
            "blocks": {"done": done.blocks, "kept": done.kept},
            "noise": options.noise,
            "sigma": _noise_receipt(done, known),
            "strength": options.strength,
            "weights": {"name": find_weights(options.model).name, "sha256": done.sha256},
            "seconds": round(time.perf_counter() - start, 3),
        }
        to_stdout((json.dumps(receipt, indent=2) + "\n").encode())
    return 0


def _say_noise(done: VolumeReport) -> None:
    if done.photon_noise:
        gain, read_noise, offset = (_listed(values, _short) for values in zip(*done.photon_noise, strict=True))
        black = f", black = {offset}" if any(noise.offset for noise in done.photon_noise) else ""
        say(f"The estimated photon noise: gain = {gain}, read noise = {read_noise}{black} on the 8-bit scale.")
    elif done.sigma:
        say(f"The estimated noise level is sigma = {_listed(done.sigma, as_level)} on the 8-bit scale.")


def _listed(values: Sequence[float], form: Callable[[float], str]) -> str:
    """The first of them."""
    return ", ".join(form(value) for value in values[:_FEW]) + (" ..." if len(values) > _FEW else "")


def _short(value: float) -> str:
    return f"{255 * value:.3g}"


def _noise_receipt(done: VolumeReport, known: NoiseModel) -> dict[str, Any]:
    from tnrd.photon_noise import PhotonNoise

    source = {"unit": "8-bit", "source": "given" if known.is_given else "estimated"}
    if known.kind != "poisson-gaussian":
        return {"values": [round(255 * level, 4) for level in done.sigma], **source}
    in_8_bit = {name: [255 * getattr(noise, name) for noise in done.photon_noise] for name in PhotonNoise._fields}
    return {**in_8_bit, **source}


def _check(options: argparse.Namespace) -> None:
    if "-" in (options.input, options.output):
        raise CommandError(USAGE, "A stack comes from a file and goes to a file, not through a pipe.")
    if options.per_plane and options.sigma is not None:
        raise CommandError(USAGE, "--per-plane estimates the noise level; --sigma gives it.")
    if options.per_plane and options.gain is not None:
        raise CommandError(USAGE, "--per-plane estimates the noise; --gain gives it.")
