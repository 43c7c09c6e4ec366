"""The page in a real Chromium, driven through its pipe for remote debugging, without a library."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image
from serve.conftest import CLASSES
from serve.service import image_bytes, running

import cyclemlp
from cyclemlp.deploy import export_model
from cyclemlp.metadata import MULTI_LABEL

pytestmark = pytest.mark.heavy

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Browser:
    """One tab. `shots`, if the environment variable CYCLEMLP_SHOTS names a folder, are kept there."""

    def __init__(self, profile):
        program = next(filter(None, map(shutil.which, BROWSERS)), None)
        if program is None:
            pytest.fail(
                "the test of the page needs Chromium, and there is none: `apt-get install chromium` (Debian, "
                "Ubuntu), or any of " + ", ".join(BROWSERS)
            )
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        # It reads from 3 and writes to 4.
        script = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        words = ["--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        words += ["--disable-dev-shm-usage", "--disable-background-networking", "--window-size=1100,850"]
        self._process = subprocess.Popen(
            ["bash", "-c", script, "browser", program, *words, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer, self._number, self.events = b"", 0, []
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM", "Accessibility"):
            self.call(f"{domain}.enable")

    def close(self):
        with contextlib.suppress(OSError):
            os.close(self._write)
        self._process.terminate()
        self._process.wait(30)
        os.close(self._read)

    def call(self, method, **parameters):
        """The result of a command of the DevTools protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _next(self):
        while b"\0" not in self._buffer:
            part = os.read(self._read, 1 << 16)
            assert part, "the browser has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def run(self, script):
        """The value of an expression of JavaScript; a promise is waited for."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, condition, seconds=60):
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(condition):
            assert time.monotonic() < end, f"{condition}: {self.run('document.body.innerText')}"
            time.sleep(0.05)

    def press(self, key, code):
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text
            )

    def shot(self, name):
        """The page as it looks: uint8 [H, W, 3]."""
        png = base64.b64decode(self.call("Page.captureScreenshot")["data"])
        if folder := os.environ.get("CYCLEMLP_SHOTS"):
            Path(folder, f"{name}.png").write_bytes(png)
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.fixture(scope="module")
def service(exported):
    with running(exported, "--threads", 1) as service:
        yield service


@pytest.fixture
def browser(service, tmp_path):
    browser = Browser(tmp_path / "profile")
    try:
        browser.call("Page.navigate", url=f"http://127.0.0.1:{service.port}/")
        browser.until("document.getElementById('taken')?.textContent.includes('megapixels')")
        yield browser
        problems = [
            e for e in browser.events if e.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")
        ]
        # A refused image is logged as a failed request.
        assert not [p for p in problems if p["params"].get("entry", {}).get("source") != "network"], problems
        urls = [
            e["params"]["request"]["url"]
            for e in browser.events
            if e.get("method") == "Network.requestWillBeSent"
        ]
        assert any(url.endswith("/model") for url in urls)
        assert all(url.startswith((f"http://127.0.0.1:{service.port}/", "blob:", "data:")) for url in urls)
    finally:
        browser.close()


def choose(browser, path):
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    browser.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)


def drop(browser, content, name):
    """Drop a file anywhere on the page, as a script can."""
    browser.run(
        f"""(() => {{
          const bytes = Uint8Array.from(atob("{base64.b64encode(content).decode()}"), (c) => c.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([bytes], {json.dumps(name)}, {{type: "image/png"}}));
          document.body.dispatchEvent(new DragEvent("drop", {{bubbles: true, cancelable: true, dataTransfer: data}}));
        }})()"""
    )


ROWS = "[...document.querySelectorAll('#classes .row')]"
SHOWN = "!document.getElementById('result').hidden"


def test_an_image_is_chosen_and_seen(browser, service, tmp_path):
    content = image_bytes(2, (480, 360))
    (tmp_path / "patches.png").write_bytes(content)
    answer = service.predict(content)[1]
    empty = browser.shot("empty")
    choose(browser, tmp_path / "patches.png")
    browser.until(SHOWN)
    names = browser.run(f"{ROWS}.map((row) => row.querySelector('.name').textContent)")
    assert names == [entry["name"] for entry in answer["classes"]]
    assert "<b>emu</b>" in names  # shown as it is, not taken for HTML
    shares = browser.run(f"{ROWS}.map((row) => row.querySelector('.figure').textContent)")
    assert [float(share.rstrip(" %")) for share in shares] == pytest.approx(
        [100 * entry["probability"] for entry in answer["classes"]], abs=0.06
    )
    widths = browser.run(f"{ROWS}.map((row) => parseFloat(row.querySelector('.track span').style.width))")
    assert widths == sorted(widths, reverse=True)
    browser.run("new Promise((done) => setTimeout(done, 400))")  # the bars have grown
    light = browser.shot("light")
    assert np.abs(light.astype(int) - empty).max() > 100
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    dark = browser.shot("dark")
    assert dark.mean() < 100 < light.mean()
    browser.call(
        "Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=2, mobile=True
    )
    browser.until("document.documentElement.scrollWidth <= 390")  # laid out anew when it gets round to it
    browser.shot("narrow")


def test_the_heat_map_follows_the_keyboard(browser):
    drop(browser, image_bytes(2, (480, 360)), "dropped.png")
    browser.until(SHOWN)
    pixels = "document.getElementById('overlay').toDataURL()"
    first = browser.run(pixels)
    focus = "document.activeElement"
    browser.run("document.body.focus()")
    for _ in range(10):
        browser.press("Tab", 9)
        if browser.run(f"{focus}.id") == "file":
            break
    assert browser.run(f"{focus}.id") == "file"  # where Enter opens the system's dialogue
    for _ in range(10):
        browser.press("Tab", 9)
        if browser.run(f"{focus}.matches('#classes li:nth-child(2) button')"):
            break
    browser.press("Enter", 13)
    browser.until(f"{focus}.getAttribute('aria-pressed') === 'true'")
    assert browser.run(f"{ROWS}.filter((row) => row.getAttribute('aria-pressed') === 'true').length") == 1
    name = browser.run(f"{focus}.querySelector('.name').textContent")
    assert name in browser.run("document.getElementById('caption').textContent")
    second = browser.run(pixels)
    assert second != first
    browser.run(
        "(() => { const o = document.getElementById('opacity'); o.value = 0; o.dispatchEvent(new Event('input')); })()"
    )
    assert browser.run(pixels) not in (first, second)


def test_a_refusal_is_shown_in_the_services_words(browser, service):
    drop(browser, b"no image", "holiday.png")
    browser.until("!document.getElementById('error').hidden")
    assert "no image that is read here" in browser.run("document.getElementById('error').textContent")
    assert browser.run("document.getElementById('error').getAttribute('role')") == "alert"
    assert not browser.run(SHOWN)
    drop(browser, image_bytes(1), "small.png")  # and the next one is shown again
    browser.until(SHOWN)
    assert browser.run("document.getElementById('error').hidden")


def test_what_a_screen_reader_is_told(browser):
    drop(browser, image_bytes(1, (200, 200)), "square.png")
    browser.until(SHOWN)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    told = {
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in ("button", "image", "heading", "slider")
    }
    assert ("heading", "cyclemlp_nano") in told
    assert ("image", "square.png") in told
    assert ("slider", "Heat map") in told
    for name in CLASSES:
        assert any(role == "button" and words.startswith(name) and "%" in words for role, words in told)
    assert not [words for role, words in told if role in ("button", "slider") and not words]


def test_of_several_labels_an_image_the_page_shows_those_that_there_are(tmp_path):
    paddle.seed(0)
    model = cyclemlp.create_model("cyclemlp_nano", num_classes=3)
    model.metadata.task, model.metadata.thresholds = MULTI_LABEL, [0.0, 1.0, 0.0]
    export_model(model, tmp_path / "labels")
    with running(tmp_path / "labels", "--threads", 1) as service:
        browser = Browser(tmp_path / "profile")
        try:
            browser.call("Page.navigate", url=f"http://127.0.0.1:{service.port}/")
            browser.until("document.getElementById('taken')?.textContent.includes('megapixels')")
            drop(browser, image_bytes(2), "dropped.png")
            browser.until(SHOWN)
            names = browser.run(f"{ROWS}.map((row) => row.querySelector('.name').textContent)")
            assert sorted(names) == ["0", "2"]
            assert browser.run("document.getElementById('heading').textContent") == "Labels"
        finally:
            browser.close()
