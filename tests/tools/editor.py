"""ComfyUI's own frontend in a browser, asked for the prompt that it makes of a workflow.

Needs a ComfyUI as `tests/tools/engine.py` looks for it, Chromium, and the `static` folder of the
`comfyui-frontend-package` of the version in question, unpacked. Nothing but the loopback is reached.
"""

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from playwright.sync_api import Page, Route, sync_playwright
from tests.tools.engine import Installation

Json: TypeAlias = Any

CHROMIUM: Final = "/usr/bin/chromium"
_START_S: Final = 180.0
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
    """One page with the editor."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def convert(self, workflow: Json) -> Json:
        """Return the prompt, `None` where the editor cannot load or convert the workflow."""
        return json.loads(self._page.evaluate(_CONVERT, workflow)).get("prompt")


@contextmanager
def editor(
    installation: Installation, frontend: Path, object_info: str, base: Path, port: int
) -> Iterator[Editor]:
    """Serve a frontend with a node catalog of choice, open it; `base` holds the server's files."""
    url = f"http://127.0.0.1:{port}/"
    with _serving(installation, frontend, base, port), sync_playwright() as playwright:
        _wait_for(url)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.route("**/*", lambda route: _only_local(route, url))
        page.route(
            "**/object_info",
            lambda route: route.fulfill(body=object_info, content_type="application/json"),
        )
        page.goto(url)
        page.wait_for_function(_IS_READY, timeout=_START_S * 1000)
        _settle(page)
        yield Editor(page)
        browser.close()


def _settle(page: Page) -> None:
    """Wait until the page has opened what it opens by itself, in place of what is asked for."""
    seconds = 0
    while seconds < _QUIET_S:
        if seconds == 0:
            page.evaluate(_CONVERT, _FIRST)
        page.wait_for_timeout(1000)
        seconds = seconds + 1 if page.evaluate(_IDS) == ["77"] else 0


def _only_local(route: Route, url: str) -> None:
    if route.request.url.startswith(url):
        route.continue_()
    else:
        route.abort()


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
