"""The web page's named functions, called as programs call them, and by people who mean no good."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tnrd
from tnrd.pixels import from_unit
from tnrd.weights import find_weights

gradio_client = pytest.importorskip("gradio_client")
pytest.importorskip("gradio")
pytestmark = pytest.mark.slow

PROGRAM = """
import json, shutil, sys
from gradio_client import Client, handle_file
address, noisy, result = sys.argv[1:]
client = Client(address, verbose=False)
path, receipt = client.predict(handle_file(noisy), 20, "gray-fast", 1.0, api_name="/denoise")
shutil.copy(path, result)
print(json.dumps({"receipt": receipt, "methods": client.predict(api_name="/methods")}))
"""


@pytest.fixture(scope="module")
def client(page_address: str) -> Iterator[Any]:
    one = gradio_client.Client(page_address, verbose=False)
    yield one
    one.close()


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).normal(120, 20, (40, 56)).clip(0, 255).astype(np.uint8)
    path = tmp_path / "noisy.png"
    Image.fromarray(pixels).save(path)
    return path


def send(client: Any, path: Path, sigma: float | None = 20, method: str = "gray", strength: float = 1.0) -> Any:
    return client.predict(gradio_client.handle_file(path), sigma, method, strength, api_name="/denoise")


def test_a_second_process_gets_what_the_library_gives(page_address: str, noisy: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.png"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, page_address, str(noisy), str(result)],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    unit = tnrd.denoise(np.asarray(Image.open(noisy)), 20 / 255, model="gray-fast")
    assert np.array_equal(np.asarray(Image.open(result)), from_unit(unit, np.dtype(np.uint8)))
    assert told["receipt"]["sigma"] == [20.0]
    assert told["receipt"]["sigma_source"] == "given"
    assert told["receipt"]["weights"] == {"name": "gray-fast", "sha256": find_weights("gray-fast").sha256}
    assert (told["receipt"]["width"], told["receipt"]["height"]) == (56, 40)
    assert told["methods"]["gray"]["learned"]
    assert "non-commercial" in told["methods"].get("bm3d", {"licence": "non-commercial"})["licence"]


def test_sigma_is_estimated_when_it_is_not_given(client: Any, noisy: Path) -> None:
    _, receipt = send(client, noisy, sigma=None)
    assert receipt["sigma_source"] == "estimated"
    assert abs(receipt["sigma"][0] - 20) < 4


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"sigma": 200}, r"must lie in \[0, 100\] on the 8-bit scale, got 200"),
        ({"sigma": -1}, r"must lie in \[0, 100\] on the 8-bit scale, got -1"),
        ({"method": "magic"}, "no method 'magic'"),
        ({"strength": 3.0}, "strength must lie in"),
    ],
)
def test_what_is_out_of_range_is_said(client: Any, noisy: Path, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Exception, match=sentence):
        send(client, noisy, **wrong)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "empty"),
        (b"MZ" + bytes(100), "not a picture"),
        (b"GIF89a" + bytes(20), "GIF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "could not be read"),
    ],
)
def test_what_is_no_picture_is_refused(client: Any, tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "odd.png"
    path.write_bytes(content)
    with pytest.raises(Exception, match=sentence) as failure:
        send(client, path)
    assert "Traceback" not in str(failure.value)


def test_a_bomb_is_refused_by_its_header(client: Any, tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (20000, 20000)).save(path)
    with pytest.raises(Exception, match="above the limit"):
        send(client, path)


def test_an_animation_is_refused(client: Any, tmp_path: Path) -> None:
    path, frames = tmp_path / "film.webp", [Image.new("L", (16, 16), grey) for grey in (10, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(Exception, match=r"animat|frames"):
        send(client, path)


def test_the_content_counts_and_not_the_name(client: Any, noisy: Path, tmp_path: Path) -> None:
    misnamed = tmp_path / "picture.jpg"
    misnamed.write_bytes(noisy.read_bytes())
    _, receipt = send(client, misnamed)
    assert (receipt["width"], receipt["height"]) == (56, 40)


def test_one_pixel_and_cmyk_and_sixteen_bits_are_pictures(client: Any, tmp_path: Path) -> None:
    pictures = {
        "pixel.png": Image.fromarray(np.full((1, 1), 77, np.uint8)),
        "ink.jpg": Image.new("CMYK", (16, 16), (10, 20, 30, 40)),
        "deep.png": Image.fromarray(np.full((20, 20), 40000, np.uint16)),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
        result, receipt = send(client, tmp_path / name)
        with Image.open(result) as opened:
            assert opened.size == picture.size
        assert receipt["depth"] == ("uint16" if name == "deep.png" else "uint8")


def call(address: str, payload: Any) -> str:
    """The answer of /denoise to a raw payload: the text of its stream of events."""
    body = json.dumps({"data": [payload, 20, "gray", 1.0]}).encode()
    url = f"{address}gradio_api/call/denoise"
    with urllib.request.urlopen(
        urllib.request.Request(url, body, {"Content-Type": "application/json"}), timeout=30
    ) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{url}/{event}", timeout=60) as answer:
        return str(answer.read().decode())


def test_paths_are_not_read(page_address: str, noisy: Path) -> None:
    """A picture that could be read, if paths were."""
    answer = call(page_address, {"path": str(noisy), "meta": {"_type": "gradio.FileData"}})
    assert answer.startswith("event: error")
    assert "complete" not in answer


def test_addresses_are_not_fetched(page_address: str, noisy: Path) -> None:
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(noisy.read_bytes())

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/noisy.png"
        answer = call(page_address, {"path": url, "url": url, "meta": {"_type": "gradio.FileData"}})
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(f"{page_address}gradio_api/file={url}", timeout=30)
        with refusal.value:
            assert refusal.value.code == 403
        server.shutdown()
    assert answer.startswith("event: error")
    assert asked == []


def test_nothing_goes_round_the_queue(page_address: str) -> None:
    body = json.dumps({"data": [None, 20, "gray", 1.0]}).encode()
    request = urllib.request.Request(
        f"{page_address}gradio_api/run/denoise", body, {"Content-Type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=30)
    with refusal.value:
        assert refusal.value.code in (401, 403, 404, 405)


@pytest.mark.parametrize("path", ["/etc/passwd", "pyproject.toml", "app/page.py", "../../etc/passwd"])
def test_no_file_of_the_machine_is_served(page_address: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(f"{page_address}gradio_api/file={path}", timeout=30)
    with refusal.value:  # an answer, too
        assert refusal.value.code in (403, 404)


def test_only_the_two_named_functions_are_public(client: Any) -> None:
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {"/denoise", "/methods"}


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux lists its sockets there")
def test_it_listens_on_this_machine_alone(page_address: str, page_log: Path) -> None:
    port = int(page_address.rsplit(":", 1)[1].strip("/"))
    sockets = [line.split()[1:4] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = {local for local, _, state in sockets if state == "0A" and local.endswith(f":{port:04X}")}
    assert listening == {f"0100007F:{port:04X}"}
    assert "public URL" not in page_log.read_text()
