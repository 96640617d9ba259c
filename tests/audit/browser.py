"""A headless Chromium that a test talks to over pipes, by the DevTools protocol; nothing outside it can be reached."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)
PATIENCE = 60.0  # seconds
Message = dict[str, Any]


def find_chromium() -> str | None:
    """Path of the browser, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab, with everything that it said since it was opened."""

    def __init__(self, reading: int, writing: int) -> None:
        self.reading, self.writing = reading, writing
        self.waiting = selectors.DefaultSelector()
        self.waiting.register(reading, selectors.EVENT_READ)
        self.rest, self.count = b"", 0
        self.session: str | None = None
        self.events: list[Message] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Ask the browser for something and wait for its answer."""
        self.count += 1
        message: Message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.writing, json.dumps(message).encode() + b"\0")
        answer = self._wait(lambda m: m.get("id") == self.count)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path: Path) -> None:
        """Load a file and wait until it is shown."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self._wait(lambda m: m.get("method") == "Page.loadEventFired")

    def value(self, expression: str) -> Any:
        """Value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=9)

    def requests(self) -> list[str]:
        """Addresses that were asked for."""
        sent = [e["params"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in sent]

    def complaints(self) -> list[Message]:
        """Everything on the console, and every exception."""
        kinds = {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"}
        return [e for e in self.events if e.get("method") in kinds]

    def _wait(self, wanted: Any) -> Message:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            while b"\0" in self.rest:
                one, self.rest = self.rest.split(b"\0", 1)
                message = json.loads(one)
                self.events.append(message)
                if wanted(message):
                    return dict(message)
            if self.waiting.select(1.0):
                self.rest += os.read(self.reading, 1 << 20)
        raise TimeoutError(f"the browser should answer within {PATIENCE:.0f} s")


@contextmanager
def browser(program: str, folder: Path) -> Iterator[Page]:
    """Start a browser of its own and end it again.

    Args:
        program: path of Chromium.
        folder: for its profile.
    """
    its_input, our_output = os.pipe()
    our_input, its_output = os.pipe()
    # Chromium reads from 3 and writes to 4.
    shell = ["bash", "-c", f'exec "$0" "$@" 3<&{its_input} 4>&{its_output}', program]
    command = [*shell, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(
        command, pass_fds=(its_input, its_output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        os.close(its_input)
        os.close(its_output)
        yield Page(our_input, our_output)
    finally:
        process.terminate()
        process.wait(PATIENCE)
        os.close(our_input)
        os.close(our_output)
