"""How the command ends, and what it says on the way."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator

PROGRAM = "tnrd-denoise"
UNEXPECTED, USAGE, INPUT, OUTPUT, WEIGHTS, SOME_FAILED, INTERRUPTED, TERMINATED = 1, 2, 3, 4, 5, 6, 130, 143
# With fewer tiles than this a progress bar would only flicker.
FEW_TILES = 4


class CommandError(Exception):
    """Ends the command with a status and a sentence for the user."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


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


def to_stdout(data: bytes) -> None:
    """Write and flush.

    Raises:
        CommandError: The reader is gone, or there is no space.
    """
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        # What is left in the buffer would be tried once more, and complained about, as the interpreter ends.
        with contextlib.suppress(OSError), open(os.devnull, "wb") as sink:
            os.dup2(sink.fileno(), sys.stdout.fileno())
        raise CommandError(OUTPUT, f"The output cannot be written to stdout: {error.strerror}.") from error
