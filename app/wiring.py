"""What happens when something on the page is touched, the tabs beside *Compare* aside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import gradio as gr

from . import compare
from .events import AT_ONCE, HEAVY, LIGHT, OPEN, PROGRESS, told
from .examples import EXAMPLES, example_files
from .noise_choice import NOISES
from .pictures import PageError
from .session import Session
from .tabs import ESTIMATE, Refresh, View, given_level
from .uploads import Sent


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


def wire(
    page: gr.Blocks, session: gr.State, left: Controls, right: Comparison, views: list[View], refresh_removed: Refresh
) -> None:
    """Connect everything; ``views`` are what other tabs show of a picture, to be emptied when it goes."""
    _wire_picture(page, session, left, right, views)
    _wire_denoising(session, left, right, refresh_removed)
    _wire_comparison(session, right)


def pair_update(session: Session, first: str | None, second: str | None) -> tuple[Any, Any, Any, Any]:
    """Slider, both choices and the download for a pair; keys that no longer exist are replaced."""
    found = compare.choices(session)
    keys = [key for _, key in found]
    first = first if first in keys else ("input" if keys else None)
    if second not in keys or second == first:
        others = (key for key in (*session.results, *keys) if key in keys and key != first)
        second = next(others, first)
    images = (compare.image_of(session, first), compare.image_of(session, second))
    return (
        gr.update(value=images if any(images) else None),
        gr.update(choices=found, value=first),
        gr.update(choices=found, value=second),
        gr.update(value=compare.download_of(session, second), interactive=second in session.results),
    )


def _shown(session: gr.State, left: Controls, right: Comparison) -> list[Any]:
    # A session that is given back begins its time to live anew; one that never is would be kept for ever.
    return [session, right.slider, right.first, right.second, right.download, right.table, left.found]


def _start_again(visitor: Session, models: list[str], classics: list[str]) -> tuple[Any, ...]:
    note = compare.estimate_note(visitor, [*models, *classics])
    choices = gr.update(choices=compare.classic_choices(visitor))
    return (visitor, *pair_update(visitor, None, None), "", "", note, choices)


@told
def _opened(visitor: Session, file: Sent | None, *keys: Any) -> tuple[Any, ...]:
    """An upload; it counts as noisy itself, until noise is added to it."""
    if file is None:
        raise PageError("The picture did not arrive; please send it again.")
    try:
        compare.open_upload(visitor, *file, "none", 0)
    except PageError as refusal:
        # The former picture stays, and is shown again in place of the one that was refused.
        gr.Warning(str(refusal), title="That did not work", duration=12)
        former = compare.image_of(visitor, "input" if visitor.clean is None else "clean")
        return (former, *[gr.skip()] * 11)
    hidden = gr.update(visible=False)
    return (compare.image_of(visitor, "input"), "none", hidden, *_start_again(visitor, *keys))


@told
def _example(visitor: Session, *keys: Any, picked: int = 0) -> tuple[Any, ...]:
    kind = NOISES["gaussian"]
    compare.open_upload(visitor, example_files()[0][picked], f"{EXAMPLES[picked].name}.png", "gaussian", kind.start)
    level = gr.update(minimum=kind.low, maximum=kind.high, value=kind.start, label=kind.unit, visible=True)
    return (compare.image_of(visitor, "clean"), "gaussian", level, *_start_again(visitor, *keys))


def _example_clicked(visitor: Session, models: list[str], classics: list[str], event: gr.SelectData) -> Any:
    return _example(visitor, models, classics, picked=int(event.index))


def _first_sight(visitor: Session, models: list[str], classics: list[str]) -> tuple[Any, ...]:
    thumbnails = [(path, e.label) for path, e in zip(example_files()[1], EXAMPLES, strict=True)]
    return (thumbnails, *_example(visitor, models, classics))


@told
def _respoiled(visitor: Session, noise: str, level: float, *keys: Any) -> tuple[Any, ...]:
    compare.spoil(visitor, noise, level)
    return _start_again(visitor, *keys)


def _closed(visitor: Session, *keys: Any) -> tuple[Any, ...]:
    visitor.clear()
    return _start_again(visitor, *keys)


def _noise_chosen(key: str) -> Any:
    kind = NOISES[key]
    return gr.update(
        minimum=kind.low, maximum=kind.high, value=kind.start, label=kind.unit, visible=key != "none", step=0.5
    )


def _wire_picture(page: gr.Blocks, session: gr.State, left: Controls, right: Comparison, views: list[View]) -> None:
    """A picture comes, or its noise changes: the comparison starts again."""
    chosen = [left.models, left.classics]
    fresh = [*_shown(session, left, right), left.cost, left.classics]
    with_picture = [left.upload, left.noise, left.level, *fresh]

    def emptied(visitor: Session) -> list[Any]:
        return [visitor.shown.get("input") if view.is_input else view.empty for view in views]

    def then_empty(event: Any) -> Any:
        return event.then(emptied, session, [view.component for view in views], **LIGHT)

    again = ([session, left.noise, left.level, *chosen], fresh)
    first = page.load(_first_sight, [session, *chosen], [left.gallery, *with_picture], **OPEN)
    first.then(
        _run_first, [session, left.models], _shown(session, left, right), show_progress_on=[right.table], **HEAVY
    )
    for event in (
        left.upload.upload(_opened, [session, left.upload, *chosen], with_picture, **OPEN),
        # Webcam and clipboard clear first, too: that has to be over when their picture comes.
        left.upload.clear(_closed, [session, *chosen], fresh, **AT_ONCE),
        left.gallery.select(_example_clicked, [session, *chosen], with_picture, **OPEN),
        left.noise.input(_noise_chosen, left.noise, left.level, **LIGHT).then(_respoiled, *again, **OPEN),
        left.level.release(_respoiled, *again, **OPEN),
    ):
        then_empty(event)
    left.source.change(lambda source: gr.update(visible=source != ESTIMATE), left.source, left.sigma, **AT_ONCE)
    gr.on(
        [left.models.change, left.classics.change],
        lambda visitor, models, classics: compare.estimate_note(visitor, [*models, *classics]),
        [session, *chosen],
        left.cost,
        **LIGHT,
    )


@told
def _run(
    visitor: Session,
    models: list[str],
    classics: list[str],
    source: str,
    sigma: float,
    strength: float,
    ticket: int,
    progress: gr.Progress = PROGRESS,
) -> Iterator[tuple[Any, ...]]:
    """Denoise by these methods; the page shows each result as it comes, the first one on the slider."""
    given, keys, pair = given_level(source, sigma), [*models, *classics], None
    for key in compare.denoise_all(
        visitor, keys, given, strength, lambda share, what: progress(share, desc=what), ticket
    ):
        if pair is None or not compare.image_of(visitor, pair):
            pair = key
            shown = pair_update(visitor, "input", pair)
        else:  # what the visitor looks at meanwhile stays
            more = gr.update(choices=compare.choices(visitor))
            shown = (gr.skip(), more, more, gr.skip())
        yield (visitor, *shown, compare.table(visitor), compare.level_note(visitor, given))


def _run_first(visitor: Session, models: list[str], progress: gr.Progress = PROGRESS) -> Iterator[tuple[Any, ...]]:
    """What a newcomer sees first; nothing where another picture has come meanwhile."""
    if visitor.name == f"{EXAMPLES[0].name}.png" and not visitor.results:
        yield from _run(visitor, models, [], ESTIMATE, 0.0, 1.0, visitor.take_ticket("run"), progress)


def _wire_denoising(session: gr.State, left: Controls, right: Comparison, refresh_removed: Refresh) -> None:
    """The two buttons."""
    ticket = gr.State(0)

    def begin(visitor: Session) -> int:
        return visitor.take_ticket("run")

    def cancel(visitor: Session) -> str:
        visitor.take_ticket("run")
        return "Stopping; what is done stays."

    inputs = [session, left.models, left.classics, left.source, left.sigma, left.strength, ticket]
    left.go.click(begin, session, ticket, **AT_ONCE).then(
        _run, inputs, _shown(session, left, right), show_progress_on=[right.table], **HEAVY
    ).then(refresh_removed.callback, refresh_removed.inputs, refresh_removed.outputs, **LIGHT).then(
        lambda visitor, models, classics: compare.estimate_note(visitor, [*models, *classics]),
        [session, left.models, left.classics],
        left.cost,
        **LIGHT,
    )
    left.stop.click(cancel, session, left.cost, **AT_ONCE)


def _wire_comparison(session: gr.State, right: Comparison) -> None:
    """Which two are shown, and how much of each."""
    pair = [right.slider, right.first, right.second, right.download]
    for choice in (right.first, right.second):
        choice.input(told(pair_update), [session, right.first, right.second], pair, trigger_mode="always_last", **LIGHT)
    for button, position in ((right.only_first, 100), (right.both, 50), (right.only_second, 0)):
        button.click(lambda at=position: gr.update(slider_position=at), None, right.slider, **AT_ONCE)
