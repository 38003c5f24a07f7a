"""--mode=serve: routes, limits, hostile requests, and the page in headless Chromium with a camera that plays a file."""

import asyncio
import contextlib
import io
import json
import re
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import cv2
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from input_pipeline.prepare import crops
from kdfas_jax import Scorer
from kdfas_jax.commands.predict import scorer
from kdfas_jax.commands.serve import answers, app, limits, serve
from tests import chromium

RECIPE = crops.Recipe(scale=1.3, align=False, record_size=64, image_size=64, cropped=True)
CARD = {
    "name": "stub",
    "step": 1,
    "finished": True,
    "protocol": "1",
    "model": "vit",
    "parameters": 1000,
    "image_size": 64,
    "trained_on": {"datasets": ["simulated"], "simulated": True, "caution": "trained on drawings"},
    "threshold": {"value": 0.5, "source": "EER of dev"},
    "figures": {"dev": {"auc": 0.9, "apcer_max": 0.1, "bpcer": 0.1, "acer": 0.1}, "test": {}},
}
JPEG = {"content-type": "image/jpeg"}


def brightness(images):
    for image in images:
        yield np.array([image.mean() / 255])


def heat(images):
    for image in images:
        yield image[..., 0] / 255


MODEL = scorer.Model(brightness, RECIPE, CARD, heat)


@pytest.fixture
def stub():
    with pytest.warns(UserWarning, match="drawings"):
        return Scorer(MODEL)


@pytest.fixture
def client(stub):
    with TestClient(app.make(stub), base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def picture(level=200, kind="PNG", size=(60, 40)):
    file = io.BytesIO()
    Image.new("RGB", size, (level,) * 3).save(file, kind)
    return file.getvalue()


def error_of(answer):
    found = answer.json()["error"]
    assert set(found) == {"code", "message"}
    assert found["message"]
    return answer.status_code, found["code"]


def test_a_picture_is_scored(client):
    answer = client.post("/api/score", content=picture(), headers=JPEG).json()
    ((face,),) = [frame["faces"] for frame in answer["frames"]]
    assert (answer["kind"], answer["error"], answer["threshold"]) == ("image", "", 0.5)
    assert answer["caution"] == "trained on drawings"
    assert (face["box"], face["decision"], face["landmarks"]) == ([0, 0, 60, 40], "live", None)
    assert face["score"] == pytest.approx(200 / 255, abs=0.01)
    assert "oblong" in face["flags"]
    assert "crop" not in face


def test_what_the_model_sees_is_shown_where_it_is_asked_for(client):
    answer = client.post("/api/score?explain=1", content=picture(20), headers=JPEG).json()
    (face,) = answer["frames"][0]["faces"]
    assert face["decision"] == "attack"
    for name, start in (("crop", "data:image/jpeg;base64,"), ("attention", "data:image/png;base64,")):
        with urllib.request.urlopen(face[name]) as found:
            assert Image.open(io.BytesIO(found.read())).size == (64, 64)
        assert face[name].startswith(start)


def test_a_file_without_attention_says_so():
    with pytest.warns(UserWarning, match="drawings"):
        stub = Scorer(MODEL._replace(attention=None))
    with TestClient(app.make(stub), base_url="http://127.0.0.1") as client:
        (face,) = client.post("/api/score?explain=1", content=picture(), headers=JPEG).json()["frames"][0]["faces"]
        assert face["attention"] is None
        assert client.get("/api/card").json()["explains"] is False


def test_a_video_gives_frames(client, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64))
    for level in range(20):
        writer.write(np.full((64, 64, 3), 10 * level, np.uint8))
    writer.release()
    content = (tmp_path / "a.avi").read_bytes()
    answer = client.post("/api/score?frames=4", content=content, headers={"content-type": "video/x-msvideo"}).json()
    assert answer["kind"] == "video"
    assert [frame["frame"] for frame in answer["frames"]] == [2, 7, 12, 17]


def test_answers_have_the_properties_of_the_schema(client):
    schema = client.get("/api/schema").json()["oneOf"][0]
    answer = client.post("/api/score", content=picture(), headers=JPEG).json()
    assert set(answer) == set(schema["required"])
    frame = schema["properties"]["frames"]["items"]
    assert set(answer["frames"][0]) == set(frame["required"])
    assert set(answer["frames"][0]["faces"][0]) == set(frame["properties"]["faces"]["items"]["required"])


def test_the_page_loads_nothing_from_elsewhere(client):
    page, script, style = (client.get(path) for path in app.PAGES)
    assert [of.headers["content-type"].split(";")[0] for of in (page, script, style)] == [
        "text/html",
        "text/javascript",
        "text/css",
    ]
    for of in (page, script, style):
        assert not re.search(r"(src|href)=\"(?!/|data:)|https?:|url\(", of.text)
        assert "default-src 'none'" in of.headers["content-security-policy"]
        assert of.headers["x-content-type-options"] == "nosniff"
    assert client.get("/api/card").json()["threshold"]["source"] == "EER of dev"


def bomb():
    """A picture of 400 million pixels in 50 kB."""
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    return file.getvalue()


