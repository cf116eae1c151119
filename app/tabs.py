"""The tabs beside *Compare*: what is where, and what happens."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from . import batch, diffusion, inside, removed
from .events import AT_ONCE, HEAVY, LIGHT, PROGRESS, told
from .limits import MAX_BATCH_FILES
from .methods import DEFAULT, learned, network
from .session import Session
from .uploads import Sent, as_sent

ESTIMATE = "Estimate"
NOTHING_YET = "Press **Denoise** first."


class Refresh(NamedTuple):
    """How a tab is brought up to date."""

    callback: Any
    inputs: list[Any]
    outputs: list[Any]


class View(NamedTuple):
    """What a tab shows of a picture.

    Attributes:
        component: Where.
        empty: What it shows of none.
        is_input: It shows the noisy picture itself.
    """

    component: Any
    empty: Any = None
    is_input: bool = False


def given_level(source: str, sigma: float) -> float | None:
    """The noise level by hand, 8-bit scale; None where it is to be estimated."""
    return None if source == ESTIMATE else sigma


def _view(caption: str, elem_id: str) -> gr.Image:
    """A picture under its caption, which would otherwise lie on its corner."""
    with gr.Column(min_width=160):
        gr.Markdown(caption, elem_classes="caption")
        return gr.Image(show_label=False, interactive=False, buttons=["fullscreen"], elem_id=elem_id)


def _model_choice(elem_id: str) -> gr.Dropdown:
    return gr.Dropdown([(m.label, m.key) for m in learned()], value=DEFAULT, label="Model", elem_id=elem_id)


def removed_tab(session: gr.State, tab: gr.Tab) -> tuple[Refresh, list[View]]:
    """The residual of a method."""
    method = gr.Dropdown([], label="Method", elem_id="removed-method")
    verdict = gr.Markdown(NOTHING_YET, elem_id="verdict")
    with gr.Row(equal_height=False):
        picture = _view("Removed, times 4", "removed")
        plots = _view("Is it noise?", "removed-plots")

    @told
    def refresh(visitor: Session, key: str | None) -> tuple[Any, ...]:
        done = [(result.label, name) for name, result in visitor.results.items() if not result.error]
        names = [name for _, name in done]
        key = key if key in names else next(iter(names), None)
        found = removed.removed(visitor, key)
        choice = gr.update(choices=done, value=key)
        return (choice, *found) if found else (choice, None, None, NOTHING_YET)

    update = Refresh(refresh, [session, method], [method, picture, plots, verdict])
    method.input(*update, **LIGHT)
    tab.select(*update, **LIGHT)
    return update, [View(picture), View(plots), View(verdict, NOTHING_YET)]


def diffusion_tab(session: gr.State, sigma: gr.Slider, source: gr.Radio) -> list[View]:
    """The states of the diffusion."""
    with gr.Row(equal_height=True):
        model = _model_choice("diffusion-model")
        go = gr.Button("Run the diffusion", variant="primary", elem_id="diffusion-go", scale=0, min_width=200)
    step = gr.Slider(0, 8, 8, step=1, label="Step", elem_id="step", interactive=True)
    line = gr.Markdown("", elem_id="step-line")
    with gr.Row():
        state = _view("The picture at this step", "state")
        change = _view("What the step changed, times 6", "change")
    curves = _view("Step by step", "curves")
    about = gr.Markdown("")

    @told
    def run(visitor: Session, key: str, source: str, sigma: float) -> tuple[Any, ...]:
        steps, plot, sentence = diffusion.compute(visitor, key, given_level(source, sigma))
        return gr.update(maximum=steps, value=steps), plot, sentence, *frame(visitor, steps)

    def frame(visitor: Session, t: int) -> tuple[Any, ...]:
        return diffusion.frame(visitor, t) or (None, None, "")

    views = [state, change, line]
    go.click(run, [session, model, source, sigma], [step, curves, about, *views], **HEAVY)
    step.input(frame, [session, step], views, trigger_mode="always_last", **LIGHT)
    return [View(state), View(change), View(curves), View(line, ""), View(about, "")]


def inside_tab(session: gr.State, tab: gr.Tab, sigma: gr.Slider, source: gr.Radio) -> list[View]:
    """Filters, influence functions, the kernel at a pixel, a filter removed."""
    with gr.Row():
        model = _model_choice("inside-model")
        step = gr.Slider(1, 8, 1, step=1, label="Step", elem_id="inside-step", interactive=True)
    chosen = gr.State(0)
    with gr.Row(equal_height=False):
        with gr.Column():
            sheet = _view("Filters: click on one", "sheet")
            about = gr.Markdown("")
        with gr.Column():
            operator = gr.Markdown("", elem_id="operator")
            influence = _view("Its influence function", "influence")
            mute = gr.Button("What if this filter were removed?", elem_id="mute")
            effect = gr.Markdown("", elem_id="effect")
            with gr.Row():
                without = _view("Without it", "without")
                difference = _view("Difference, times 8", "difference")
    gr.Markdown("### What a pixel is made of")
    with gr.Row(equal_height=False):
        picture = _view("Click on a pixel", "pixels")
        with gr.Column():
            kernel = _view("Its effective averaging kernel", "kernel")
            explanation = gr.Markdown("", elem_id="explanation")

    @told
    def draw(visitor: Session, key: str, t: int, i: int, source: str, level: float) -> tuple[Any, ...]:
        steps, filters = network(key).config.stages, network(key).config.filters
        t, i = min(int(t), steps), min(i, filters - 1)
        image, sentence = inside.sheet(visitor, key, t - 1)
        figure = inside.influence_figure(visitor, key, t - 1, i, given_level(source, level))
        return gr.update(maximum=steps, value=t), image, sentence, i, inside.describe(key, t - 1, i), figure

    def opened(visitor: Session, *rest: Any) -> tuple[Any, ...]:
        return visitor.shown.get("input"), *draw(visitor, *rest)

    @told
    def pick(visitor: Session, key: str, t: int, source: str, level: float, event: gr.SelectData) -> tuple[Any, ...]:
        i = inside.filter_at(key, int(t) - 1, *(int(place) for place in event.index))
        if i is None:
            return gr.skip(), gr.skip(), gr.skip()
        figure = inside.influence_figure(visitor, key, int(t) - 1, i, given_level(source, level))
        return i, inside.describe(key, int(t) - 1, i), figure

    @told
    def silence(visitor: Session, key: str, t: int, i: int, source: str, level: float) -> tuple[str, str, str]:
        return inside.without(visitor, key, int(t) - 1, i, given_level(source, level))

    @told
    def explain(visitor: Session, key: str, source: str, level: float, event: gr.SelectData) -> tuple[str, str]:
        x, y = (int(place) for place in event.index)
        return inside.kernel_at(visitor, key, x, y, given_level(source, level))

    drawn = [step, sheet, about, chosen, operator, influence]
    now = [session, model, step, chosen, source, sigma]
    tab.select(opened, now, [picture, *drawn], **LIGHT)
    model.input(draw, now, drawn, **LIGHT)
    step.release(draw, now, drawn, trigger_mode="always_last", **LIGHT)
    sheet.select(pick, [session, model, step, source, sigma], [chosen, operator, influence], **LIGHT)
    mute.click(silence, [session, model, step, chosen, source, sigma], [without, difference, effect], **HEAVY)
    picture.select(explain, [session, model, source, sigma], [kernel, explanation], **HEAVY)
    pictures = [View(picture, is_input=True), View(kernel), View(without), View(difference)]
    return [*pictures, View(explanation, ""), View(effect, "")]


def batch_tab(session: gr.State, sigma: gr.Slider, source: gr.Radio) -> None:
    """Several files."""
    gr.Markdown(
        f"Up to {MAX_BATCH_FILES} pictures, each with a noise level of its own, or the one given by hand on the left. "
        "You get a zip with the results in the depth of the originals, and a report. For whole folders there is the "
        "command `tnrd-denoise`."
    )
    files = as_sent(gr.File(label="Pictures", file_count="multiple", height=200, elem_id="batch-files"))
    model = _model_choice("batch-model")
    with gr.Row():
        go = gr.Button("Denoise all", variant="primary", elem_id="batch-go", scale=3)
        stop = gr.Button("Cancel", scale=1, min_width=80)
    result = gr.File(label="Results", interactive=False, elem_id="batch-result")
    rows = gr.Dataframe(
        headers=["File", "sigma", "Outcome"], label="Report", interactive=False, wrap=True, elem_id="batch-rows"
    )

    ticket = gr.State(0)

    @told
    def run(
        visitor: Session,
        sent: list[Sent],
        key: str,
        source: str,
        sigma: float,
        ticket: int,
        progress: gr.Progress = PROGRESS,
    ) -> tuple[Any, ...]:
        level = given_level(source, sigma)
        found = batch.denoise_files(visitor, sent, key, level, lambda share, name: progress(share, desc=name), ticket)
        return visitor, *found

    def stop_or_begin(visitor: Session) -> int:
        return visitor.take_ticket("batch")

    inputs = [session, files, model, source, sigma, ticket]
    go.click(stop_or_begin, session, ticket, **AT_ONCE).then(run, inputs, [session, result, rows], **HEAVY)
    stop.click(stop_or_begin, session, None, **AT_ONCE)
