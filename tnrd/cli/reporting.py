"""How the command ends, and what it says on the way."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

PROGRAM = "tnrd-denoise"
UNEXPECTED, USAGE, INPUT, OUTPUT, WEIGHTS, SOME_FAILED, INTERRUPTED, TERMINATED = 1, 2, 3, 4, 5, 6, 130, 143
# With fewer tiles than this a progress bar would only flicker.
FEW_TILES = 4


class CommandError(Exception):
    """Ends the command with a status and a sentence for the user."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class TerminatedError(BaseException):
    """SIGTERM has come."""


def as_level(level: float) -> str:
    """A noise level of the [0, 1] scale on the 8-bit scale, to a tenth; one below 1 to two digits."""
    return f"{255 * level:.2g}" if 0 < 255 * level < 0.95 else f"{255 * level:.1f}"


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, so that what is half written is removed; a second one ends at once.

    Raises:
        TerminatedError: It has come.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:  # somebody else answers it
        yield
        return

    def take(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise TerminatedError

    signal.signal(signal.SIGTERM, take)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def open_closed_streams() -> None:
    """Where the process was started without stdin, stdout or stderr, let nothing else take their numbers.

    Nothing is read from such a stdin, what is said on such a stderr is lost; such a stdout stays None, and is an error
    where something is to go there.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115 (as long as the process lives)
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


@contextlib.contextmanager
def ending(status: int, *errors: type[Exception]) -> Iterator[None]:
    """Let the command end with a status where one of these errors comes up."""
    try:
        yield
    except errors as error:
        raise CommandError(status, str(error)) from error


@contextlib.contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note how long a step took."""
    start = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - start, 4)


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on the terminal, for work of more than a second and a few tiles."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(desc="denoising", unit="tile", leave=False, delay=1) as bar:

        def report(done: int, total: int) -> None:
            if total > FEW_TILES:
                bar.total = total
                bar.update(done - bar.n)

        yield report


def say(sentence: str) -> None:
    """A sentence on stderr, under the program's name; if nobody reads it any more, that is no reason to end."""
    with contextlib.suppress(OSError):
        print(f"{PROGRAM}: {sentence}", file=sys.stderr, flush=True)


def check_stdout() -> None:
    """Raise CommandError if there is no stdout."""
    if sys.stdout is None:
        raise CommandError(OUTPUT, "The output cannot be written to stdout: it is closed.")


def to_stdout(data: bytes) -> None:
    """Write and flush.

    Raises:
        CommandError: It is closed, the reader is gone, or there is no space.
    """
    check_stdout()
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        # What is left in the buffer would be tried once more, and complained about, as the interpreter ends.
        with contextlib.suppress(OSError), open(os.devnull, "wb") as sink:
            os.dup2(sink.fileno(), sys.stdout.fileno())
        raise CommandError(OUTPUT, f"The output cannot be written to stdout: {error.strerror}.") from error
