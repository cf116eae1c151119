"""How the page is served: on this machine alone, within limits, without a word to anyone."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse

from .limits import MAX_FILE_BYTES, MAX_WAITING, SESSION_SECONDS

if TYPE_CHECKING:
    from gradio.themes import ThemeClass as Theme
    from starlette.types import ASGIApp, Receive, Scope, Send

HERE = Path(__file__).parent
PORT = 7860
SWEEP_SECONDS = 600


def serve(
    host: str = "127.0.0.1", port: int | None = PORT, *, open_browser: bool = False, block: bool = True
) -> Callable[[], None]:
    """Serve the page until it is stopped.

    Args:
        host: Address to listen on; the default is reached from this machine only.
        port: Port to listen on; None for a free one.
        open_browser: Show it.
        block: Return only when it has ended.

    Returns:
        What ends it, when ``block`` is False.
    """
    folder = tempfile.mkdtemp(prefix="tnrd-page-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # Read by Gradio when it is imported and at every call: nothing is reported, all files lie in one folder of ours.
    os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")

    from .methods import warm_up
    from .page import build

    page = build()
    # Without open routes everything goes through the queue, and so through the one line for heavy work.
    page.queue(max_size=MAX_WAITING, default_concurrency_limit=8, api_open=False)
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        inbrowser=open_browser,
        max_file_size=MAX_FILE_BYTES,
        prevent_thread_lock=True,
        show_error=False,
        ssr_mode=False,
        quiet=True,
        footer_links=[],
        theme=_theme(),
        css_paths=[HERE / "style.css"],
        js=(HERE / "keys.js").read_text(encoding="utf-8"),
        app_kwargs={"middleware": [Middleware(NoFetching)]},
        enable_monitoring=False,
    )
    threading.Thread(target=warm_up, daemon=True).start()
    threading.Thread(target=_sweep, args=(folder,), daemon=True).start()
    print(f"tnrd is at {page.local_url} (Ctrl-C ends it)", flush=True)

    def close() -> None:
        page.close()
        shutil.rmtree(folder, ignore_errors=True)

    if block:
        try:
            page.block_thread()
        finally:
            close()
    return close


class NoFetching:
    """Refuses the routes by which Gradio would load an address for a visitor."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is no such route."""
        path = scope.get("path", "")
        if "/proxy=" in path or any(f"/file={scheme}" in path.lower() for scheme in ("http:", "https:", "ftp:")):
            await PlainTextResponse("This page fetches nothing.", 403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _sweep(folder: str) -> None:
    """Remove what a session left that Gradio dropped without a word, as it does with the oldest of very many."""
    while True:
        time.sleep(SWEEP_SECONDS)
        for visitor in Path(folder).glob("visitor-*"):
            with contextlib.suppress(OSError):
                if time.time() - visitor.stat().st_mtime > 2 * SESSION_SECONDS:
                    shutil.rmtree(visitor, ignore_errors=True)


def _theme() -> Theme:
    """System fonts only: none is fetched from anywhere."""
    import gradio as gr

    return gr.themes.Default(
        primary_hue="teal",
        neutral_hue="slate",
        font=["system-ui", "-apple-system", "Segoe UI", "sans-serif"],
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    )
