"""Take the picture of the web page that the README shows.

    python scripts/screenshot_page.py

Serves the page on a free port, denoises its first example by the models and classics that are chosen at the start,
and writes docs/figures/page.png. Needs Chromium and `pip install ".[test]"`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
OUTPUT = ROOT / "docs" / "figures" / "page.png"


def main() -> None:
    """Write the picture."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    from page_process import CHROMIUM, running_page

    with (
        tempfile.TemporaryDirectory() as folder,
        running_page(Path(folder) / "log") as address,
        sync_playwright() as driver,
    ):
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 1330})
        tab.goto(address)
        tab.wait_for_selector("table.scores")
        tab.click("#go")
        tab.wait_for_function("document.querySelectorAll('table.scores tbody tr').length == 5")
        tab.mouse.move(5, 5)
        tab.evaluate("window.scrollTo(0, 0)")
        tab.wait_for_timeout(1500)
        tab.screenshot(path=str(OUTPUT))
        browser.close()
    # 256 colours are enough for a screen, and a third of the bytes.
    with Image.open(OUTPUT) as shot:
        shot.convert("RGB").quantize(256).save(OUTPUT, optimize=True)
    print(f"wrote {OUTPUT}")


if __name__ == "__main__":
    main()
