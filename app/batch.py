"""The tab *Batch*: several files, one zip with a report."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tnrd import __version__
from tnrd.inference.levels import estimate_noise, given_noise
from tnrd.inference.restore import restore
from tnrd.weights import find_weights

from .limits import MAX_BATCH_FILES, MAX_BATCH_PIXELS
from .methods import network
from .pictures import PageError, file_stem, read_upload, write_result
from .session import Session

Report = Callable[[float, str], None]


def denoise_files(
    session: Session, files: Sequence[tuple[str, str]], key: str, sigma: float | None, report: Report
) -> tuple[str, list[list[str]]]:
    """Denoise files one after the other; a bad one is reported and does not stop the others.

    Args:
        session: Its folder takes the zip.
        files: Where each upload lies, and what the visitor called it.
        key: Name of the weights.
        sigma: Noise level on the 8-bit scale, None to estimate it for each file.
        report: Told the share that is done and the name of the file.

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
    pixels = 0
    archive = Path(session.place()) / "denoised.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as zipped:
        for done, (path, name) in enumerate(files):
            if session.cancelled:
                entries += [{"input": other, "error": "cancelled"} for _, other in files[done:]]
                break
            report(done / len(files), name)
            try:
                result, entry = _denoise_file(session, path, name, key, sigma)
            except (PageError, ValueError) as error:
                entries.append({"input": name, "error": str(error)})
                continue
            pixels += entry["width"] * entry["height"]
            if pixels > MAX_BATCH_PIXELS:
                entries.append({"input": name, "error": "left out: more pixels than this page takes in one batch"})
                continue
            entry["output"] = _free_name(Path(result).name, {entry.get("output", "") for entry in entries})
            zipped.write(result, entry["output"])
            Path(result).unlink()
            entries.append(entry)
        weights = find_weights(key)
        head = {"version": __version__, "weights": {"name": weights.name, "sha256": weights.sha256}}
        zipped.writestr("report.json", json.dumps({**head, "files": entries}, indent=2, ensure_ascii=False))
    rows = [[e["input"], f"{e['sigma']:.1f}" if "sigma" in e else "", e.get("error") or e["output"]] for e in entries]
    return str(archive), rows


def _denoise_file(session: Session, path: str, name: str, key: str, sigma: float | None) -> tuple[str, dict[str, Any]]:
    picture = read_upload(path, name)
    noise = estimate_noise(picture.pixels) if sigma is None else given_noise(sigma / 255, picture.pixels)
    restored = restore(picture.pixels, network(key), noise)
    height, width = picture.pixels.shape[:2]
    level = 255 * float(np.sqrt(np.mean(np.square(noise.levels))))
    source = "estimated" if sigma is None else "given"
    entry = {"input": name, "width": width, "height": height, "sigma": round(level, 3), "sigma_source": source}
    return write_result(picture, restored, session.place(), f"{file_stem(name)}-{key}"), entry


def _free_name(name: str, taken: set[str]) -> str:
    path, count = Path(name), 1
    while name in taken:
        count += 1
        name = f"{path.stem}-{count}{path.suffix}"
    return name
