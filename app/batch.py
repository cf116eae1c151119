"""The tab *Batch*: several files, one zip with a report."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tnrd import __version__
from tnrd.inference.levels import estimate_noise, given_noise
from tnrd.inference.loading import load
from tnrd.inference.restore import restore

from .limits import MAX_BATCH_FILES, MAX_BATCH_PIXELS
from .methods import weights_of
from .pictures import PageError, read_upload, write_result
from .session import Session, single_level
from .uploads import Sent

Report = Callable[[float, str], None]


def denoise_files(
    session: Session, files: Sequence[Sent], key: str, sigma: float | None, report: Report, ticket: int
) -> tuple[str, list[list[str]]]:
    """Denoise files one after the other; a bad one is reported and does not stop the others.

    Args:
        session: A folder of its takes the zip.
        files: Where each upload lies, and what the visitor called it.
        key: Name of the weights.
        sigma: Noise level on the 8-bit scale, None to estimate it for each file.
        report: Told the share that is done and the name of the file.
        ticket: Of :meth:`Session.take_ticket`; with another one than the latest, the rest is left out.

    Returns:
        The zip, which holds the results and report.json; and rows (file, noise level, outcome) for a table.

    Raises:
        PageError: There are no files, or too many.
    """
    if not files:
        raise PageError("Choose some files first.")
    if len(files) > MAX_BATCH_FILES:
        raise PageError(f"This page takes {MAX_BATCH_FILES} files at a time; `tnrd-denoise` takes whole folders.")
    entries: list[dict[str, Any]] = []
    room = MAX_BATCH_PIXELS
    folder = session.place_of_batch()
    archive = Path(folder) / "denoised.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as zipped:
        for done, (path, name) in enumerate(files):
            if session.tickets["batch"] != ticket:
                entries += [{"input": other, "error": "cancelled"} for _, other in files[done:]]
                break
            report(done / len(files), name)
            try:
                result, entry = _denoise_file(folder, path, name, key, sigma, room)
            except (PageError, ValueError, MemoryError, RuntimeError, OSError) as error:
                # What an OSError says of itself names a place on the server.
                reason = str((isinstance(error, OSError) and error.strerror) or error)
                entries.append({"input": name, "error": " ".join(reason.split()) or type(error).__name__})
                continue
            room -= entry["width"] * entry["height"]
            entry["output"] = _free_name(Path(result).name, {entry.get("output", "") for entry in entries})
            zipped.write(result, entry["output"])
            Path(result).unlink()
            entries.append(entry)
        report_of_all = {"version": __version__, "files": entries}
        zipped.writestr("report.json", json.dumps(report_of_all, indent=2, ensure_ascii=False))
    rows = [[e["input"], f"{e['sigma']:.1f}" if "sigma" in e else "", e.get("error") or e["output"]] for e in entries]
    return str(archive), rows


def _denoise_file(
    folder: str, path: str, name: str, key: str, sigma: float | None, room: int
) -> tuple[str, dict[str, Any]]:
    picture = read_upload(path, name)
    height, width = picture.pixels.shape[:2]
    if height * width > room:
        raise PageError("left out: more pixels than this page takes in one batch")
    noise = estimate_noise(picture.pixels) if sigma is None else given_noise(sigma / 255, picture.pixels)
    weights = weights_of(key, picture.pixels, noise)
    restored = restore(picture.pixels, load(weights, "cpu"), noise)
    source = "estimated" if sigma is None else "given"
    facts = {"sigma": round(255 * single_level(noise), 3), "sigma_source": source}
    return write_result(picture, restored, folder, name, key), {
        "input": name,
        "width": width,
        "height": height,
        "weights": {"name": weights.name, "sha256": weights.sha256},
        **facts,
    }


def _free_name(name: str, taken: set[str]) -> str:
    path, count = Path(name), 1
    while name in taken:
        count += 1
        name = f"{path.stem}-{count}{path.suffix}"
    return name
