"""The web page in a real browser, as a visitor uses it."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_process import CHROMIUM
from PIL import Image

from tnrd.metrics import psnr

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("gradio")
pytestmark = [pytest.mark.browser, pytest.mark.slow]

FLAGS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
PATIENCE = 60_000  # milliseconds; a busy machine is slow


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


class Visitor:
    """A tab of its own, and all that went wrong in it."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.tab = browser.new_page(**{"viewport": {"width": 1400, "height": 1000}, **options})
        self.tab.set_default_timeout(PATIENCE)
        self.complaints: list[str] = []
        self.elsewhere: list[str] = []
        self.tab.on("console", self._heard)
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("request", self._asked)
        self.tab.goto(address)
        self.tab.wait_for_selector("table.scores")  # the example, denoised

    def _heard(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")):
            self.elsewhere.append(request.url)

    def upload(self, name: str, content: bytes) -> None:
        mime = "image/svg+xml" if name.endswith("svg") else "image/png"
        field = self.tab.locator("#upload input[type=file]")
        if not field.count():
            self.tab.locator("#upload [aria-label='Remove Image']").first.click()
            field.wait_for(state="attached")
        field.set_input_files({"name": name, "mimeType": mime, "buffer": content})

    def choose(self, elem_id: str, label: str) -> None:
        self.tab.locator(f"#{elem_id} input").first.click()
        self.tab.get_by_role("option", name=label, exact=True).click()

    def denoise(self) -> None:
        self.tab.click("#go")

    def rows(self) -> list[str]:
        return self.tab.locator("table.scores tbody tr td:first-child").all_inner_texts()

    def pixels(self, selector: str) -> np.ndarray:
        """What the browser received for a picture, decoded."""
        source = self.tab.locator(selector).first.get_attribute("src")
        return np.asarray(Image.open(io.BytesIO(self.tab.request.get(source).body())))

    def check(self) -> None:
        assert not self.complaints
        assert not self.elsewhere


@pytest.fixture
def visitor(chromium: Any, page_address: str) -> Iterator[Visitor]:
    one = Visitor(chromium, page_address)
    yield one
    one.tab.close()


def png(pixels: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", **options)
    return stream.getvalue()


def orientation_exif(value: int) -> bytes:
    exif = Image.Exif()
    exif[274] = value
    return exif.tobytes()


def noisy_picture(side: int = 96, sigma: float = 20.0, seed: int = 0, dtype: type = np.uint8) -> np.ndarray:
    y, x = np.mgrid[:side, :side] / side
    clean = 0.2 + 0.6 * (((x - 0.5) ** 2 + (y - 0.4) ** 2) < 0.08)
    noisy = clean + sigma / 255 * np.random.default_rng(seed).standard_normal(clean.shape)
    top = np.iinfo(dtype).max
    return np.rint(np.clip(noisy, 0, 1) * top).astype(dtype)


def wait_for_input(visitor: Visitor, pixels: np.ndarray) -> None:
    """Until the slider shows this picture on the left."""
    for _ in range(100):
        images = visitor.tab.locator("#slider img")
        if images.count() and np.array_equal(visitor.pixels("#slider img"), pixels):
            return
        visitor.tab.wait_for_timeout(200)
    raise AssertionError("The slider never showed the uploaded pixels.")


def test_a_newcomer_sees_a_result_at_once(visitor: Visitor) -> None:
    assert visitor.rows()[:2] == ["Noisy input", "TNRD"]
    shown = {image.get_attribute("src") for image in visitor.tab.locator("#slider img").all()}
    assert len(shown) == 2
    visitor.check()


def test_the_browser_gets_exactly_the_pixels(visitor: Visitor) -> None:
    noisy = noisy_picture()
    visitor.upload("specks.png", png(noisy))
    wait_for_input(visitor, noisy)
    visitor.denoise()
    visitor.tab.wait_for_selector("table.scores")
    with visitor.tab.expect_download() as coming:
        visitor.tab.click("#download")
    result = np.asarray(Image.open(coming.value.path()))
    received = [visitor.pixels(f"#slider img >> nth={i}") for i in range(visitor.tab.locator("#slider img").count())]
    assert any(np.array_equal(pixels, noisy) for pixels in received)
    assert any(np.array_equal(pixels, result) for pixels in received)
    assert not np.array_equal(noisy, result)
    visitor.check()


def test_denoise_compare_and_walk_through_the_tabs(visitor: Visitor) -> None:
    visitor.denoise()
    visitor.tab.wait_for_function("document.querySelectorAll('table.scores tbody tr').length == 5")
    assert set(visitor.rows()) == {
        "Noisy input",
        "TNRD",
        "Non-local means (OpenCV)",
        "Total variation",
        "Bilateral filter",
    }
    visitor.choose("second", "Total variation")
    visitor.tab.keyboard.press("Escape")
    handle = visitor.tab.locator("#slider .outer, #slider [role=slider], #slider .inner").first
    before = handle.bounding_box()
    visitor.tab.locator("#introduction").click()
    visitor.tab.keyboard.press("a")
    visitor.tab.wait_for_function(
        "x => Math.abs(document.querySelector('#slider .outer, #slider [role=slider], #slider .inner')"
        ".getBoundingClientRect().x - x) > 50",
        arg=before["x"],
    )
    visitor.tab.get_by_role("tab", name="What was removed").click()
    visitor.tab.wait_for_selector("#removed-plots img")
    assert "looks like plain noise" in visitor.tab.locator("#verdict").inner_text()
    visitor.tab.get_by_role("tab", name="The diffusion").click()
    visitor.tab.click("#diffusion-go")
    visitor.tab.wait_for_selector("#curves img")
    last = visitor.tab.locator("#state img").get_attribute("src")
    visitor.tab.locator("#step input[type=number]").fill("1")
    visitor.tab.keyboard.press("Enter")
    visitor.tab.wait_for_function("src => document.querySelector('#state img')?.getAttribute('src') != src", arg=last)
    visitor.check()


def test_look_inside_the_model(visitor: Visitor) -> None:
    visitor.tab.get_by_role("tab", name="Inside the model").click()
    visitor.tab.wait_for_selector("#influence img")
    before = visitor.tab.locator("#operator").inner_text()
    assert before.startswith("Filter 1 of step 1")
    sheet = visitor.tab.locator("#sheet img")
    box = sheet.bounding_box()
    sheet.click(position={"x": box["width"] * 0.3, "y": box["height"] * 0.3})
    visitor.tab.wait_for_function(
        "text => document.querySelector('#operator').innerText.trim() != text.trim()", arg=before
    )
    visitor.tab.click("#mute")
    visitor.tab.wait_for_selector("#difference img")
    assert "Without filter" in visitor.tab.locator("#effect").inner_text()
    visitor.tab.locator("#pixels img").click(position={"x": 100, "y": 120})
    visitor.tab.wait_for_selector("#kernel img")
    assert "weights add up to" in visitor.tab.locator("#explanation").inner_text()
    visitor.check()


def test_a_deep_picture_comes_back_deep_and_upright_as_it_was(visitor: Visitor) -> None:
    noisy = noisy_picture(64, dtype=np.uint16)
    visitor.upload("deep.png", png(noisy, exif=orientation_exif(6)))
    turned = np.rot90(np.rint(noisy / 257).astype(np.uint8), -1)
    wait_for_input(visitor, turned)
    visitor.denoise()
    visitor.tab.wait_for_selector("table.scores")
    with visitor.tab.expect_download() as coming:
        visitor.tab.click("#download")
    assert coming.value.suggested_filename == "deep-gray.png"
    with Image.open(coming.value.path()) as result:
        assert result.getexif()[274] == 6
        assert result.size == (64, 64)
        assert np.asarray(result).max() > 255
    visitor.check()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("empty.png", b"", "empty"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "SVG"),
        ("page.png", b"<html><script>alert(1)</script></html>", "web page"),
        ("half.png", png(noisy_picture())[:900], "truncated"),
        ("letter.jpg", b"Dear reader, this is no picture.", "text"),
    ],
)
def test_what_is_no_picture_is_refused_in_a_sentence(
    visitor: Visitor, name: str, content: bytes, sentence: str
) -> None:
    visitor.upload(name, content)
    toast = visitor.tab.locator(".toast-body")
    toast.first.wait_for()
    text = toast.first.inner_text()
    assert name in text
    assert sentence in text
    assert "Traceback" not in text
    visitor.tab.wait_for_function("document.querySelector('#upload img')?.naturalWidth == 512")  # the former picture
    visitor.check()


