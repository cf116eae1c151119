"""Components that hand over a visitor's file as it came, neither decoded nor converted, and fetch nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
from gradio.data_classes import FileData, ImageData

Upload = TypeVar("Upload", gr.Image, gr.File)
Sent = tuple[str, str]


def as_sent(component: Upload) -> Upload:
    """Make an input give the files as they were sent: an image (path, name) or None, a list of files [(path, name)].

    Gradio would decode and convert them, and load what is given as an address. Both are replaced on this one object:
    a subclass of a component makes Gradio write a file beside its source. Only its value may be updated.
    """
    move = component.async_move_resource_to_block_cache

    async def keep(place: str | Path | None) -> str | None:
        if str(place or "").lower().startswith(("http:", "https:", "ftp:")):
            raise gr.Error("Pictures are uploaded, not fetched from an address.", print_exception=False)
        return await move(place)

    def image(payload: ImageData | None) -> Sent | None:
        return None if payload is None else _file(payload)

    def files(payload: Any) -> list[Sent]:
        several = getattr(payload, "root", payload) or []
        return [_file(data) for data in (several if isinstance(several, list) else [several])]

    component.async_move_resource_to_block_cache = keep  # type: ignore[assignment,method-assign]
    component.preprocess = image if isinstance(component, gr.Image) else files  # type: ignore[assignment,method-assign]
    return component


def _file(data: FileData | ImageData) -> Sent:
    if not data.path or (data.url or "").startswith("data:"):
        raise gr.Error("The picture did not arrive as a file; please upload it.", print_exception=False)
    return data.path, Path(data.orig_name or data.path).name
