"""A dashboard in a process of its own, and a Chromium page on it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser as Chromium
from playwright.sync_api import ConsoleMessage, Locator, Page, expect, sync_playwright

_START_S = 120.0
_PATIENCE_MS = 90_000.0

expect.set_options(timeout=_PATIENCE_MS)

# Opening a page by its own address, Streamlit first looks for its server below that address.
_PROBES = re.compile(r"/_stcore/(health|host-config)$")


@contextmanager
def dashboard(db: Path) -> Iterator[str]:
    """Runs `attattr dashboard` on a store; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "attattr_batch", "dashboard", "--db", str(db), "--port", str(port)]
    environment = {**os.environ, "ATTATTR_LOCK_TIMEOUT": "30"}
    log = db.with_suffix(".log")
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/_stcore/health", server, log)
        yield address
    finally:
        server.terminate()
        server.wait(20)


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"the dashboard did not start:\n{log.read_text()}")


class Browser:
    """A page of Chromium on a dashboard; remembers everything that went wrong in it.

    Attributes:
        page: Playwright's page.
        faults: Errors on the console, uncaught exceptions, failed requests, requests to other machines.
    """

    def __init__(self, page: Page, address: str):
        self.page, self.address = page, address
        self.faults: list[str] = []
        page.set_default_timeout(_PATIENCE_MS)
        page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))
        page.on("console", self._hear)
        page.on("request", lambda one: self._check_target(one.url))

    def open(self, path: str) -> None:
        """Opens a page by its address and waits until it is drawn."""
        self.page.goto(f"{self.address}/{path}")
        self.settle()

    def follow(self, title: str) -> None:
        """Opens a page from the menu."""
        self.page.get_by_test_id("stSidebarNav").get_by_role("link", name=title, exact=True).click()
        expect(self.page.get_by_role("heading", name=title, exact=True, level=1)).to_be_visible()
        self.settle()

    def settle(self) -> None:
        """Waits until the script has run and nothing is left to draw."""
        self.page.wait_for_selector("h1")
        expect(self.page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
        expect(self.page.get_by_test_id("stSkeleton")).to_have_count(0)
        assert self.page.get_by_test_id("stException").all_inner_texts() == []

    def choose(self, label: str, option: str) -> None:
        """Chooses an option of a box."""
        self.page.get_by_role("combobox", name=re.compile(rf"\b{re.escape(label)}$")).click()
        self.page.get_by_role("option", name=option, exact=True).click()
        self.settle()

    def charts(self) -> Locator:
        """The charts drawn on the page."""
        return self.page.locator("[data-testid=stVegaLiteChart] :is(canvas, svg.marks)")

    def shot(self, name: str) -> None:
        """Keeps a picture of the page in the folder that ATTATTR_SCREENSHOTS names, if any."""
        folder = os.environ.get("ATTATTR_SCREENSHOTS")
        if folder:
            main = self.page.get_by_test_id("stMain")
            height = min(int(main.evaluate("element => element.scrollHeight")) + 40, 4000)
            self.page.set_viewport_size({"width": 1400, "height": max(height, 900)})
            self.page.wait_for_timeout(1500)
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{name}.png")
            self.page.set_viewport_size({"width": 1400, "height": 900})

    def _hear(self, message: ConsoleMessage) -> None:
        url = str(message.location.get("url", ""))
        if message.type == "error" and not _PROBES.search(url):
            self.faults.append(f"console: {message.text} {url}")

    def _check_target(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:", self.address.replace("http", "ws"))):
            self.faults.append(f"asked another machine: {url}")


@contextmanager
def chromium() -> Iterator[Chromium]:
    """Debian's Chromium, launched by its path."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        yield launched
        launched.close()


@contextmanager
def browser(launched: Chromium, address: str) -> Iterator[Browser]:
    """Opens a page on a dashboard; at the end nothing may have gone wrong in it."""
    page = launched.new_page(viewport={"width": 1400, "height": 900})
    opened = Browser(page, address)
    yield opened
    page.close()
    assert opened.faults == []


def ask(opened: Browser, sql: str) -> None:
    """Puts a query to the SQL page."""
    box = opened.page.get_by_label("One statement that reads")
    for _ in range(5):
        box.fill(sql)
        box.press("Control+Enter")
        opened.settle()
        opened.page.get_by_role("button", name="Run", exact=True).click()
        opened.settle()
        if box.input_value() == sql:
            return
    raise AssertionError(f"the page, still being drawn, put its earlier text in the place of {sql!r}")
