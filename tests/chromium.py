"""A headless Chromium, spoken to through a pipe (the DevTools protocol), for tests of pages."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (  # noqa: SIM905 - as they are typed
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-default-apps --disable-extensions --hide-scrollbars "
    "--no-default-browser-check --disable-dev-shm-usage --remote-debugging-pipe"
).split()
PATIENCE_S = 300
# The protocol is read from descriptor 3 and written to 4.
_START = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(given), fcntl.F_DUPFD, 10) for given in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Chromium:
    """A browser with one page.

    Parameters
    ----------
    folder : Path
        New and empty: its profile.
    """

    def __init__(self, folder):
        read, self._commands = os.pipe()
        self._answers, write = os.pipe()
        call = [sys.executable, "-c", _START, str(read), str(write), PROGRAM, *FLAGS, f"--user-data-dir={folder}"]
        self._process = subprocess.Popen(
            [*call, "about:blank"],
            pass_fds=(read, write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)},
        )
        os.close(read)
        os.close(write)
        self._left, self._number, self._session = b"", 0, None
        self.events = []
        try:
            self._attach()
        except BaseException:
            self.close()
            raise

    def _attach(self):
        (page,) = [t for t in self.ask("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        self._session = self.ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.ask(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End the browser."""
        with contextlib.suppress(OSError, EOFError):
            self._send({"id": 0, "method": "Browser.close"})
        os.close(self._commands)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._answers)

    def ask(self, method, **params):
        """The answer to one command; what happens meanwhile is kept in `events`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        self._send(message | ({} if self._session is None else {"sessionId": self._session}))
        while True:
            got = self._next()
            if got.get("id") == self._number:
                assert "error" not in got, (method, got["error"])
                return got["result"]
            self.events.append(got)

    def _send(self, message):
        os.write(self._commands, json.dumps(message).encode() + b"\0")

    def _next(self):
        end = time.monotonic() + PATIENCE_S
        while b"\0" not in self._left:
            assert select.select([self._answers], [], [], max(0, end - time.monotonic()))[0], "the browser is silent"
            data = os.read(self._answers, 1 << 20)
            if not data:
                raise EOFError("the browser has ended")
            self._left += data
        text, _, self._left = self._left.partition(b"\0")
        return json.loads(text)

    def open(self, path, *, width=1200, dark=False, media="screen"):
        """Show a file."""
        self.look(width=width, dark=dark, media=media)
        self.events.clear()
        self.ask("Page.navigate", url=path.resolve().as_uri())
        while not self.evaluate("document.readyState === 'complete' && location.protocol === 'file:'"):
            time.sleep(0.05)

    def look(self, *, width=1200, dark=False, media="screen"):
        """How the page is looked at."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def evaluate(self, expression):
        """What a JavaScript expression comes to, as JSON."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key, code):
        """Press a key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def screenshot(self, path):
        """The whole page as a picture."""
        found = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def pdf(self, path):
        """The page as it is printed."""
        found = self.ask("Page.printToPDF", printBackground=False, preferCSSPageSize=True)
        path.write_bytes(base64.b64decode(found["data"]))

    @property
    def complaints(self):
        """What the console has said."""
        return [
            event["params"]
            for event in self.events
            if event.get("method") in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        ]

    @property
    def requests(self):
        """The addresses that the page has asked for."""
        sent = (event for event in self.events if event.get("method") == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in sent]
