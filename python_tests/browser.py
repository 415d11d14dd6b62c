# SPDX-License-Identifier: MIT
"""Chromium without a window, for tests of HTML pages: the DevTools protocol over a pipe, without any network.

For pages of a server of this machine, `open_tab(is_local=True)` lets it through.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_SECONDS = 90.0
_OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # containers run as root, which the sandbox refuses
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--no-first-run",
    "--enable-unsafe-swiftshader",  # WebGL without a GPU
    "--use-angle=swiftshader",
    "--hide-scrollbars",
    # Every host is unknown and every proxy dead: there is no network. Proxies are not asked for this machine.
    "--proxy-server=127.0.0.1:9",
)


def find_chromium() -> str | None:
    """Return the path of a Chromium or Chrome, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Tab:
    """A tab of a browser; `requests`, `errors` list what its page asked for, and what went wrong in it."""

    def __init__(self, write: int, read: int, is_local: bool) -> None:
        self._write, self._read = write, read
        self._ids = itertools.count(1)
        self._buffer = b""
        self._session: str | None = None
        self._deadline = time.monotonic() + _SECONDS
        self.requests: list[str] = []
        self.errors: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        offline = {"offline": not is_local, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.send("Network.emulateNetworkConditions", **offline)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol, and return its result."""
        id = next(self._ids)
        message = {"id": id, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        while True:
            answer = self._receive()
            if answer.get("id") == id:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if time.monotonic() > self._deadline:
                raise AssertionError(f"the browser gave no answer for {_SECONDS:.0f} s")
            chunk = os.read(self._read, 1 << 20)
            if not chunk:
                raise AssertionError("the browser ended")
            self._buffer += chunk
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method: str | None, parameters: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.errors.append(
                " ".join(str(value.get("value", value.get("description"))) for value in parameters["args"])
            )
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.errors.append(parameters["entry"]["text"])

    def resize(self, width: int, height: int, dark: bool = False) -> None:
        """Set the size of the window in pixels, and the theme that the page is asked for."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        theme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=theme)

    def open(self, page: Path) -> None:
        """Open a page of dtnn-fast and wait until its scripts have run."""
        self.open_url(page.resolve().as_uri())

    def open_url(self, url: str) -> None:
        """Open a page by its address, as `open` does."""
        self._deadline = time.monotonic() + _SECONDS
        self.send("Page.navigate", url=url)
        self.wait_for("document.body?.dataset.ready === 'true'")

    def run(self, script: str) -> Any:
        """Evaluate JavaScript, await it if it is a promise, and return its value."""
        self._deadline = time.monotonic() + _SECONDS
        answer = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise AssertionError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until JavaScript is true; for half the time of a call at most."""
        until = time.monotonic() + _SECONDS / 2
        while not self.run(condition):
            if time.monotonic() > until:
                raise AssertionError(f"never true: {condition}; errors: {self.errors}")
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Click an element."""
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def type(self, selector: str, text: str) -> None:
        """Put a text into a field, as typing does."""
        field = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{field}.value = {json.dumps(text)}; {field}.dispatchEvent(new Event('input', {{bubbles: true}}))")

    def screenshot(self, whole: bool = False, quality: int | None = None) -> bytes:
        """Take a picture of the window or of the whole page: PNG, or JPEG with a quality."""
        kind = {"format": "png"} if quality is None else {"format": "jpeg", "quality": quality}
        answer = self.send("Page.captureScreenshot", captureBeyondViewport=whole, **kind)
        return base64.b64decode(answer["data"])


@contextlib.contextmanager
def open_tab(is_local: bool = False) -> Iterator[Tab]:
    """Start a browser with one tab, and end it behind the block; `is_local` allows 127.0.0.1."""
    program = find_chromium()
    assert program is not None
    commands_out, commands_in = os.pipe()
    answers_out, answers_in = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # The browser reads commands from descriptor 3 and writes answers to 4.
        script = f'exec "$0" "$@" 3<&{commands_out} 4>&{answers_in}'
        hosts = "--host-resolver-rules=MAP * ~NOTFOUND" + (" , EXCLUDE 127.0.0.1" if is_local else "")
        arguments = ["bash", "-c", script, program, *_OPTIONS, hosts, f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            arguments, pass_fds=(commands_out, answers_in), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(commands_out)
        os.close(answers_in)
        try:
            yield Tab(commands_in, answers_out, is_local)
        finally:
            os.close(commands_in)
            os.close(answers_out)
            process.terminate()
            process.wait(timeout=30)
