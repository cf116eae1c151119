"""The page: what is where, and what happens when something is touched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import gradio as gr

from tnrd import __version__

from . import compare
from .endpoints import denoise, list_methods
from .events import AT_ONCE, HEAVY, LIGHT, PROGRESS, told
from .examples import EXAMPLES, example_files
from .limits import SESSION_SECONDS
from .methods import learned, methods
from .noise_choice import NOISES
from .pictures import PageError
from .session import Session
from .tabs import ESTIMATE, Refresh, batch_tab, diffusion_tab, given_level, inside_tab, removed_tab
from .uploads import Sent, as_sent

INTRODUCTION = """\
# tnrd
Noise out, picture kept: a trained reaction-diffusion beside the classic denoisers, on your own picture, at the same
noise level, with true pixels and true run times. Your picture stays on the machine that serves this page, and is
deleted an hour after you left.
"""
START_METHODS = ("nlm_opencv", "tv", "bilateral")
DEFAULT = "gray"


class Controls(NamedTuple):
    """The left side."""

    upload: gr.Image
    gallery: gr.Gallery
    noise: gr.Dropdown
    level: gr.Slider
    source: gr.Radio
    sigma: gr.Slider
    found: gr.Markdown
    models: gr.CheckboxGroup
    classics: gr.Dropdown
    strength: gr.Slider
    cost: gr.Markdown
    go: gr.Button
    stop: gr.Button


class Comparison(NamedTuple):
    """The tab *Compare*."""

    slider: gr.ImageSlider
    first: gr.Dropdown
    second: gr.Dropdown
    only_first: gr.Button
    both: gr.Button
    only_second: gr.Button
    table: gr.HTML
    download: gr.DownloadButton


def build() -> gr.Blocks:
    """The whole page."""
    page: gr.Blocks
    with gr.Blocks(title="tnrd: denoise a picture", analytics_enabled=False, delete_cache=(600, 7200)) as page:
        session = gr.State(Session(), time_to_live=SESSION_SECONDS, delete_callback=lambda visitor: visitor.close())
        gr.Markdown(INTRODUCTION, elem_id="introduction")
        with gr.Row(elem_id="columns"):
            with gr.Column(scale=1, min_width=330):
                left = _controls()
            with gr.Column(scale=3, min_width=420), gr.Tabs():
                with gr.Tab("Compare", id="compare"):
                    right = _comparison()
                with gr.Tab("What was removed", id="removed") as tab:
                    refresh_removed = removed_tab(session, tab)
                with gr.Tab("The diffusion", id="diffusion"):
                    diffusion_tab(session, left.sigma, left.source)
                with gr.Tab("Inside the model", id="inside") as tab:
                    inside_tab(session, tab, left.sigma, left.source)
                with gr.Tab("Batch", id="batch"):
                    batch_tab(session, left.sigma, left.source)
        gr.Markdown(_footer(), elem_id="footer")
        _wire_picture(page, session, left, right)
        _wire_denoising(session, left, right, refresh_removed)
        _wire_comparison(session, right)
        _endpoints()
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


def pair_update(session: Session, first: str | None, second: str | None) -> tuple[Any, Any, Any, Any]:
    """Slider, both choices and the download for a pair; keys that no longer exist are replaced."""
    found = compare.choices(session)
    keys = [key for _, key in found]
    first = first if first in keys else ("input" if keys else None)
    results = [key for key in session.results if key in keys]
    if second not in keys or second == first:
        second = next(iter([*results, *(key for key in keys if key != first), *keys]), None)
    images = (compare.image_of(session, first), compare.image_of(session, second))
    return (
        gr.update(value=images if any(images) else None),
        gr.update(choices=found, value=first),
        gr.update(choices=found, value=second),
        gr.update(value=compare.download_of(session, second), interactive=second in session.results),
    )


def _wire_picture(page: gr.Blocks, session: gr.State, left: Controls, right: Comparison) -> None:
    """A picture comes, or its noise changes: the comparison starts again."""
    chosen = [left.models, left.classics]
    fresh = [*_shown(session, left, right), left.cost, left.classics]

    def start_again(visitor: Session, models: list[str], classics: list[str]) -> tuple[Any, ...]:
        note = compare.estimate_note(visitor, [*models, *classics])
        choices = gr.update(choices=compare.classic_choices(visitor))
        return (visitor, *pair_update(visitor, None, None), "", "", note, choices)

    @told
    def opened(visitor: Session, file: Sent | None, noise: str, level: float, *keys: Any) -> tuple[Any, ...]:
        if file is None:
            raise PageError("The picture did not arrive; please send it again.")
        compare.open_upload(visitor, *file, noise, level)
        return (compare.image_of(visitor, "input" if visitor.clean is None else "clean"), *start_again(visitor, *keys))

    def closed(visitor: Session, *keys: Any) -> tuple[Any, ...]:
        visitor.close()
        return start_again(visitor, *keys)

    @told
    def example(visitor: Session, *keys: Any, picked: int = 0) -> tuple[Any, ...]:
        kind = NOISES["gaussian"]
        compare.open_upload(visitor, example_files()[0][picked], f"{EXAMPLES[picked].name}.png", "gaussian", kind.start)
        level = gr.update(minimum=kind.low, maximum=kind.high, value=kind.start, label=kind.unit, visible=True)
        return (compare.image_of(visitor, "clean"), "gaussian", level, *start_again(visitor, *keys))

    def example_clicked(visitor: Session, models: list[str], classics: list[str], event: gr.SelectData) -> Any:
        return example(visitor, models, classics, picked=int(event.index))

    def first_sight(visitor: Session, models: list[str], classics: list[str]) -> tuple[Any, ...]:
        thumbnails = [(path, e.label) for path, e in zip(example_files()[1], EXAMPLES, strict=True)]
        return (thumbnails, *example(visitor, models, classics))

    @told
    def respoiled(visitor: Session, noise: str, level: float, *keys: Any) -> tuple[Any, ...]:
        compare.spoil(visitor, noise, level)
        return start_again(visitor, *keys)

    def noise_chosen(key: str) -> Any:
        kind = NOISES[key]
        return gr.update(
            minimum=kind.low, maximum=kind.high, value=kind.start, label=kind.unit, visible=key != "none", step=0.5
        )

    left.upload.clear(closed, [session, *chosen], fresh, **LIGHT)
    left.upload.upload(opened, [session, left.upload, left.noise, left.level, *chosen], [left.upload, *fresh], **LIGHT)
    with_example = [left.upload, left.noise, left.level, *fresh]
    left.gallery.select(example_clicked, [session, *chosen], with_example, **LIGHT)
    page.load(first_sight, [session, *chosen], [left.gallery, *with_example], **LIGHT).then(
        _run_learned, [session, left.models], _shown(session, left, right), show_progress_on=[right.table], **HEAVY
    )
    again = ([session, left.noise, left.level, *chosen], fresh)
    left.noise.input(noise_chosen, left.noise, left.level, **LIGHT).then(respoiled, *again, **LIGHT)
    left.level.release(respoiled, *again, **LIGHT)
    left.source.change(lambda source: gr.update(visible=source != ESTIMATE), left.source, left.sigma, **AT_ONCE)
    gr.on(
        [left.models.change, left.classics.change],
        lambda visitor, models, classics: compare.estimate_note(visitor, [*models, *classics]),
        [session, *chosen],
        left.cost,
        **LIGHT,
    )


def _shown(session: gr.State, left: Controls, right: Comparison) -> list[Any]:
    # A session that is given back begins its time to live anew; one that never is would be kept for ever.
    return [session, right.slider, right.first, right.second, right.download, right.table, left.found]


@told
def _run(
    visitor: Session,
    models: list[str],
    classics: list[str],
    source: str,
    sigma: float,
    strength: float,
    progress: gr.Progress = PROGRESS,
) -> Iterator[tuple[Any, ...]]:
    """Denoise by these methods; the page shows each result as it comes."""
    second: str | None = None
    given, keys = given_level(source, sigma), [*models, *classics]
    for key in compare.denoise_all(visitor, keys, given, strength, lambda share, what: progress(share, desc=what)):
        second = second or key
        pair = pair_update(visitor, "input", second)
        yield (visitor, *pair, compare.table(visitor), compare.level_note(visitor, given))


def _run_learned(visitor: Session, models: list[str], progress: gr.Progress = PROGRESS) -> Iterator[tuple[Any, ...]]:
    """What a newcomer sees first."""
    yield from _run(visitor, models, [], ESTIMATE, 0.0, 1.0, progress)


def _wire_denoising(session: gr.State, left: Controls, right: Comparison, refresh_removed: Refresh) -> None:
    """The two buttons."""

    def begin(visitor: Session) -> None:
        visitor.cancelled = False

    def cancel(visitor: Session) -> str:
        visitor.cancelled = True
        return "Stopping; what is done stays."

    inputs = [session, left.models, left.classics, left.source, left.sigma, left.strength]
    left.go.click(begin, session, None, **AT_ONCE).then(
        _run, inputs, _shown(session, left, right), show_progress_on=[right.table], **HEAVY
    ).then(refresh_removed.callback, refresh_removed.inputs, refresh_removed.outputs, **LIGHT)
    left.stop.click(cancel, session, left.cost, **AT_ONCE)


def _wire_comparison(session: gr.State, right: Comparison) -> None:
    """Which two are shown, and how much of each."""
    pair = [right.slider, right.first, right.second, right.download]
    for choice in (right.first, right.second):
        choice.input(told(pair_update), [session, right.first, right.second], pair, **LIGHT)
    for button, position in ((right.only_first, 100), (right.both, 50), (right.only_second, 0)):
        button.click(lambda at=position: gr.update(slider_position=at), None, right.slider, **AT_ONCE)


def _endpoints() -> None:
    """What programs may call; the components only say what goes in and out."""
    with gr.Column(visible=False):
        picture, result = as_sent(gr.File(label="picture")), gr.File(label="result")
        sigma = gr.Number(value=None, label="sigma")
        method = gr.Textbox(DEFAULT, label="method")
        strength = gr.Number(1.0, label="strength")
        receipt, table = gr.JSON(label="receipt"), gr.JSON(label="methods")
        visitor = gr.State(Session(), time_to_live=SESSION_SECONDS, delete_callback=lambda one: one.close())
        named = {**HEAVY, "api_visibility": "public"}
        gr.Button().click(
            told(denoise), [visitor, picture, sigma, method, strength], [visitor, result, receipt], api_name="denoise",
            api_description="Denoise one picture; sigma on the 8-bit scale, or null to estimate it.", **named,
        )  # fmt: skip
        gr.Button().click(
            list_methods, None, table, api_name="methods", api_visibility="public", queue=False,
            api_description="The denoisers on offer.",
        )  # fmt: skip
