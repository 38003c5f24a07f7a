"""A headless Chromium that tests steer by the DevTools protocol, through a pipe: no driver and no web socket."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAM = shutil.which("chromium") or shutil.which("google-chrome")


class Browser:
    """`with Browser() as browser`: one page, `width` x `height`; `camera` is an MJPEG file that plays as its camera."""

    def __init__(self, camera: Path | None = None, width: int = 1400, height: int = 900):
        self._camera, self._size = camera, (width, height)
        self._numbers, self._buffer = itertools.count(1), b""

    def __enter__(self) -> "Browser":
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # helpers of it may still write
        (theirs_in, self._out), (self._in, theirs_out) = os.pipe(), os.pipe()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe"]
        flags += [f"--user-data-dir={self._profile.name}", "--no-first-run", "--disable-background-networking"]
        if self._camera:
            flags += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
            flags += [f"--use-file-for-fake-video-capture={self._camera}"]

        command = 'exec "$@" 3<&"$IN" 4>&"$OUT"'  # the protocol's descriptors are 3 and 4
        self._process = subprocess.Popen(
            ["bash", "-c", command, "bash", PROGRAM, *flags, "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            env={**os.environ, "IN": str(theirs_in), "OUT": str(theirs_out)},
            stderr=subprocess.DEVNULL,
        )
        for end in (theirs_in, theirs_out):
            os.close(end)
        page = next(t for t in self._call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self._call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        width, height = self._size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        return self

    def __exit__(self, *exception) -> None:
        self._process.kill()
        self._process.wait()
        for end in (self._in, self._out):
            os.close(end)
        self._profile.cleanup()

    def call(self, method: str, **arguments):
        """Returns the result of a method of the protocol on the page."""
        return self._call(method, self._session, **arguments)

    def open(self, url: str) -> None:
        """Opens a page."""
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def evaluate(self, expression: str):
        """Returns the value of a JavaScript expression; waits for a promise."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"])
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = 30.0) -> None:
        """Waits until an expression is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({expression})"):
            if time.monotonic() > end:
                raise TimeoutError(expression)
            time.sleep(0.1)

    def screenshot(self, path: Path) -> None:
        """Writes a PNG file of the whole page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def pdf(self, path: Path) -> None:
        """Prints the page to a PDF file."""
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"]))

    def _call(self, method: str, session: str = "", **arguments):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": arguments} | ({"sessionId": session} if session else {})
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._buffer:
                part = os.read(self._in, 1 << 20)
                if not part:
                    raise RuntimeError("the browser has ended")
                self._buffer += part
            text, _, self._buffer = self._buffer.partition(b"\0")
            found = json.loads(text)
            if found.get("id") == number:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']}")
                return found["result"]