def test_cancel_keeps_what_is_done(visitor: Visitor) -> None:
    visitor.tab.locator("#classics input").first.click()
    visitor.tab.get_by_role("option", name="WNNM").click()
    visitor.tab.keyboard.press("Escape")
    visitor.denoise()
    visitor.tab.wait_for_function("document.querySelectorAll('table.scores tbody tr').length == 5")
    visitor.tab.click("#stop")
    visitor.tab.get_by_text("Stopping; what is done stays.").wait_for()
    # The estimate comes back when the run has ended; had it gone on, WNNM would be in the table by then.
    visitor.tab.get_by_text("Will take").wait_for()
    assert "WNNM" not in visitor.rows()
    assert len(visitor.rows()) == 5
    visitor.check()


def test_two_visitors_at_once_do_not_see_each_other(chromium: Any, page_address: str) -> None:
    visitors = [Visitor(chromium, page_address) for _ in range(2)]
    pictures = [noisy_picture(seed=seed) for seed in (1, 2)]
    for one, picture in zip(visitors, pictures, strict=True):
        one.upload("mine.png", png(picture))
    for one, picture in zip(visitors, pictures, strict=True):
        wait_for_input(one, picture)
        one.denoise()
    for one, picture in zip(visitors, pictures, strict=True):
        one.tab.wait_for_selector("table.scores")
        assert np.array_equal(one.pixels("#slider img"), picture)
        one.check()
        one.tab.close()


