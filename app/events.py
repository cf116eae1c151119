"""What every event of the page has in common: heavy work in one line, errors as a sentence."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from .pictures import PageError

# One visitor's heavy work at a time: it uses all cores. The others wait in line and see their place.
HEAVY: dict[str, Any] = {"concurrency_id": "heavy", "concurrency_limit": 1, "api_visibility": "private"}
LIGHT: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "private", "show_progress": "hidden"}
# Not even in the queue: has to get through while it is full.
AT_ONCE: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
# As a default argument it asks Gradio for a progress bar.
PROGRESS = gr.Progress()


def told(callback: Callable[..., Any]) -> Callable[..., Any]:
    """A callback whose :class:`PageError` the visitor is told as it is; anything else stays in the server's log."""
    if inspect.isgeneratorfunction(callback):

        @functools.wraps(callback)
        def stream(*arguments: Any, **named: Any) -> Iterator[Any]:
            try:
                yield from callback(*arguments, **named)
            except PageError as error:
                raise _sentence(error) from error

        return stream

    @functools.wraps(callback)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return callback(*arguments, **named)
        except PageError as error:
            raise _sentence(error) from error

    return call


def _sentence(error: PageError) -> gr.Error:
    return gr.Error(str(error), title="That did not work", duration=12, print_exception=False)
