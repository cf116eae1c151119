"""Named functions for programs, through ``gradio_client``."""

from __future__ import annotations

import time
from typing import Any

import gradio as gr
import numpy as np

from tnrd.inference.levels import estimate_noise, given_noise

from .events import HEAVY, told
from .limits import MAX_SECONDS, SESSION_SECONDS
from .methods import DEFAULT, STOPWATCH, duration, methods, run, weights_of
from .pictures import PageError, plain_pixels, read_upload, unit_pixels, write_result
from .session import Session
from .uploads import Sent, as_sent


def denoise(
    session: Session, files: list[Sent], sigma: float | None, method: str, strength: float
) -> tuple[Session, str, dict[str, Any]]:
    """Denoise one picture.

    Args:
        session: Its folder takes the result.
        files: One upload, (path, name).
        sigma: Noise level on the 8-bit scale, 0 to 100; None to estimate it.
        method: A key of :func:`list_methods`.
        strength: Where to stop the diffusion, in [0, 1]; of the learned models.

    Returns:
        The session; the result as a file of the depth of the upload, with its alpha and metadata; and a receipt.

    Raises:
        PageError: Something is out of range, or the upload is no picture that can be read.
    """
    if len(files) != 1:
        raise PageError("Send one picture.")
    if method not in methods():
        raise PageError(f"There is no method {method!r} here; there are {', '.join(methods())}.")
    if not 0 <= strength <= 1:
        raise PageError(f"strength must lie in [0, 1], got {strength}.")
    if sigma is not None and not 0 <= sigma <= 100:
        raise PageError(f"sigma must lie in [0, 100] on the 8-bit scale, got {sigma:g}.")
    path, name = files[0]
    picture = read_upload(path, name)
    chosen = methods()[method]
    unit, pixels = unit_pixels(picture), plain_pixels(picture)
    expected = STOPWATCH.estimate(chosen, unit.shape)
    if expected > MAX_SECONDS:
        raise PageError(f"{chosen.label} would take {duration(expected)} for a picture of this size, too long here.")
    begin = time.perf_counter()
    try:
        noise = estimate_noise(pixels) if sigma is None else given_noise(sigma / 255, pixels)
        restored = run(chosen, unit, noise, strength, lambda *_: None)
    except ValueError as error:
        raise PageError(str(error)) from error
    receipt = {
        "input": name,
        "method": method,
        "sigma": [round(255 * float(level), 3) for level in noise.levels],
        "sigma_source": "estimated" if sigma is None else "given",
        "seconds": round(time.perf_counter() - begin, 4),
    }
    if chosen.learned:
        file = weights_of(method, pixels, noise)
        receipt["weights"] = {"name": file.name, "sha256": file.sha256}
    height, width = picture.pixels.shape[:2]
    receipt |= {"width": width, "height": height, "depth": np.dtype(picture.pixels.dtype).name}
    return session, write_result(picture, restored, session.place(), name, method), receipt


def list_methods() -> dict[str, dict[str, Any]]:
    """The denoisers on offer: what each is, its licence, and whether it is one of this project's learned models."""
    return {
        key: {
            "label": method.label,
            "description": method.description,
            "licence": method.licence,
            "learned": method.learned,
        }
        for key, method in methods().items()
    }


def declare_endpoints() -> None:
    """Make them callable within the page being built; hidden components say what goes in and out."""
    with gr.Column(visible=False):
        picture, result = as_sent(gr.File(label="picture")), gr.File(label="result")
        sigma = gr.Number(value=None, label="sigma")
        method = gr.Textbox(DEFAULT, label="method")
        strength = gr.Number(1.0, label="strength")
        receipt, table = gr.JSON(label="receipt"), gr.JSON(label="methods")
        visitor = gr.State(Session(), time_to_live=SESSION_SECONDS, delete_callback=lambda one: one.close())
        named = {**HEAVY, "api_visibility": "public"}
        gr.Button().click(
            told(denoise),
            [visitor, picture, sigma, method, strength],
            [visitor, result, receipt],
            api_name="denoise",
            api_description="Denoise one picture; sigma on the 8-bit scale, or null to estimate it.",
            **named,
        )
        gr.Button().click(
            list_methods,
            None,
            table,
            api_name="methods",
            api_visibility="public",
            queue=False,
            api_description="The denoisers on offer.",
        )