def film():
    """An animation of twenty small frames."""
    file = io.BytesIO()
    others = [Image.new("1", (100, 100), number % 2) for number in range(19)]
    Image.new("1", (100, 100)).save(file, "GIF", save_all=True, append_images=others)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "headers", "expected"),
    [
        (b"", JPEG, (400, "empty")),
        (picture()[:100], JPEG, (422, "unreadable")),
        (picture(kind="JPEG", size=(600, 400))[:1500], JPEG, (422, "unreadable")),
        (b"\x00" * 1000, JPEG, (422, "unreadable")),
        (b"RIFF\x00\x00\x00\x00AVI " + b"\xff" * 500, {"content-type": "video/mp4"}, (422, "unreadable")),
        (b"#EXTM3U\nhttp://127.0.0.1/\n", {"content-type": "video/mp4"}, (422, "unreadable")),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', {"content-type": "image/svg+xml"}, (422, "unreadable")),
        (bomb, JPEG, (422, "unreadable")),
        (picture(), {"content-type": "text/plain"}, (415, "type")),
        (b"--x\r\n\r\n", {"content-type": "multipart/form-data; boundary=x"}, (415, "type")),
        (b"[" * 10_000, {"content-type": "application/json"}, (415, "type")),
        (picture(), {"content-type": ""}, (415, "type")),
        (picture(), JPEG | {"host": "evil.example"}, (403, "host")),
        (picture(), JPEG | {"host": "[::1"}, (403, "host")),
        (picture(), JPEG | {"origin": "https://evil.example"}, (403, "origin")),
        (picture(), JPEG | {"origin": "null"}, (403, "origin")),
        (picture(), JPEG | {"content-length": "99999999999"}, (413, "size")),
    ],
)
def test_what_cannot_be_scored_is_an_error_in_json(client, content, headers, expected):
    content = content() if callable(content) else content
    assert error_of(client.post("/api/score", content=content, headers=headers)) == expected
    assert client.post("/api/score", content=picture(), headers=JPEG).status_code == 200


def test_a_film_that_takes_too_long_to_decode_is_refused(client, monkeypatch):
    assert client.post("/api/score", content=film(), headers=JPEG).status_code == 200
    monkeypatch.setattr(answers, "FILM_PIXELS", 100_000)
    assert error_of(client.post("/api/score", content=film(), headers=JPEG)) == (422, "unreadable")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/nowhere", (404, "route")),
        ("GET", "/../../etc/passwd", (404, "route")),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", (404, "route")),
        ("GET", "/static/page.js", (404, "route")),
        ("GET", "/api/score", (405, "route")),
        ("OPTIONS", "/api/score", (405, "route")),
        ("POST", "/api/card", (405, "route")),
    ],
)
def test_other_routes_are_errors_in_json(client, method, path, expected):
    assert error_of(client.request(method, path)) == expected


@pytest.mark.parametrize("query", ["frames=0", "frames=33", "frames=x", "frames=-1", "frames=²", "explain=2"])
def test_queries_out_of_range_are_refused(client, query):
    assert error_of(client.post(f"/api/score?{query}", content=picture(), headers=JPEG)) == (400, "query")


@pytest.mark.parametrize("parts", [6, 100])
def test_an_upload_that_is_too_large_is_neither_kept_nor_read_to_its_end(monkeypatch, parts):
    monkeypatch.setattr(limits, "MOST_BYTES", 5000)
    monkeypatch.setattr(limits, "DISCARDED", 20_000)
    read = []

    class Large:
        headers = {}  # noqa: RUF012

        async def stream(self):
            for _ in range(parts):
                read.append(1000)
                yield b"x" * 1000

    file = io.BytesIO()
    with pytest.raises(limits.RefusedError) as refused:
        asyncio.run(limits.receive(Large(), file))
    assert refused.value.status == 413
    assert len(file.getvalue()) == 5000
    assert sum(read) == min(1000 * parts, 21_000)


def test_an_upload_that_never_ends_is_refused(stub, monkeypatch):
    monkeypatch.setattr(limits, "UPLOAD_SECONDS", 0.1)

    class Slow:
        headers = {"content-length": "10"}  # noqa: RUF012

        async def stream(self):
            yield b"x"
            await asyncio.sleep(5)

    with pytest.raises(limits.RefusedError, match="more than 0 seconds"):
        asyncio.run(limits.receive(Slow(), io.BytesIO()))


def test_requests_beyond_the_queue_are_refused_and_the_page_still_answers(monkeypatch):
    entered, leave = threading.Event(), threading.Event()

    def slow(images):
        entered.set()
        leave.wait(30)
        return brightness(images)

    monkeypatch.setattr(limits, "QUEUE", 1)
    with pytest.warns(UserWarning, match="drawings"):
        stub = Scorer(MODEL._replace(score=slow))
    with TestClient(app.make(stub), base_url="http://127.0.0.1") as client:
        answers = []
        first = threading.Thread(
            target=lambda: answers.append(client.post("/api/score", content=picture(), headers=JPEG).status_code)
        )
        first.start()
        assert entered.wait(30)
        refused = client.post("/api/score", content=picture(), headers=JPEG)
        assert error_of(refused) == (503, "busy")
        assert refused.headers["retry-after"] == "1"
        assert client.get("/").status_code == 200
        leave.set()
        first.join()
        assert answers == [200]


