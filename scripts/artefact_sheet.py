"""Look for artefacts: a table of numbers that would show them, and a sheet of enlarged details to look at.

    python scripts/artefact_sheet.py --model gray-fast gray gray-best --data ../shared/data/set12

A row of the table, in two parts, is a method, the first one the noisy pictures themselves: what it holds is there by
chance or by the nature of noise. u is the clean picture, f the noisy one by the protocol of docs/results.md, v the
result and r = v - u; a step is 1/255. Averages run over the pictures or fields, and over the colour channels.

- sigma 0: largest and mean |round(v) - round(u)| in steps, where f = u and sigma is given as 0.
- sigma 1: PSNR; the first row has it before denoising.
- flat: black, white and three greys; neither f nor v is clipped. Rest: standard deviation of r, in steps. Largest:
  |r|, in steps: false strokes, where noise looks like a structure. Bias: the largest |mean(v) - mean(f)|, in steps.
- flat, phases: the models compute on the 2 x 2 phases r[i::2, j::2] of the pixels; the largest difference between
  their means, averaged over the fields first, in steps.
- Nyquist: P(w) = |DFT(hann r)|^2, averaged; mean P within 0.023 cycles a pixel of (1/2, 0), (0, 1/2) or (1/2, 1/2)
  over mean P between 0.047 and 0.094 from it, the largest of the three in dB. A faint lattice stands out here.
- border: an inner square of f, of 128 or 127 pixels a side, denoised alone, against the same square of f denoised
  whole: 10 log10 of the ratio of mean r^2 over the 8 outermost pixels, or over the last row and column, in dB. The
  content is the same, so this is the cost of the border.
- text, black on white and white on grey: PSNR; overshoot = max(max v - max u, min u - min v) in steps, unclipped.
- tint (with --color): root mean square of v - mean of v over the channels, on text, in steps; u has none.

On the sheet "x 8" means 1/2 + 8 r, any other result is shown as it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from evaluate import build_methods, load
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tnrd.metrics import psnr, round_to_8bit
from tnrd.noise import add_noise
from tnrd.training.validation import protocol_seed

Picture = NDArray[Any]
Denoiser = Callable[[Picture, float], Picture]
Check = Callable[[Denoiser, list[Picture]], dict[str, str]]

ROOT = Path(__file__).resolve().parents[1]
FIELD = 256
GREYS = (0, 64, 128, 192, 255)
PAGES = ((0, 255), (255, 128))  # ink and paper
CORNER, SIDES, BAND = 64, (128, 127), 8
CELL, ZOOM, CAPTION, GAP = 80, 3, 20, 6


def main() -> None:
    """Parse the arguments, measure, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of clean pictures")
    parser.add_argument("--model", nargs="*", default=[], help="weights, by name or path")
    parser.add_argument("--baseline", nargs="*", default=[], help="classic denoisers, by name")
    parser.add_argument("--color", action="store_true", help="everything in colour")
    parser.add_argument("--limit", type=int, default=4, help="only the first pictures")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "figures" / "artefacts.png")
    arguments = parser.parse_args()

    names, pictures = load(arguments.data, arguments.color, arguments.limit)
    least = CORNER + max(SIDES)
    if small := [name for name, picture in zip(names, pictures, strict=True) if min(picture.shape[:2]) < least]:
        parser.error(f"pictures must have at least {least} pixels a side, smaller: {', '.join(small)}")
    built = build_methods(arguments.model, arguments.baseline, blind=False, color=arguments.color)
    methods: dict[str, Denoiser] = {name: method.denoise for name, method in built.items()}
    rows: dict[str, Denoiser] = {"noisy": lambda noisy, sigma: noisy, **methods}
    print(table(rows, pictures, (at_low_levels, on_flat_fields)))
    print(table(rows, pictures, (at_borders, on_text, on_photographs)))
    draw(samples(pictures), methods, arguments.output)


def table(methods: dict[str, Denoiser], pictures: list[Picture], checks: tuple[Check, ...]) -> str:
    """Markdown, a row for each method."""
    lines: list[str] = []
    for name, denoise in methods.items():
        cells = {"method": name}
        for check in checks:
            cells |= check(denoise, pictures)
        if not lines:
            lines = [f"| {' | '.join(cells)} |", "|---" * len(cells) + "|"]
        lines.append(f"| {' | '.join(cells.values())} |")
    return "\n".join(lines) + "\n"


def at_low_levels(denoise: Denoiser, pictures: list[Picture]) -> dict[str, str]:
    """Whether a picture without noise stays as it is, and one with hardly any gets no worse."""
    steps = [255 * np.abs(round_to_8bit(denoise(add_noise(u, 0, 0), 0.0)) - round_to_8bit(u)) for u in pictures]
    scores = [psnr(u, round_to_8bit(denoise(noised(u, 1, i), 1 / 255))) for i, u in enumerate(pictures)]
    largest, mean = max(float(step.max()) for step in steps), np.mean([step.mean() for step in steps])
    return {"sigma 0: largest / mean": f"{largest:g} / {mean:g}", "sigma 1: dB": f"{np.mean(scores):.2f}"}


