"""A browser driven from outside, as a person would: mouse, keys, windows, themes, pictures."""

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.e2e.test_report_browser import BROWSER, FLAGS

LONG = 60.0  # seconds
# name -> key code of the browser
KEYS = {"Tab": 9, "Enter": 13, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38,
        "ArrowRight": 39, "ArrowDown": 40, "PageUp": 33, "PageDown": 34, " ": 32}  # fmt: skip


class Page:
    """One page in a browser without a window, spoken to through pipes.

    Attributes:
        console: Everything that the page wrote, failed at or was refused.
    """

    def __init__(self, profile: Path) -> None:
        ours, theirs = os.pipe(), os.pipe()
        shell = f'exec "$0" "$@" 3<"/dev/fd/{ours[0]}" 4>"/dev/fd/{theirs[1]}"'
        flags = [flag for flag in FLAGS if "logging" not in flag]
        command = [BROWSER, *flags, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            ["sh", "-c", shell, *command, "about:blank"],
            pass_fds=(ours[0], theirs[1]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(ours[0])
        os.close(theirs[1])
        self._to, self._from = os.fdopen(ours[1], "wb", 0), os.fdopen(theirs[0], "rb", 0)
        os.set_blocking(self._from.fileno(), False)
        self._session: str | None = None
        self._sent, self._buffer = 0, b""
        self._events: list[str] = []
        self.console: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Self:
        """Return the page."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the browser."""
        self._session = None
        try:
            self.send("Browser.close")
        finally:
            self._to.close()
            self._from.close()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask the browser for something and wait for its answer."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        for answer in self._messages():
            if answer.get("id") == self._sent:
                assert "error" not in answer, answer
                return dict(answer["result"])
        raise AssertionError

    def open(self, file: Path, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Show a file in a window of a size and theme; wait until it is loaded."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self._events.clear()
        self.send("Page.navigate", url=file.as_uri())
        waiting = self._messages()
        while "Page.loadEventFired" not in self._events:
            next(waiting)

    def ask(self, expression: str) -> Any:
        """Return what a JavaScript expression is worth, as plain values."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True,
                          awaitPromise=True)  # fmt: skip
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key, as on a keyboard."""
        named = {"key": key, "code": "Space" if key == " " else key,
                 "windowsVirtualKeyCode": KEYS[key]}  # fmt: skip
        text = {" ": " ", "Enter": "\r"}.get(key)
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self.send("Input.dispatchKeyEvent", **down, **named)
        self.send("Input.dispatchKeyEvent", type="keyUp", **named)

    def write(self, text: str) -> None:
        """Type over what the focused field holds."""
        self.ask("document.activeElement.select()")
        self.send("Input.insertText", text=text)

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 8) -> None:
        """Press the left button at one place of the window, move, and release it at another."""
        self._mouse("mouseMoved", start, held=0)
        self._mouse("mousePressed", start, held=1)
        for i in range(1, steps + 1):
            x, y = (a + (b - a) * i / steps for a, b in zip(start, end, strict=True))
            self._mouse("mouseMoved", (x, y), held=1)
        self._mouse("mouseReleased", end, held=0)

    def click(self, selector: str) -> None:
        """Click in the middle of an element."""
        left, top, width, height = self.box(selector)
        at = (left + width / 2, top + height / 2)
        self.drag(at, at, steps=0)

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Scroll an element into the window; return its left, top, width and height there."""
        found = self.ask(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
        )
        return found[0], found[1], found[2], found[3]

    def picture(self, file: Path) -> None:
        """Write the whole page, not only the window, as PNG."""
        height = self.ask("document.documentElement.scrollHeight")
        width = self.ask("document.documentElement.clientWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True,
                         clip=clip)  # fmt: skip
        file.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, file: Path) -> None:
        """Print the page on A4."""
        printed = self.send("Page.printToPDF", paperWidth=8.27, paperHeight=11.69,
                            printBackground=False)  # fmt: skip
        file.write_bytes(base64.b64decode(printed["data"]))

    def _mouse(self, kind: str, at: tuple[float, float], held: int) -> None:
        moved = kind == "mouseMoved" and not held
        self.send("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1],
                  button="none" if moved else "left", buttons=held,
                  clickCount=0 if kind == "mouseMoved" else 1)  # fmt: skip

    def _messages(self) -> Iterator[dict[str, Any]]:
        """Messages of the browser as they come; what happened is kept on the way."""
        until = time.monotonic() + LONG
        while time.monotonic() < until:
            while b"\0" in self._buffer:
                line, _, self._buffer = self._buffer.partition(b"\0")
                message = json.loads(line)
                self._keep(message)
                yield message
            data = self._from.read(1 << 20)
            assert data != b"", "the browser has ended"
            if data is None:
                time.sleep(0.002)
            else:
                self._buffer += data
        raise AssertionError(f"no answer from the browser in {LONG:.0f} s")

    def _keep(self, message: dict[str, Any]) -> None:
        method, about = message.get("method", ""), message.get("params", {})
        self._events.append(method)
        if method == "Runtime.consoleAPICalled":
            self.console.append(str(about["args"]))
        elif method == "Runtime.exceptionThrown":
            self.console.append(str(about["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.console.append(about["entry"]["text"])
