"""What the page computes, without the page."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

pytest.importorskip("gradio")

from app import batch, compare, diffusion, inside, limits, methods, removed
from app import session as sessions
from app.methods import Stopwatch, duration
from app.pictures import PageError, centre, file_stem, read_upload, write_png
from app.session import Session, luminance
from tnrd.image_io.pillow import turn_upright
from tnrd.metrics import psnr, round_to_8bit
from tnrd.whiteness import judge_residual

SIDE = 48


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "server"))
    return tmp_path


@pytest.fixture
def session(folder: Path) -> Iterator[Session]:
    one = Session()
    yield one
    one.close()


def picture(folder: Path, *, colour: bool = False, name: str = "disc.png", side: int = SIDE, **options: Any) -> Path:
    y, x = np.mgrid[:side, :side] / side
    disc = np.where((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.1, 200, 60).astype(np.uint8)
    path = folder / name
    Image.fromarray(np.dstack([disc, disc // 2, 255 - disc]) if colour else disc).save(path, **options)
    return path


def size_of(path: str) -> tuple[int, int]:
    with Image.open(path) as opened:
        return opened.size


def begin(session: Session, path: Path, noise: str = "gaussian", level: float = 25.0) -> None:
    compare.open_upload(session, str(path), path.name, noise, level)


def running(session: Session, *keys: str, sigma: float | None = 25.0) -> Iterator[str]:
    ticket = session.take_ticket("run")
    return compare.denoise_all(session, keys, sigma, 1.0, lambda share, what: None, ticket)


def denoise(session: Session, *keys: str, sigma: float | None = 25.0) -> list[str]:
    return list(running(session, *keys, sigma=sigma))


def denoise_files(session: Session, files: list[tuple[str, str]]) -> tuple[str, list[list[str]]]:
    ticket = session.take_ticket("batch")
    return batch.denoise_files(session, files, "gray-fast", None, lambda share, name: None, ticket)


@pytest.mark.parametrize("colour", [False, True], ids=["grey", "colour"])
def test_scores_are_those_of_the_rounded_results(session: Session, folder: Path, colour: bool) -> None:
    begin(session, picture(folder, colour=colour))
    assert denoise(session, "tv", "gray-fast", "median") == ["gray-fast", "median", "tv"]
    for key, result in session.results.items():
        stored = session.load(key)
        assert result.psnr == pytest.approx(psnr(session.clean, round_to_8bit(stored)))
        assert np.array_equal(np.asarray(Image.open(result.png)), np.rint(np.clip(stored, 0, 1) * 255))
    assert "TNRD fast" in compare.table(session)


def test_a_method_that_fails_leaves_the_others_alone(
    session: Session, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(session, picture(folder))
    right = methods.run

    def run(method: methods.Method, *rest: Any) -> Any:
        if method.key == "tv":
            raise ValueError("It <fell> over.")
        return right(method, *rest)

    monkeypatch.setattr(compare, "run", run)
    denoise(session, "tv", "gray-fast")
    assert session.results["tv"].error == "It <fell> over."
    assert session.results["gray-fast"].psnr is not None
    assert "It &lt;fell&gt; over." in compare.table(session)
    assert [key for _, key in compare.choices(session)] == ["input", "clean", "gray-fast"]


def test_without_a_clean_picture_the_error_is_estimated(session: Session, folder: Path) -> None:
    clean = np.asarray(Image.open(picture(folder, side=192)))
    noisy = clean + np.random.default_rng(0).normal(0, 20, clean.shape)
    path = folder / "noisy.tif"
    Image.fromarray((noisy / 255).astype(np.float32)).save(path)
    begin(session, path, "none")
    denoise(session, "gray-fast", sigma=20.0)
    result = session.results["gray-fast"]
    truth = psnr(clean / 255, session.load("gray-fast"))
    assert result.psnr is None
    assert result.estimated_psnr == pytest.approx(truth, abs=0.8)
    assert "Stein" in compare.table(session)


def test_work_stops_when_the_visitor_cancels_or_moves_on(session: Session, folder: Path) -> None:
    begin(session, picture(folder))
    cancelled = running(session, "gray-fast", "tv")
    assert next(cancelled) == "gray-fast"
    session.take_ticket("run")
    assert list(cancelled) == []
    assert list(session.results) == ["gray-fast"]
    overtaken = running(session, "gray-fast", "tv")
    assert next(overtaken) == "gray-fast"
    begin(session, picture(folder, name="other.png"))
    assert list(overtaken) == []
    assert session.results == {}


def test_work_that_was_cancelled_in_line_changes_nothing(session: Session, folder: Path) -> None:
    begin(session, picture(folder))
    denoise(session, "tv")
    waiting = running(session, "gray-fast")
    session.take_ticket("run")
    assert list(waiting) == []
    assert list(session.results) == ["tv"]


def test_what_takes_too_long_is_refused_before_it_runs(
    session: Session, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(session, picture(folder))
    denoise(session, "tv")
    monkeypatch.setattr(compare, "MAX_SECONDS", 1e-9)
    with pytest.raises(PageError, match="too long"):
        denoise(session, "wnnm")
    assert list(session.results) == ["tv"], "what is on the screen can still be downloaded"


def test_a_picture_that_comes_amid_the_estimate_is_not_taken_at_that_level(
    session: Session, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = picture(folder, colour=True), picture(folder, name="other.png")
    estimate = sessions.estimate_noise

    def interrupted(pixels: Any) -> Any:
        found = estimate(pixels)
        begin(session, other)
        return found

    monkeypatch.setattr(sessions, "estimate_noise", interrupted)
    begin(session, first)
    assert denoise(session, "gray-fast", sigma=None) == []
    for look in (
        lambda: diffusion.compute(session, "gray-fast", None),
        lambda: inside.without(session, "gray-fast", 0, 0, None),
        lambda: inside.kernel_at(session, "gray-fast", 3, 3, None),
    ):
        begin(session, first)
        with pytest.raises(PageError, match="changed meanwhile"):
            look()
    assert (session.results, session.noise, session.states) == ({}, None, [])


def test_the_states_of_the_diffusion_outlast_a_comparison(session: Session, folder: Path) -> None:
    begin(session, picture(folder))
    diffusion.compute(session, "gray-fast", 25.0)
    denoise(session, "tv")
    assert session.states and diffusion.frame(session, 1)
    begin(session, picture(folder))
    assert session.states == []


def test_there_has_to_be_a_picture_and_a_method(session: Session, folder: Path) -> None:
    with pytest.raises(PageError, match="Choose a picture first"):
        denoise(session, "gray")
    begin(session, picture(folder))
    with pytest.raises(PageError, match="at least one method"):
        denoise(session)


@pytest.mark.parametrize("noise", ["poisson", "salt", "jpeg"])
def test_every_noise_can_be_added(session: Session, folder: Path, noise: str) -> None:
    begin(session, picture(folder, colour=True), noise, 20)
    assert session.noisy is not None
    assert session.clean is not None
    assert 0 < np.abs(session.noisy - session.clean).mean() < 0.3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_click_finds_the_pixel_of_the_file(folder: Path, orientation: int) -> None:
    stored = np.arange(15, dtype=np.uint8).reshape(3, 5)
    shown = turn_upright(stored, orientation)
    for y, x in np.ndindex(shown.shape):
        assert stored[inside.stored_place(x, y, stored.shape, orientation)] == shown[y, x]


def test_the_download_has_depth_profile_and_orientation(session: Session, folder: Path) -> None:
    exif = Image.Exif()
    exif[274] = 8
    path = picture(folder, colour=True, exif=exif, icc_profile=b"p" * 200)
    begin(session, path, "none")
    denoise(session, "gray-fast", sigma=10.0)
    result = compare.download_of(session, "gray-fast")
    assert result is not None
    assert Path(result).name == "disc-gray-fast.png"
    with Image.open(result) as opened:
        assert opened.getexif()[274] == 8
        assert opened.info["icc_profile"] == b"p" * 200
        assert np.array_equal(np.asarray(opened), np.rint(np.clip(session.load("gray-fast"), 0, 1) * 255))
    assert compare.download_of(session, "input") is None


def test_the_residual_is_judged(session: Session, folder: Path) -> None:
    begin(session, picture(folder, side=128))
    denoise(session, "gray-fast")
    found = removed.removed(session, "gray-fast")
    assert found is not None
    shown = np.asarray(Image.open(found[0])) / 255
    expected = 0.5 + removed.GAIN * (session.noisy - session.load("gray-fast"))
    np.testing.assert_allclose(shown, np.clip(expected, 0, 1), atol=0.51 / 255)
    judged = judge_residual(session.noisy, session.load("gray-fast"), 25 / 255)
    assert found[2] == judged.sentence
    assert judged.verdict == "white"
    assert removed.removed(session, "tv") is None


def test_grey_stored_as_colour_is_grey(session: Session, folder: Path) -> None:
    """Else the classics would take noise that the channels share for independent, and leave it."""
    grey = np.asarray(Image.open(picture(folder)))
    path = folder / "rgb.png"
    Image.fromarray(np.dstack([grey] * 3)).save(path)
    begin(session, picture(folder))
    denoise(session, "tv", "gray-fast")
    plain = {key: result.psnr for key, result in session.results.items()}
    begin(session, path)
    denoise(session, "tv", "gray-fast")
    assert {key: result.psnr for key, result in session.results.items()} == plain
    diffusion.compute(session, "gray-fast", 25.0)
    last = np.load(Path(session.place()) / session.states[-1])
    np.testing.assert_allclose(last, session.load("gray-fast"), atol=2e-6)
    with Image.open(compare.download_of(session, "tv")) as result:
        assert result.mode == "RGB"


def test_each_view_has_the_noise_level_of_its_picture(session: Session, folder: Path) -> None:
    path = picture(folder, side=128)
    begin(session, path, level=10.0)
    denoise(session, "gray-fast", sigma=None)
    begin(session, path, level=60.0)
    assert session.noise is None
    diffusion.compute(session, "gray-fast", 50.0)
    by_hand = np.load(Path(session.place()) / session.states[-1])
    denoise(session, "gray-fast", sigma=50.0)
    np.testing.assert_allclose(by_hand, session.load("gray-fast"), atol=2e-6)


def test_correlated_noise_is_said(session: Session, folder: Path) -> None:
    clean = np.asarray(Image.open(picture(folder, side=192))).astype(float)
    noise = gaussian_filter(np.random.default_rng(0).standard_normal(clean.shape), 0.7)
    path = folder / "jpeg_like.png"
    Image.fromarray(np.clip(clean + 12 * noise / noise.std(), 0, 255).astype(np.uint8)).save(path)
    begin(session, path, "none")
    denoise(session, "gray-fast", sigma=None)
    found = removed.removed(session, "gray-fast")
    assert found is not None
    assert "correlated from pixel to pixel" in found[2]
    advised = re.search(r"set sigma by hand to about (\d+)\.", compare.table(session))
    assert advised is not None
    assert 11 < int(advised[1]) < 25
    denoise(session, "gray-fast", sigma=float(advised[1]))
    assert "by hand" not in compare.table(session)
    begin(session, path, "gaussian", 5.0)  # noise that was added here is known
    denoise(session, "gray-fast", sigma=None)
    assert "by hand" not in compare.table(session)


@pytest.mark.parametrize("colour", [False, True], ids=["grey", "colour"])
def test_the_last_state_of_the_diffusion_is_the_result(session: Session, folder: Path, colour: bool) -> None:
    begin(session, picture(folder, colour=colour))
    denoise(session, "gray-fast")
    steps, _, sentence = diffusion.compute(session, "gray-fast", 25.0)
    last = np.load(Path(session.place()) / session.states[steps])
    np.testing.assert_allclose(last, session.load("gray-fast"), atol=2e-6)
    assert "no single energy" in sentence
    assert diffusion.frame(session, 0)[1] is None
    assert "Step 1 of" in diffusion.frame(session, 1)[2]


@pytest.mark.parametrize("colour", [False, True], ids=["grey", "colour"])
def test_the_kernel_at_a_pixel_and_a_muted_filter(session: Session, folder: Path, colour: bool) -> None:
    begin(session, picture(folder, colour=colour))
    _, sentence = inside.kernel_at(session, "gray-fast", 10, 12, 25.0)
    assert "weights add up to 1.000" in sentence
    without, difference, effect = inside.without(session, "gray-fast", 0, 3, 25.0)
    assert size_of(without) == size_of(difference) == (SIDE, SIDE)
    assert "Without filter 4" in effect


def test_every_filter_is_found_under_its_picture(session: Session) -> None:
    sheet, _ = inside.sheet(session, "gray-fast", 0)
    width, height = size_of(sheet)
    count = len(inside.operators("gray-fast", 0))
    step = inside.CELL + inside.CAPTION
    found = [
        inside.filter_at("gray-fast", 0, x + 5, y + 5)
        for y in range(0, height, step)
        for x in range(0, width, inside.CELL)
    ]
    assert found == list(range(count))
    assert inside.describe("gray-fast", 0, 0).startswith("Filter 1 of step 1")


def test_a_batch_reports_what_is_bad_and_keeps_names_apart(session: Session, folder: Path) -> None:
    good, twin = picture(folder), picture(folder, name="disc.bmp")
    (folder / "bad.png").write_bytes(b"nothing")
    files = [(str(path), path.name) for path in (good, folder / "bad.png", twin)]
    archive, rows = denoise_files(session, files)
    with zipfile.ZipFile(archive) as zipped:
        report = json.loads(zipped.read("report.json"))
        assert set(zipped.namelist()) == {"disc-gray-fast.png", "disc-gray-fast-2.png", "report.json"}
    assert [len(entry["weights"]["sha256"]) for entry in report["files"] if "weights" in entry] == [64, 64]
    assert "could not be read" in rows[1][2]
    with pytest.raises(PageError, match="at a time"):
        denoise_files(session, files * limits.MAX_BATCH_FILES)


def test_a_batch_has_nothing_to_do_with_the_picture(session: Session, folder: Path) -> None:
    sent = [(str(picture(folder, name=f"{i}.png")), f"{i}.png") for i in range(3)]

    def meanwhile(share: float, name: str) -> None:
        session.clear()
        begin(session, picture(folder))

    archives = []
    for _ in range(3):
        ticket = session.take_ticket("batch")
        archives.append(Path(batch.denoise_files(session, sent, "gray-fast", 25.0, meanwhile, ticket)[0]))
    with zipfile.ZipFile(archives[-1]) as zipped:
        assert len(json.loads(zipped.read("report.json"))["files"]) == 3
        assert zipped.namelist() == ["0-gray-fast.png", "1-gray-fast.png", "2-gray-fast.png", "report.json"]
    assert [archive.exists() for archive in archives] == [False, True, True]
    session.close()
    assert not any(archive.exists() for archive in archives)


def test_a_batch_beyond_the_limit_is_left_out_before_it_is_done(
    session: Session, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MAX_BATCH_PIXELS", SIDE * SIDE + 1)
    paths = [picture(folder, name=name) for name in ("a.png", "b.png")]
    _, rows = denoise_files(session, [(str(path), path.name) for path in paths])
    assert rows[0][2] == "a-gray-fast.png"
    assert "left out" in rows[1][2]


def test_a_large_upload_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = picture(folder)
    monkeypatch.setattr("app.pictures.MAX_FILE_BYTES", 10)
    with pytest.raises(PageError, match="takes up to"):
        read_upload(str(path), "disc.png")


@pytest.mark.parametrize(
    ("name", "stem"),
    [("../../etc/passwd", "passwd"), ("Zürich, 3 Uhr.png", "Zürich_3_Uhr"), ("...", "picture"), ("", "picture")],
)
def test_file_names_are_harmless(name: str, stem: str) -> None:
    assert file_stem(name) == stem


@pytest.mark.parametrize(
    ("name", "expected"),
    [("IMG.2024.jpg", "IMG.2024-tv.png"), ("x" * 90 + ".png", "x" * 60 + "-tv.png"), ("a b.png", "a_b-tv.png")],
)
def test_downloads_are_called_after_picture_and_method(
    session: Session, folder: Path, name: str, expected: str
) -> None:
    path = picture(folder)
    compare.open_upload(session, str(path), name, "gaussian", 25.0)
    denoise(session, "tv")
    first = compare.download_of(session, "tv")
    assert first is not None
    assert Path(first).name == expected
    denoise(session, "tv")
    assert compare.download_of(session, "tv") != first  # the former may still be on its way


def test_the_middle_begins_on_a_cell() -> None:
    rows, columns = centre(np.zeros((101, 50)), 20)
    assert rows.start % 2 == columns.start % 2 == 0
    assert np.zeros((101, 50))[rows, columns].shape == (20, 20)


def test_pngs_have_new_names(folder: Path) -> None:
    image = np.zeros((4, 4), np.uint8)
    assert write_png(image, str(folder), "x") != write_png(image, str(folder), "x")


def test_time_estimates_follow_the_machine() -> None:
    watch, method = Stopwatch(), methods.methods()["gray"]
    before = watch.estimate(method, (1000, 1000))
    watch.learn(method, (1000, 1000), 40 * before)  # it shared its cores
    watch.learn(method, (1000, 1000), 3 * before)
    assert watch.estimate(method, (1000, 1000)) == pytest.approx(3 * before)
    assert watch.estimate(method, (1000, 1000, 3)) == pytest.approx(9 * before)
    assert (duration(0.3), duration(12.4), duration(300)) == ("under a second", "about 12 s", "about 5 min")


def test_every_classic_has_a_name_and_a_time() -> None:
    classics = {key for key, method in methods.methods().items() if not method.learned}
    assert classics <= set(methods.LABELS)
    assert set(methods.methods()) <= set(methods.SECONDS)


def test_luminance_is_what_the_model_sees_of_colour(session: Session, folder: Path) -> None:
    begin(session, picture(folder, colour=True))
    plane, level = luminance(session.required(), session.level(30.0))
    np.testing.assert_allclose(plane, session.required().mean(axis=2), atol=1e-6)
    assert level == pytest.approx(30 / 255 / np.sqrt(3))
