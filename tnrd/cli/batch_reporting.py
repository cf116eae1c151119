"""What a batch says on its way and at its end, and how it takes a signal."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any

from tnrd.cli.reporting import INTERRUPTED, TERMINATED, say

if TYPE_CHECKING:
    from tnrd.inference.batch.merge import Census
    from tnrd.inference.batch.run import BatchResult

# Seconds between two lines where there is no terminal.
INTERVAL = 30.0
_STATUS = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


class Interruption:
    """Takes Ctrl-C and SIGTERM as the wish to end after the file at work; a second Ctrl-C or SIGTERM ends at once."""

    def __init__(self) -> None:
        self.status: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in _STATUS:
                # What a shell has its background jobs ignore stays ignored.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.status is not None and kind is KeyboardInterrupt:
            # The interpreter would wait for the threads that read, denoise and write.
            say("Interrupted." if self.status == INTERRUPTED else "Terminated.")
            sys.stderr.flush()
            os._exit(self.status)
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def is_to_stop(self) -> bool:
        """Whether a signal has come."""
        return self.status is not None

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.status is not None:
            raise KeyboardInterrupt
        self.status = _STATUS[signal.Signals(number)]


class Progress:
    """A bar with rate and time left on a terminal, a line now and then elsewhere."""

    def __init__(self, total: int, quiet: bool) -> None:
        self._total, self._quiet, self._bar = total, quiet, None
        self._said, self._done_then = time.monotonic(), 0

    def __enter__(self) -> Progress:
        if not self._quiet and sys.stderr.isatty():
            from tqdm import tqdm

            with contextlib.suppress(OSError):
                self._bar = tqdm(total=self._total, desc="denoising", unit="file", leave=False, dynamic_ncols=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.close()

    def report(self, result: BatchResult, record: dict[str, Any]) -> None:
        """Take note of another file."""
        if self._quiet:
            return
        if self._bar is None:
            self._report_in_lines(result)
            return
        with contextlib.suppress(OSError):  # a terminal that is gone
            if result.failed:
                self._bar.set_postfix(failed=result.failed, refresh=False)
            self._bar.update(result.reached - self._bar.n)

    def _report_in_lines(self, result: BatchResult) -> None:
        now = time.monotonic()
        if now - self._said < INTERVAL or result.reached == result.total:
            return
        rate = (result.reached - self._done_then) / (now - self._said)
        self._said, self._done_then = now, result.reached
        left = _duration((result.total - result.reached) / rate)
        failed = f", {result.failed} failed" if result.failed else ""
        share = 100 * result.reached // result.total
        say(f"{result.reached} of {result.total} files ({share} %){failed}, {rate:.3g} files/s, {left} left.")


def report_result(result: BatchResult, signal_status: int | None, quiet: bool) -> None:
    """All failures with their reasons, then the counts, then what is to be known besides."""
    _list(result.failures, result.failed, f"{result.manifest} holds them all")
    if result.stopped is not None:
        name = {INTERRUPTED: "Interrupted", TERMINATED: "Terminated"}.get(signal_status or 0, "Stopped")
        reason = f": {result.stopped.rstrip('.')}" if signal_status is None else ""
        say(
            f"{name} after {result.reached} of {result.total} files{reason}. All outputs are complete; the same "
            "command with --skip-existing goes on."
        )
    if quiet:
        return
    for remark in result.remarks:
        say(remark)
    if result.remarked:
        say(f"Of {_files(result.remarked)} something is to be said; see 'remarks' in the manifest.")
    if result.left_out:
        ends = ", ".join(f"{count} {end}" for end, count in result.left_out.most_common())
        say(f"{_files(result.left_out.total())} left out, hidden or not of a kind that can be read: {ends}.")
    if result.folders_left_out:
        say(f"Folders left out: {result.folders_left_out}; --recursive goes into those that are not hidden.")
    rate = f", {result.reached / result.seconds:.3g} files/s" if result.seconds > 0 else ""
    say(
        f"{_files(result.done)} denoised, {result.skipped} skipped, {result.failed} failed in "
        f"{_duration(result.seconds)}{rate}; the manifest is {result.manifest}."
    )


def report_lacking(census: Census, quiet: bool) -> None:
    """What is not done, and the counts."""
    lacking = census.counts["failed"] + census.counts["missing"]
    _list(census.lacking, lacking, f"{census.path} holds them all")
    if census.absent:
        say(f"There is no manifest of the shard {', '.join(census.absent)}.")
    if not quiet:
        counts = ", ".join(f"{census.counts[name]} {name}" for name in ("done", "failed", "missing"))
        say(f"{counts}; {len(census.manifests)} manifests were merged into {census.path}.")


def _list(failures: list[tuple[str, str]], count: int, rest: str) -> None:
    for name, reason in failures:
        say(f"{name}: {reason}")
    if count > len(failures):
        say(f"... and {count - len(failures)} more; {rest}.")


def _files(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
