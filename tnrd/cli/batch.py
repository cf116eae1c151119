"""``tnrd-denoise IN_DIR OUT_DIR``: many files, from the options to the exit status."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO

from tnrd import __version__
from tnrd.cli.batch_reporting import Interruption, Progress, report_lacking, report_result
from tnrd.cli.options import assumed
from tnrd.cli.reporting import INPUT, OUTPUT, SOME_FAILED, USAGE, WEIGHTS, CommandError, ending, say, to_stdout

if TYPE_CHECKING:
    from tnrd.inference.batch.plan import Plan
    from tnrd.inference.batch.run import BatchResult
    from tnrd.inference.batch.settings import Settings
    from tnrd.inference.batch.shards import Shard

_BLOCK = 1 << 16


def run_batch(options: argparse.Namespace) -> int:
    """Work off many files, or merge the manifests of those who did; the exit status."""
    # Threads that wait for work sleep rather than spin, and numpy's products take the one thread that asks for them:
    # what goes on beside them gets the core. A matter of the whole process, so for the command to say, before the
    # libraries that read it are loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    *inputs, output = options.paths
    _check_paths(inputs, output, options)
    from tnrd.inference.batch.errors import BatchError, BatchInputError, BatchOutputError

    with ExitStack() as endings:
        for status, error in ((USAGE, BatchError), (OUTPUT, BatchOutputError), (INPUT, BatchInputError)):
            endings.enter_context(ending(status, error))
        plan = _plan(options, inputs, output)
        if options.merge_manifests:
            return _merge(options, plan)
        return _denoise(options, plan)


def _check_paths(inputs: list[str], output: str, options: argparse.Namespace) -> None:
    from tnrd.inference.batch.sources import is_picture_name

    if is_picture_name(output) and not os.path.isdir(output):
        raise CommandError(USAGE, f"Of many files the last path is the folder for the results, got {output}.")
    if "-" in (*inputs, output):
        raise CommandError(USAGE, "Only a single picture comes from stdin or goes to stdout; a list: --files-from -.")
    if options.null and options.files_from is None:
        raise CommandError(USAGE, "--null is for the list of --files-from.")
    if options.files_from == "-" and sys.stdin.isatty():
        raise CommandError(USAGE, "The list is to come from stdin, which is a terminal.")
    if options.merge_manifests and options.shard is not None:
        raise CommandError(USAGE, "--merge-manifests looks at the files of all shards; leave --shard out.")


def _plan(options: argparse.Namespace, inputs: list[str], output: str) -> Plan:
    from tnrd.inference.batch.plan import make_plan

    with ExitStack() as files:
        listed: Iterator[str] = iter(())
        if options.files_from == "-":
            listed = _paths(sys.stdin.buffer, options.null)
        elif options.files_from is not None:
            try:
                listed = _paths(files.enter_context(open(options.files_from, "rb")), options.null)
            except OSError as error:
                raise CommandError(
                    INPUT, f"{options.files_from}: the list cannot be read ({error.strerror})."
                ) from error
        return make_plan(
            inputs,
            output,
            files=listed,
            root=options.root,
            recursive=options.recursive,
            suffix=options.suffix,
            format=options.format,
            shard=_shard(options),
            overwrite=options.overwrite,
        )


def _paths(stream: BinaryIO, is_null_separated: bool) -> Iterator[str]:
    """The paths of a list, without empty ones; a line may end as on Windows."""
    end = b"\0" if is_null_separated else b"\n"
    rest = b""
    while block := stream.read(_BLOCK):
        *paths, rest = (rest + block).split(end)
        yield from (os.fsdecode(path) for path in _cleaned(paths, is_null_separated))
    yield from (os.fsdecode(path) for path in _cleaned([rest], is_null_separated))


def _cleaned(paths: list[bytes], is_null_separated: bool) -> Iterator[bytes]:
    return (path for path in (p if is_null_separated else p.removesuffix(b"\r") for p in paths) if path)


def _shard(options: argparse.Namespace) -> Shard | None:
    from tnrd.inference.batch.shards import Shard, is_sharded

    if options.shard is None:
        if is_sharded() and not options.quiet and not options.merge_manifests:
            say("The environment is that of one process of several; this one takes all files, --shard auto a part.")
        return None
    return Shard.from_environment() if options.shard == "auto" else Shard.parse(options.shard)


def _denoise(options: argparse.Namespace, plan: Plan) -> int:
    from tnrd.inference.batch.errors import BatchOutputError
    from tnrd.inference.batch.manifest import manifest_path
    from tnrd.inference.batch.run import refuse_existing, run

    if not (options.skip_existing or options.overwrite):
        try:
            refuse_existing(plan)
        except BatchOutputError as error:
            raise CommandError(OUTPUT, f"{str(error).rstrip('.')} (--skip-existing, --overwrite).") from error
    settings = _settings(options)
    total = len(plan)
    if plan.shard is not None and not options.quiet:
        say(f"Shard {plan.shard}: {total} of {len(plan.found.paths)} files.")
    with Interruption() as interruption, Progress(total, options.quiet) as progress:
        result = run(
            plan,
            settings,
            options.manifest or manifest_path(plan.output, plan.shard),
            skip_existing=options.skip_existing,
            overwrite=options.overwrite,
            report=progress.report,
            is_to_stop=interruption.is_to_stop,
        )
    status = _status(result, interruption)
    report_result(result, interruption.status, options.quiet)
    if options.json:
        to_stdout((json.dumps(_receipt(options, plan, settings, result, status), indent=2) + "\n").encode())
    return status


def _settings(options: argparse.Namespace) -> Settings:
    from tnrd.inference.batch.run import make_settings

    noise_model = assumed(options)
    limit = {} if options.max_pixels is None else {"max_pixels": options.max_pixels}
    with ending(WEIGHTS, ValueError):
        settings = make_settings(noise_model, options.model, options.strength, options.device, options.engine, **limit)
    with ending(USAGE, ValueError):
        return dataclasses.replace(settings, tile=settings.side_of_tiles(options.tile))


def _status(result: BatchResult, interruption: Interruption) -> int:
    if interruption.status is not None and result.reached < result.total:
        return interruption.status
    if result.stopped is not None:
        return OUTPUT
    return SOME_FAILED if result.failed else 0


def _receipt(
    options: argparse.Namespace, plan: Plan, settings: Settings, result: BatchResult, status: int
) -> dict[str, Any]:
    return {
        "version": __version__,
        "inputs": options.paths[:-1],
        "output": plan.output,
        "manifest": result.manifest,
        "shard": None if plan.shard is None else str(plan.shard),
        "files": {
            "total": result.total,
            "done": result.done,
            "skipped": result.skipped,
            "failed": result.failed,
            "not_reached": result.total - result.reached,
            "left_out": result.left_out.total(),
        },
        "failures": [{"input": name, "error": reason} for name, reason in result.failures],
        "weights": {"name": options.model, "sha256": settings.all_weights},
        "noise": options.noise,
        "sigma": options.sigma,
        "gain": options.gain,
        "read_noise": options.read_noise,
        "offset": options.offset,
        "strength": settings.strength,
        **settings.engine,
        "seconds": round(result.seconds, 3),
        "stopped": result.stopped,
        "status": status,
    }


def _merge(options: argparse.Namespace, plan: Plan) -> int:
    from tnrd.inference.batch.manifest import manifest_path
    from tnrd.inference.batch.merge import merge

    census = merge(plan, options.manifest or manifest_path(plan.output))
    report_lacking(census, options.quiet)
    if options.json:
        receipt = {
            "manifest": census.path,
            "merged": census.manifests,
            "files": {"total": len(plan), **{name: census.counts[name] for name in ("done", "failed", "missing")}},
            "lacking": [{"input": name, "error": reason} for name, reason in census.lacking],
            "shards_without_manifest": census.absent,
        }
        to_stdout((json.dumps(receipt, indent=2) + "\n").encode())
    return 0 if census.complete else SOME_FAILED
