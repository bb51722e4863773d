"""ComfyUI's own frontend in a browser, asked for the prompt that it makes of a workflow.

Needs a ComfyUI as `tests/tools/engine.py` looks for it, Chromium, and the `static` folder of the
`comfyui-frontend-package` of the version in question, unpacked. Nothing but the loopback is reached.
"""

import asyncio
import json
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from playwright.async_api import Browser, Page, Playwright, Route, async_playwright
from tests.tools.engine import Installation

Json: TypeAlias = Any

CHROMIUM: Final = "/usr/bin/chromium"
_START_S: Final = 180.0
_CONVERT_S: Final = 40.0
# Alternatives of dynamic prompts: always the first. As text, for the browser tells undefined from null.
_CONVERT: Final = """async (workflow) => {
  const app = window.app ?? window.comfyAPI.app.app;
  Math.random = () => 0;
  try {
    await app.loadGraphData(workflow, true, false, null);
    await new Promise((resume) => setTimeout(resume, 30));
    return JSON.stringify({prompt: (await app.graphToPrompt()).output});
  } catch (error) {
    return JSON.stringify({error: String(error)});
  }
}"""
_IS_READY: Final = "() => Boolean((window.app ?? window.comfyAPI?.app?.app)?.graph)"
_IDS: Final = (
    "() => (window.app ?? window.comfyAPI.app.app).graph._nodes.map((node) => String(node.id))"
)
_FIRST: Final = {"nodes": [{"id": 77, "type": "EmptyImage"}], "links": [], "version": 0.4}
_QUIET_S: Final = 4


@dataclass(frozen=True, slots=True)
class Frontend:
    """The frontend that came with an installation."""

    version: str
    static: Path


def frontend_of(installation: Installation) -> Frontend:
    """Find it among the packages of the installation's Python."""
    packages = installation.python.parents[1] / "lib"
    static = next(packages.glob("python3*/site-packages/comfyui_frontend_package/static"))
    about = next(static.parents[1].glob("comfyui_frontend_package-*.dist-info"))
    return Frontend(about.name.split("-")[1].removesuffix(".dist"), static)


class Editor:
    """One page with the editor; a workflow that it never finishes costs the browser, and a new one is opened."""

    def __init__(self, playwright: Playwright, url: str, object_info: str) -> None:
        self._playwright = playwright
        self._url = url
        self._object_info = object_info
        self._browser: Browser | None = None
        self._page: Page | None = None

    async def convert(self, workflow: Json) -> Json:
        """Return the prompt, `None` where the editor cannot load or convert the workflow."""
        page = self._page or await self._open()
        try:
            async with asyncio.timeout(_CONVERT_S):
                answer = await page.evaluate(_CONVERT, workflow)
        except TimeoutError:
            await self.close()
            return None
        return json.loads(answer).get("prompt")

    async def close(self) -> None:
        """End the browser."""
        browser, self._browser, self._page = self._browser, None, None
        if browser is not None:
            await browser.close()

    async def _open(self) -> Page:
        self._browser = await self._playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        page = await self._browser.new_page()
        await page.route("**/*", self._answer)
        await page.goto(self._url)
        await page.wait_for_function(_IS_READY, timeout=_START_S * 1000)
        await _settle(page)
        self._page = page
        return page

    async def _answer(self, route: Route) -> None:
        """Let nothing out but to the server; the catalog is ours."""
        url = route.request.url
        if not url.startswith(self._url):
            await route.abort()
        elif url.endswith("/object_info"):
            await route.fulfill(body=self._object_info, content_type="application/json")
        else:
            await route.continue_()


@asynccontextmanager
async def editor(
    installation: Installation, frontend: Path, object_info: str, base: Path, port: int
) -> AsyncIterator[Editor]:
    """Serve a frontend with a node catalog of choice; `base` holds the server's files."""
    url = f"http://127.0.0.1:{port}/"
    with _serving(installation, frontend, base, port):
        await asyncio.to_thread(_wait_for, url)
        async with async_playwright() as playwright:
            opened = Editor(playwright, url, object_info)
            try:
                yield opened
            finally:
                await opened.close()


async def _settle(page: Page) -> None:
    """Wait until the page has opened what it opens by itself, in place of what is asked for."""
    seconds = 0
    while seconds < _QUIET_S:
        if seconds == 0:
            await page.evaluate(_CONVERT, _FIRST)
        await page.wait_for_timeout(1000)
        seconds = seconds + 1 if await page.evaluate(_IDS) == ["77"] else 0


@contextmanager
def _serving(installation: Installation, frontend: Path, base: Path, port: int) -> Iterator[None]:
    folders = ("output", "input", "temp", "user")
    for name in folders:
        (base / name).mkdir(exist_ok=True)
    command = [str(installation.python), "main.py", "--cpu", "--listen", "127.0.0.1"]
    command += ["--port", str(port), "--front-end-root", str(frontend)]
    command += ["--database-url", "sqlite:///:memory:"]
    for name in folders:
        command += [f"--{name}-directory", str(base / name)]
    with (base / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=installation.directory, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(url: str) -> None:
    deadline = time.perf_counter() + _START_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            if time.perf_counter() > deadline:
                raise
            time.sleep(0.5)
        else:
            return