def on_flat_fields(denoise: Denoiser, pictures: list[Picture]) -> dict[str, str]:
    """What is left of the noise where there is nothing else, and whether it has a bias or a lattice."""
    clean = [np.full((FIELD, FIELD, *pictures[0].shape[2:]), grey / 255) for grey in GREYS]
    rest, biases, phases = [], [], 0.0
    for sigma in (5, 25, 75):
        noisy = [noised(u, sigma, i) for i, u in enumerate(clean)]
        results = [denoise(f, sigma / 255) for f in noisy]
        residuals = [255 * (v - u) for u, v in zip(clean, results, strict=True)]
        rest.append(f"{np.mean([r.std() for r in residuals]):.2f}")
        biases += [255 * abs(float(np.mean(v - f, dtype=np.float64))) for f, v in zip(noisy, results, strict=True)]
        mean = np.mean(residuals, axis=0)
        phases = max(phases, float(np.ptp([mean[i::2, j::2].mean() for i in (0, 1) for j in (0, 1)])))
    return {
        "flat, rest: 5 / 25 / 75": " / ".join(rest),
        "flat, largest: 75": f"{np.abs(residuals).max():.0f}",
        "flat, bias": f"{max(biases):.3f}",
        "flat, phases": f"{phases:.3f}",
        "flat, Nyquist: 75": f"{nyquist_excess(residuals):+.1f}",
    }


def nyquist_excess(residuals: list[Picture]) -> float:
    """Power at the Nyquist frequencies over that in a ring around them, in dB, the largest of three."""
    found = dict.fromkeys(((0.5, 0.0), (0.0, 0.5), (0.5, 0.5)), (0.0, 0.0))
    for r in residuals:
        height, width = r.shape[:2]
        # Without a window, the jump between opposite borders would leak along the axes up to the Nyquist frequencies.
        window = np.outer(np.hanning(height), np.hanning(width)).reshape(height, width, *[1] * (r.ndim - 2))
        power = np.abs(np.fft.fft2(window * (r - r.mean((0, 1))), axes=(0, 1))) ** 2
        y, x = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)
        for corner, (near, ring) in found.items():
            distance = np.hypot(0.5 - abs(abs(y - corner[0]) - 0.5), 0.5 - abs(abs(x - corner[1]) - 0.5))
            around = (distance > 0.047) & (distance < 0.094)
            found[corner] = near + power[distance < 0.023].mean(), ring + power[around].mean()
    return float(max(10 * np.log10(near / ring) for near, ring in found.values()))


def at_borders(denoise: Denoiser, pictures: list[Picture]) -> dict[str, str]:
    """What a border costs, for an even and an odd side."""
    costs: dict[str, list[str]] = {}
    for sigma in (25, 75):
        noisy = [noised(u, sigma, i) for i, u in enumerate(pictures)]
        whole = [denoise(f, sigma / 255) for f in noisy]
        for side in SIDES:
            square = np.s_[CORNER : CORNER + side, CORNER : CORNER + side]
            clean = np.stack([u[square] for u in pictures])
            alone = np.stack([denoise(f[square], sigma / 255) for f in noisy]) - clean
            amidst = np.stack([v[square] for v in whole]) - clean
            band, last = np.ones((side, side), dtype=bool), np.zeros((side, side), dtype=bool)
            band[BAND:-BAND, BAND:-BAND] = False
            last[-1], last[:, -1] = True, True
            for name, area in (("border", band), ("last line", last)):
                ratio = np.mean(alone[:, area] ** 2) / np.mean(amidst[:, area] ** 2)
                costs.setdefault(f"{name}, {sigma}: even / odd", []).append(f"{10 * np.log10(ratio):.2f}")
    return {column: " / ".join(cells) for column, cells in costs.items()}


def on_text(denoise: Denoiser, pictures: list[Picture]) -> dict[str, str]:
    """How well letters come out, and whether they ring."""
    channels = pictures[0].shape[2:]
    scores, overshoots, tints = [], [], []
    for sigma in (25, 75):
        pages = [page(ink, paper, channels) for ink, paper in PAGES]
        results = [denoise(noised(u, sigma, i), sigma / 255) for i, u in enumerate(pages)]
        scores.append(f"{np.mean([psnr(u, round_to_8bit(v)) for u, v in zip(pages, results, strict=True)]):.2f}")
        beyond = [max(v.max() - u.max(), u.min() - v.min()) for u, v in zip(pages, results, strict=True)]
        overshoots.append(f"{255 * max(0.0, *beyond):.0f}")
        tint = [np.mean((v - v.mean(-1, keepdims=True)) ** 2) for v in results]
        tints.append(f"{255 * np.sqrt(np.mean(tint)):.2f}")
    columns = {"text: 25 / 75": " / ".join(scores), "overshoot: 25 / 75": " / ".join(overshoots)}
    return columns | ({"tint: 25 / 75": " / ".join(tints)} if channels else {})


