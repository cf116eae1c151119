"""The page: what is where."""

from __future__ import annotations

import gradio as gr

from tnrd import __version__

from . import compare
from .endpoints import declare_endpoints
from .examples import EXAMPLES
from .limits import FILE_SECONDS, SESSION_SECONDS
from .methods import DEFAULT, learned, methods
from .noise_choice import NOISES
from .session import Session
from .tabs import ESTIMATE, batch_tab, diffusion_tab, inside_tab, removed_tab
from .uploads import as_sent
from .wiring import Comparison, Controls, wire

INTRODUCTION = """\
# tnrd
Noise out, picture kept: a trained reaction-diffusion beside the classic denoisers, on your own picture, at the same
noise level, with true pixels and true run times. Your picture stays on the machine that serves this page, and is
deleted within two hours after you left.
"""
START_METHODS = ("nlm_opencv", "tv", "bilateral")


def build() -> gr.Blocks:
    """The whole page."""
    page: gr.Blocks
    with gr.Blocks(title="tnrd: denoise a picture", analytics_enabled=False, delete_cache=(300, FILE_SECONDS)) as page:
        session = gr.State(Session(), time_to_live=SESSION_SECONDS, delete_callback=lambda visitor: visitor.close())
        gr.Markdown(INTRODUCTION, elem_id="introduction")
        with gr.Row(elem_id="columns"):
            with gr.Column(scale=1, min_width=330):
                left = _controls()
            with gr.Column(scale=3, min_width=420), gr.Tabs():
                with gr.Tab("Compare", id="compare"):
                    right = _comparison()
                with gr.Tab("What was removed", id="removed") as tab:
                    refresh_removed, views = removed_tab(session, tab)
                with gr.Tab("The diffusion", id="diffusion"):
                    views += diffusion_tab(session, left.sigma, left.source)
                with gr.Tab("Inside the model", id="inside") as tab:
                    views += inside_tab(session, tab, left.sigma, left.source)
                with gr.Tab("Batch", id="batch"):
                    batch_tab(session, left.sigma, left.source)
        gr.Markdown(_footer(), elem_id="footer")
        wire(page, session, left, right, views, refresh_removed)
        declare_endpoints()
    return page


def _controls() -> Controls:
    upload = as_sent(
        gr.Image(
            label="Picture",
            sources=["upload", "clipboard", "webcam"],
            height=230,
            buttons=["fullscreen"],
            placeholder="Drop a noisy picture here\nor click to choose: PNG, JPEG, TIFF, WebP, BMP; 8 or 16 bit",
            elem_id="upload",
        )
    )
    gallery = gr.Gallery(
        show_label=False,
        columns=len(EXAMPLES),
        height=66,
        allow_preview=False,
        interactive=False,
        buttons=[],
        object_fit="cover",
        elem_id="examples",
    )
    noise = gr.Dropdown(
        [(kind.label, key) for key, kind in NOISES.items()], value="none", label="Noise to add", elem_id="noise"
    )
    level = gr.Slider(1, 75, 25, label="Amount", visible=False, elem_id="level")
    source = gr.Radio([ESTIMATE, "By hand"], value=ESTIMATE, label="Noise level sigma", elem_id="source")
    sigma = gr.Slider(0, 100, 25, step=0.5, label="sigma, 8-bit scale", visible=False, elem_id="sigma")
    found = gr.Markdown("", elem_id="found")
    models = gr.CheckboxGroup(
        [(method.label, method.key) for method in learned()],
        value=[DEFAULT],
        label="Learned diffusion",
        elem_id="models",
    )
    classics = gr.Dropdown(
        compare.classic_choices(None),
        value=list(START_METHODS),
        multiselect=True,
        label="Beside it",
        info="Slow ones say how long they take. BM3D: non-commercial use only." if "bm3d" in methods() else None,
        elem_id="classics",
    )
    with gr.Accordion("More", open=False):
        strength = gr.Slider(0, 1, 1, step=0.05, label="Strength: where the diffusion stops", elem_id="strength")
    cost = gr.Markdown("", elem_id="cost")
    with gr.Row():
        go = gr.Button("Denoise", variant="primary", elem_id="go", scale=3, min_width=120)
        stop = gr.Button("Cancel", elem_id="stop", scale=1, min_width=80)
    return Controls(upload, gallery, noise, level, source, sigma, found, models, classics, strength, cost, go, stop)


def _comparison() -> Comparison:
    slider = gr.ImageSlider(
        show_label=False, max_height=620, interactive=False, buttons=["fullscreen"], elem_id="slider", container=False
    )
    with gr.Row(elem_id="pair"):
        first = gr.Dropdown([], label="A, left", elem_id="first", min_width=150)
        second = gr.Dropdown([], label="B, right", elem_id="second", min_width=150)
    with gr.Row(elem_id="which"):
        only_first = gr.Button("A", elem_id="show-a", size="md", min_width=60)
        both = gr.Button("A | B", elem_id="show-both", size="md", min_width=60)
        only_second = gr.Button("B", elem_id="show-b", size="md", min_width=60)
    gr.Markdown("Keys: **a**, **b**, and **s** for both. Zoom with the wheel, drag to move.", elem_id="keys")
    table = gr.HTML("", elem_id="table")
    download = gr.DownloadButton("Download B as it is: full depth, transparency, colour profile", elem_id="download")
    return Comparison(slider, first, second, only_first, both, only_second, table, download)


def _footer() -> str:
    return (
        f"tnrd {__version__}, Apache-2.0. The slider shows exact 8-bit pixels; downloads have the depth of the upload. "
        "Example pictures: scikit-image."
    )
