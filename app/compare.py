"""The tab *Compare*: a picture, noise, several denoisers, and what each of them is worth."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tnrd.inference.advice import Advice
from tnrd.inference.levels import NoiseLevel
from tnrd.metrics import psnr, round_to_8bit, ssim
from tnrd.risk import estimated_psnr, monte_carlo_sure

from .limits import MAX_SECONDS
from .methods import STOPWATCH, Method, duration, methods, run
from .noise_choice import NOISES
from .pictures import PageError, file_stem, read_upload, unit_pixels, write_result
from .session import Result, Session, single_level

Unit = NDArray[np.float32]
Report = Callable[[float, str], None]
SSIM_SIDE = 11


class CancelledError(Exception):
    """The visitor asked to stop, or has moved on to another picture."""


def open_upload(session: Session, path: str, name: str, noise: str, level: float) -> None:
    """Begin with an upload; noise may be added to it.

    Raises:
        PageError: It is no picture that can be read.
    """
    picture = read_upload(path, name)
    with session.lock:
        session.open(picture, name)
        spoil(session, noise, level)


def spoil(session: Session, noise: str, level: float) -> None:
    """Add noise to the picture as uploaded; without any, it counts as noisy itself."""
    with session.lock:
        if session.picture is None:
            return
        clean = unit_pixels(session.picture)
        if noise == "none":
            session.set_noisy(clean, None)
            return
        kind = NOISES[noise]
        session.set_noisy(kind.add(clean, min(max(level, kind.low), kind.high)), clean)


def denoise_all(
    session: Session, keys: Sequence[str], sigma: float | None, strength: float, report: Report, ticket: int
) -> Iterator[str]:
    """Run the methods, quick ones first, and yield the key of each as it is done.

    A method that fails leaves a sentence in its row and does not stop the others. Work for a former picture, or with
    another ticket than the latest, stops.

    Args:
        session: Gets the results.
        keys: Methods.
        sigma: Noise level on the 8-bit scale, None to estimate it.
        strength: Of the learned models.
        report: Told the share that is done and what is going on.
        ticket: Of :meth:`Session.take_ticket`.

    Raises:
        PageError: There is no picture, no method, no noise level, or they would take too long together.
    """
    chosen = [method for key, method in methods().items() if key in keys]
    if not chosen:
        raise PageError("Choose at least one method.")
    if session.tickets["run"] != ticket:
        return
    report(0.0, "Noise level")
    with session.lock:
        noisy, clean, version = session.required(), session.clean, session.version
    costs = [cost(method, noisy.shape, clean is None) for method in chosen]
    if sum(costs) > MAX_SECONDS:
        raise PageError(f"That would take {duration(sum(costs))} here, too long for this page; choose fewer methods.")
    noise = session.level(sigma)
    with session.lock:
        if session.version != version:
            return
        job = Job(noisy, clean, noise, strength)
        session.results, session.noise = {}, noise
    done = 0.0
    for expected, method in sorted(zip(costs, chosen, strict=True), key=lambda pair: (not pair[1].learned, pair[0])):

        def progress(
            part: int, parts: int, method: Method = method, expected: float = expected, before: float = done
        ) -> None:
            if session.tickets["run"] != ticket or session.version != version:
                raise CancelledError
            report((before + expected * part / max(parts, 1)) / max(sum(costs), 1e-9), method.label)

        try:
            progress(0, 1)
            result, restored = attempt(method, job, progress)
            done += expected
            with session.lock:
                progress(0, 1)
                if restored is not None:
                    session.store(method.key, restored)
                    result.png = session.show(restored, file_stem(method.key))
                session.results = {**session.results, method.key: result}
        except CancelledError:
            return
        yield method.key


class Job(NamedTuple):
    """What the methods of one run are given."""

    noisy: Unit
    clean: Unit | None
    noise: NoiseLevel
    strength: float


def cost(method: Method, shape: tuple[int, ...], is_judged_by_a_second_run: bool) -> float:
    """Seconds that a method will take, about."""
    return STOPWATCH.estimate(method, shape) * (2 if method.quick and is_judged_by_a_second_run else 1)


def attempt(method: Method, job: Job, progress: Callable[[int, int], None]) -> tuple[Result, Unit | None]:
    """One method; a failure is a result with a sentence, and without pixels."""
    result = Result(method.label, sigma=single_level(job.noise))
    begin = time.perf_counter()
    try:
        restored = run(method, job.noisy, job.noise, job.strength, progress)
        result.seconds = time.perf_counter() - begin
        judge(method, job, restored, result, progress)
    except CancelledError:
        raise
    except (ValueError, MemoryError, ArithmeticError, RuntimeError, OSError) as error:
        result.error = " ".join(str(error).split())[:200] or type(error).__name__
        return result, None
    if job.strength == 1 and job.noise.levels.any():
        STOPWATCH.learn(method, job.noisy.shape, result.seconds)
    return result, restored


def judge(method: Method, job: Job, restored: Unit, result: Result, progress: Callable[[int, int], None]) -> None:
    """PSNR and SSIM where the clean picture is known, else Stein's estimate for methods quick enough to run twice."""
    if job.clean is not None:
        rounded = round_to_8bit(restored)
        result.psnr = psnr(job.clean, rounded)
        if min(job.clean.shape[:2]) >= SSIM_SIDE:
            result.ssim = ssim(job.clean, rounded)
    elif method.quick and result.sigma > 0:

        def again(image: NDArray[np.floating]) -> Unit:
            return run(method, np.asarray(image, np.float32), job.noise, job.strength, progress)

        result.estimated_psnr = estimated_psnr(monte_carlo_sure(again, job.noisy, result.sigma, result=restored))