def on_photographs(denoise: Denoiser, pictures: list[Picture]) -> dict[str, str]:
    """The highest level that the models are trained for."""
    results = [denoise(noised(u, 75, i), 75 / 255) for i, u in enumerate(pictures)]
    pairs = list(zip(pictures, results, strict=True))
    score = np.mean([psnr(u, round_to_8bit(v)) for u, v in pairs])
    return {"photographs, 75": f"{score:.2f}", "Nyquist, 75": f"{nyquist_excess([v - u for u, v in pairs]):+.1f}"}


def noised(clean: Picture, sigma: float, index: int) -> NDArray[np.float32]:
    """f by the protocol, sigma on the 8-bit scale."""
    return add_noise(clean, sigma / 255, protocol_seed(sigma, index))


def page(ink: int, paper: int, channels: tuple[int, ...]) -> NDArray[np.float64]:
    """Lines of text from 10 to 48 pixels high."""
    sheet = Image.new("L", (FIELD, FIELD), paper)
    pen, y = ImageDraw.Draw(sheet), 4
    for size in (10, 12, 14, 18, 24, 36, 48):
        pen.text((4, y), "Reaction diffusion 0123456789 keeps edges", fill=ink, font=ImageFont.load_default(size=size))
        y += round(1.35 * size)
    letters = np.asarray(sheet) / 255
    return letters if not channels else np.repeat(letters[..., None], channels[0], axis=-1)


class Sample(NamedTuple):
    """A row of the sheet: what is denoised, the corner of the detail, and for differences u and their gain."""

    caption: str
    noisy: Picture
    sigma: float
    corner: tuple[int, int]
    clean: Picture | None = None
    gain: int = 1


def samples(pictures: list[Picture]) -> list[Sample]:
    """The rows of the sheet."""
    first, channels = pictures[0], pictures[0].shape[2:]
    flat = np.full((FIELD, FIELD, *channels), 0.5)
    middle = (first.shape[0] // 2 - CELL // 2, first.shape[1] // 2 - CELL // 2)
    odd, last = SIDES[-1], SIDES[-1] - CELL
    square, plain = noised(first, 25, 0)[CORNER : CORNER + odd, CORNER : CORNER + odd], flat[:odd, :odd]
    return [
        Sample("sigma 0", add_noise(first, 0, 0), 0, middle, first, 64),
        Sample("flat, sigma 75", noised(flat, 75, 0), 75, (88, 88), flat, 8),
        Sample("text, sigma 25", noised(page(*PAGES[0], channels), 25, 0), 25, (8, 8)),
        Sample("text, sigma 75", noised(page(*PAGES[1], channels), 75, 1), 75, (136, 8)),
        Sample("odd lower right corner, sigma 25", square, 25, (last, last)),
        Sample("the same, flat, sigma 75", noised(plain, 75, 0), 75, (last, last), plain, 4),
        Sample("photograph, sigma 75", noised(first, 75, 0), 75, middle),
    ]


def draw(rows: list[Sample], methods: dict[str, Denoiser], output: Path) -> None:
    """Details with captions: the noisy ones, then each method's, pixels enlarged and otherwise as they are."""
    cell = CELL * ZOOM
    size = (GAP + (len(methods) + 1) * (cell + GAP), len(rows) * (cell + CAPTION) + GAP)
    sheet = Image.new("RGB" if rows[0].noisy.ndim == 3 else "L", size, "white")
    pen = ImageDraw.Draw(sheet)
    for i, row in enumerate(rows):
        shown = {row.caption: row.noisy}
        for name, denoise in methods.items():
            result = denoise(row.noisy, row.sigma / 255)
            if row.clean is None:
                shown[name] = result
            else:
                shown[f"{name}, x {row.gain}"] = 0.5 + row.gain * (result - row.clean)
        for j, (caption, picture) in enumerate(shown.items()):
            y, x = row.corner
            detail = np.rint(255 * np.clip(picture[y : y + CELL, x : x + CELL], 0, 1)).astype(np.uint8)
            left, top = GAP + j * (cell + GAP), i * (cell + CAPTION)
            pen.text((left, top + 3), caption[-36:], fill="black", font=ImageFont.load_default(size=12))
            sheet.paste(Image.fromarray(detail).resize((cell, cell), Image.Resampling.NEAREST), (left, top + CAPTION))
    sheet.save(output, optimize=True)
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