def test_a_batch_gives_a_zip_with_a_report(visitor: Visitor) -> None:
    visitor.tab.get_by_role("tab", name="Batch").click()
    files = [("a.png", png(noisy_picture(96))), ("broken.png", b"no picture"), ("b.png", png(noisy_picture(80)))]
    visitor.tab.locator("#batch-files input[type=file]").set_input_files(
        [{"name": name, "mimeType": "image/png", "buffer": content} for name, content in files]
    )
    visitor.tab.wait_for_timeout(1000)
    visitor.tab.click("#batch-go")
    link = visitor.tab.locator("#batch-result a[download]").first
    link.wait_for()
    with visitor.tab.expect_download() as coming:
        link.click()
    with zipfile.ZipFile(coming.value.path()) as archive:
        report = json.loads(archive.read("report.json"))
        assert sorted(archive.namelist()) == ["a-gray.png", "b-gray.png", "report.json"]
    assert [("error" in entry) for entry in report["files"]] == [False, True, False]
    assert all(entry["sigma"] > 5 for entry in report["files"] if "error" not in entry)
    visitor.check()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(chromium: Any, page_address: str, scheme: str) -> None:
    one = Visitor(chromium, page_address, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    for name in ("Compare", "What was removed", "The diffusion", "Inside the model", "Batch"):
        tab = one.tab.get_by_role("tab", name=name)
        if tab.first.is_visible():
            tab.first.click()
        else:
            one.tab.locator(".overflow-menu > button").click()
            one.tab.locator(".overflow-dropdown button", has_text=name).click()
        one.tab.wait_for_timeout(500)
        assert one.tab.evaluate("document.documentElement.scrollWidth") <= 391
    one.check()
    one.tab.close()


def test_the_scores_are_those_of_the_pixels(visitor: Visitor) -> None:
    """The PSNR in the table, recomputed from what the browser was sent."""
    row = visitor.tab.locator("table.scores tbody tr").nth(1).locator("td").all_inner_texts()
    clean = np.asarray(Image.fromarray(visitor.pixels("#upload img")).convert("L")) / 255
    sources = visitor.tab.locator("#slider img").count()
    measured = [psnr(clean, visitor.pixels(f"#slider img >> nth={i}") / 255) for i in range(sources)]
    assert any(abs(value - float(row[1])) < 0.006 for value in measured)


def test_nothing_is_kept_of_a_visitor_who_has_left(chromium: Any, page_address: str) -> None:
    one = Visitor(chromium, page_address)
    source = one.tab.locator("#slider img").first.get_attribute("src")
    folder = Path(source.partition("file=")[2]).parent
    assert folder.is_dir()
    assert folder.name.startswith("visitor-")
    one.tab.close()
    for _ in range(150):
        if not folder.exists():
            return
        time.sleep(0.2)
    raise AssertionError(f"{folder} is still there.")


def test_webcam_and_clipboard_and_an_empty_page(chromium: Any, page_address: str) -> None:
    one = Visitor(chromium, page_address, permissions=["camera", "clipboard-read", "clipboard-write"])
    one.tab.locator("#upload [aria-label='Remove Image']").click()
    one.tab.wait_for_selector("table.scores", state="detached")
    one.denoise()
    one.tab.get_by_text("Choose a picture first").wait_for()
    one.tab.evaluate(
        """async () => {
          const canvas = Object.assign(document.createElement("canvas"), { width: 40, height: 30 });
          const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
          await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
        }"""
    )
    one.tab.locator("#upload [aria-label='Paste from clipboard']").click()
    one.tab.wait_for_function("document.querySelector('#slider img')?.naturalWidth == 40")
    one.tab.locator("#upload [aria-label='Capture from camera']").click()
    one.tab.get_by_text("Click to Access Webcam").click()
    one.tab.wait_for_function("document.querySelector('#upload video')?.readyState >= 3")  # it shows something
    one.tab.locator("#upload [aria-label='capture photo']").click()
    one.tab.wait_for_function("document.querySelector('#slider img')?.naturalWidth > 40")
    one.check()
    one.tab.close()