def choices(session: Session) -> list[tuple[str, str]]:
    """What can be looked at, as (label, key)."""
    names = {"input": "Noisy input", "clean": "Clean original"}
    found = [(names[key], key) for key in session.shown]
    return found + [(result.label, key) for key, result in session.results.items() if result.png]


def level_note(session: Session, given: float | None) -> str:
    """The noise level that was found, or given."""
    if session.noise is None:
        return ""
    if given is not None:
        return f"Given: sigma = {given:g}."
    levels = ", ".join(f"{255 * level:.1f}" for level in session.noise.levels)
    return f"Estimated: **sigma = {levels}**" + (" (red, green, blue)." if len(session.noise.levels) == 3 else ".")


def image_of(session: Session, key: str | None) -> str | None:
    """The PNG behind a key, None where there is none any more."""
    if key in session.results:
        return session.results[key].png or None
    return session.shown.get(key or "")


def download_of(session: Session, key: str | None) -> str | None:
    """The true result of a method as a file; None for what is no result."""
    with session.lock:
        result = session.results.get(key or "")
        if key is None or result is None or result.error or session.picture is None:
            return None
        if not result.download:
            result.download = write_result(session.picture, session.load(key), session.place(), session.name, key)
        return result.download


def classic_choices(session: Session | None) -> list[tuple[str, str]]:
    """The classic denoisers as (label, key); slow ones with the time they will take on this picture."""
    shape = None if session is None or session.noisy is None else session.noisy.shape
    found = []
    for key, method in methods().items():
        if not method.learned:
            time_needed = f" ({duration(STOPWATCH.estimate(method, shape))})" if shape and not method.quick else ""
            found.append((f"{method.label}{time_needed}", key))
    return found


def estimate_note(session: Session, keys: Sequence[str]) -> str:
    """How long the chosen methods will take on this picture, before they run."""
    if session.noisy is None:
        return ""
    shape = session.noisy.shape
    twice = session.clean is None
    times = {key: cost(methods()[key], shape, twice) for key in keys if key in methods()}
    slow = [f"{methods()[key].label} {duration(seconds)}" for key, seconds in times.items() if seconds >= 1]
    total = sum(times.values())
    note = f"Will take {duration(total)} for {shape[1]} x {shape[0]} pixels"
    return f"{note} ({', '.join(slow)})." if slow else f"{note}."


def table(session: Session) -> str:
    """The results as an HTML table."""
    if not session.results:
        return ""
    known = session.clean is not None
    measures = ("PSNR, dB", "SSIM") if known else ("PSNR, estimated", "")
    rows = [("Noisy input", *_of_input(session), "", "")]
    for result in session.results.values():
        if result.error:
            rows.append((result.label, "", "", "", result.error))
            continue
        quality = _number(result.psnr, 2) if known else _number(result.estimated_psnr, 1)
        megapixels = session.required().shape[0] * session.required().shape[1] / 1e6
        speed = f"{result.seconds:.2f} s ({result.seconds / megapixels:.2g} s/Mpx)"
        rows.append((result.label, quality, _number(result.ssim, 3), speed, ""))
    head = "".join(f"<th>{title}</th>" for title in ("Method", *measures, "Time", "") if title)
    best = max((row[1] for row in rows[1:] if row[1] not in ("", "–")), key=float, default=None)
    body = "".join(_row(row, known, best) for row in rows)
    return f'<table class="scores"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{_note(session, known)}'


def _of_input(session: Session) -> tuple[str, str]:
    if session.clean is None:
        level = single_level(session.noise) if session.noise is not None else 0
        return (f"{-20 * np.log10(level):.1f}" if level > 0 else "–", "")
    noisy = round_to_8bit(session.required())
    similar = ssim(session.clean, noisy) if min(noisy.shape[:2]) >= SSIM_SIDE else None
    return _number(psnr(session.clean, noisy), 2), _number(similar, 3)


def _row(row: tuple[str, ...], known: bool, best: str | None) -> str:
    label, quality, similar, speed, error = (html.escape(cell) for cell in row)
    if error:
        return f'<tr><td>{label}</td><td class="failed" colspan="{3 if known else 2}">{error}</td></tr>'
    mark = ' class="best"' if quality == best and label != "Noisy input" else ""
    ssim_cell = f"<td>{similar}</td>" if known else ""
    return f"<tr{mark}><td>{label}</td><td>{quality}</td>{ssim_cell}<td>{speed}</td></tr>"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def _note(session: Session, known: bool) -> str:
    noise = session.noise
    told = f"sigma {255 * single_level(noise):.1f} on the 8-bit scale" if noise is not None else ""
    if known:
        text = f"All methods were told {told}. PSNR after rounding to 8 bits."
    else:
        text = (
            f"All methods were told {told}. The clean picture is not known: the PSNR is Stein's unbiased estimate, "
            "right for white Gaussian noise of that level; slow methods, which would have to run twice, go without."
        )
    if noise is not None and noise.planes is not None:
        text += " The learned models use how the noise divides among luminance and chrominance, too."
    if session.better is not None and noise is not None:
        text += _advised(session.better, noise)
    return f'<p class="note">{text}</p>'


def _advised(better: Advice, noise: NoiseLevel) -> str:
    if better.sigma is None:
        return (
            " The noise is stronger where the picture is brighter, as photon noise is; "
            "<code>tnrd-denoise --noise poisson-gaussian</code> treats it so."
        )
    if single_level(noise) >= 0.8 * better.sigma:
        return ""
    return (
        " At lower resolution there is more than white noise of this level would leave. If that is noise, as in a "
        f"camera's JPEG or a scan, set sigma by hand to about {255 * better.sigma:.0f}."
    )
