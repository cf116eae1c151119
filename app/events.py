"""What every event of the page has in common: heavy work in one line, errors as a sentence."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from .pictures import PageError

# One visitor's heavy work at a time: it uses all cores. The others wait in line and see their place.
HEAVY: dict[str, Any] = {"concurrency_id": "heavy", "concurrency_limit": 1, "api_visibility": "private"}
# Decoding a picture and adding noise to it: not everybody at once.
OPEN: dict[str, Any] = {
    "concurrency_id": "open",
    "concurrency_limit": 2,
    "api_visibility": "private",
    "show_progress": "hidden",
    "trigger_mode": "always_last",
}
LIGHT: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "private", "show_progress": "hidden"}
# Not even in the queue: has to get through while it is full.
AT_ONCE: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
# As a default argument it asks Gradio for a progress bar.
PROGRESS = gr.Progress()


def told(callback: Callable[..., Any]) -> Callable[..., Any]:
    """A callback whose :class:`PageError` the visitor is told as it is; the trace of anything else goes to the log."""
    if inspect.isgeneratorfunction(callback):

        @functools.wraps(callback)
        def stream(*arguments: Any, **named: Any) -> Iterator[Any]:
            try:
                yield from callback(*arguments, **named)
            except Exception as error:
                raise sentence(error) from error

        return stream

    @functools.wraps(callback)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return callback(*arguments, **named)
        except Exception as error:
            raise sentence(error) from error

    return call


def sentence(error: Exception) -> gr.Error:
    """An error as the visitor is told it."""
    if isinstance(error, gr.Error):
        return error
    if isinstance(error, PageError):
        return gr.Error(str(error), title="That did not work", duration=12, print_exception=False)
    logging.getLogger("tnrd.page").error("A callback failed.", exc_info=error)
    return gr.Error("This is a fault of the page; its log has the details.", title="Sorry", print_exception=False)