def test_an_address_that_asks_too_often_waits():
    now = [0.0]
    rate = limits.Rate(lambda: now[0])
    for _ in range(int(limits.BURST)):
        rate.take("a")
    with pytest.raises(limits.RefusedError) as refused:
        rate.take("a")
    assert refused.value.status == 429
    rate.take("b")
    now[0] = 1.5 / limits.RATE
    rate.take("a")


def test_the_rates_of_the_last_addresses_are_remembered_and_no_more():
    """An address that has asked too often is refused after ADDRESSES - 1 others, and forgotten after one more."""
    rate = limits.Rate(lambda: 0.0)
    for _ in range(int(limits.BURST)):
        rate.take("a")
    for number in range(limits.ADDRESSES - 1):
        rate.take(str(number))
    with pytest.raises(limits.RefusedError):
        rate.take("a")
    for number in range(limits.ADDRESSES):
        rate.take(str(number))
    rate.take("a")


@pytest.mark.parametrize(
    ("bound", "host", "known"),
    [
        ("127.0.0.1", "127.0.0.1:8000", True),
        ("127.0.0.1", "localhost:8000", True),
        ("127.0.0.1", "[::1]:8000", True),
        ("127.0.0.1", "evil.example", False),
        ("127.0.0.1", "192.0.2.1", False),
        ("127.0.0.1", "", False),
        ("192.0.2.1", "192.0.2.1:80", True),
        ("0.0.0.0", "192.0.2.7:8000", True),
        ("0.0.0.0", "evil.example", False),
        ("0.0.0.0", socket.gethostname(), True),
    ],
)
def test_a_foreign_name_of_this_machine_is_refused(bound, host, known):
    assert limits.hosts(bound)(host) is known


def test_a_failure_of_the_model_is_an_error_in_json_and_the_server_lives_on(caplog):
    def broken(images):
        raise RuntimeError("out of memory")

    with pytest.warns(UserWarning, match="drawings"):
        stub = Scorer(MODEL._replace(score=broken))
    with TestClient(app.make(stub), base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        assert error_of(client.post("/api/score", content=picture(), headers=JPEG)) == (500, "internal")
        assert client.get("/api/card").status_code == 200


def test_a_port_in_use_is_named_before_the_model_is_loaded():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"--port={port}: cannot be bound"):
            serve.serve("no-run", "", "127.0.0.1", port)


SERVER = """
import sys
from kdfas_jax.commands.serve import serve
from tests import test_serve
serve.Scorer = lambda bundle: test_serve.Scorer(test_serve.MODEL)
serve.serve("", "stub", "127.0.0.1", 0)
"""


@contextlib.contextmanager
def running():
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as server:
        try:
            yield server
        finally:
            server.terminate()
            assert server.wait(20) in (0, -15)


@pytest.mark.slow
@pytest.mark.skipif(chromium.PROGRAM is None, reason="needs Chromium: apt-get install chromium")
def test_the_camera_is_scored_in_a_browser(tmp_path):
    camera = tmp_path / "camera.mjpeg"
    still = cv2.imencode(".jpg", np.full((240, 320, 3), 220, np.uint8))[1].tobytes()
    camera.write_bytes(30 * still)
    (tmp_path / "file.png").write_bytes(picture(20))
    with running() as server:
        url = re.search(r"http://\S+", server.stdout.readline()).group()
        with chromium.Browser(camera) as browser:
            browser.open(url)
            browser.until("document.querySelector('#card dd')")
            assert "trained on drawings" in browser.evaluate("document.getElementById('caution').textContent")
            browser.evaluate("document.getElementById('explain').click()")
            browser.evaluate("document.getElementById('camera').click()")
            browser.until("document.querySelector('#live .views')", 60)
            assert browser.evaluate("document.querySelector('#live td.live').textContent") == "live"
            browser.evaluate("document.getElementById('camera').click()")
            assert browser.evaluate("document.getElementById('live').hidden")
            root = browser.call("DOM.getDocument")["root"]["nodeId"]
            files = browser.call("DOM.querySelector", nodeId=root, selector="#files")["nodeId"]
            browser.call("DOM.setFileInputFiles", nodeId=files, files=[str(tmp_path / "file.png")])
            browser.until("document.querySelector('#results td.attack')", 60)


def test_errors_over_a_real_connection_are_json(tmp_path):
    """One process: what a real server makes of garbage on the wire, and that SIGTERM ends it."""
    with running() as server:
        url = re.search(r"http://127.0.0.1:(\d+)/", server.stdout.readline())
        with socket.create_connection(("127.0.0.1", int(url[1])), 10) as wire:
            wire.sendall(b"\x16\x03\x01garbage\r\n\r\n")
            assert b"400" in wire.recv(1000)
        request = urllib.request.Request(f"{url[0]}api/score", picture()[:50], JPEG)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        with refused.value as answer:
            assert json.load(answer)["error"]["code"] == "unreadable"
