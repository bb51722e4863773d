"""The playground in a real browser: what a person does with it, on a desktop and on a phone."""

import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, expect, sync_playwright
from tests.e2e.ports import two_free_ports
from tests.e2e.server_process import ServerProcess, picture, serving

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE_MS = 60_000
HOSTILE = "<img src=x onerror='window.hacked = 1'>"
WORKFLOW = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
    "2": {
        "class_type": "TestingSleep",
        "inputs": {"seconds": 1.0, "steps": 10, "previews": True, "tag": "", "anything": ["1", 0]},
        "_meta": {"title": "Paint slowly"},
    },
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "slow"}},
    "4": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 32, "batch_size": 1, "color": 255},
    },
    "5": {"class_type": "SaveImage", "inputs": {"images": ["4", 0], "filename_prefix": "plain"}},
}
MEDIA = {
    "1": {"class_type": "TestingAudio", "inputs": {"filename_prefix": "sound", "seconds": 0.1}},
    # An AVI, which no browser plays.
    "2": {"class_type": "TestingVideo", "inputs": {"filename_prefix": "film", "frames": 2}},
    "3": {"class_type": "TestingFail", "inputs": {"message": "wet"}, "_meta": {"title": "Mix"}},
    "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "never"}},
}
INPUTS: list[dict[str, Any]] = [
    {"name": "photo", "type": "image", "label": "Your photo", "required": True,
     "sets": [{"node": "1", "input": "image"}]},
    {"name": "prompt", "type": "text", "label": HOSTILE, "description": HOSTILE, "role": "prompt",
     "default": "a \"cat\" & 'dog' $HOME", "multiline": True, "sets": [{"node": "2", "input": "tag"}]},
    {"name": "seconds", "type": "number", "label": "Seconds", "min": 0, "max": 60, "step": 0.1,
     "default": 1.0, "sets": [{"node": "2", "input": "seconds"}]},
    {"name": "steps", "type": "integer", "label": "Steps", "role": "steps", "min": 1, "max": 50,
     "default": 10, "sets": [{"node": "2", "input": "steps"}]},
    {"name": "previews", "type": "boolean", "label": "Previews", "default": True,
     "sets": [{"node": "2", "input": "previews"}]},
    {"name": "seed", "type": "integer", "label": "Seed", "role": "seed", "min": 0, "max": 16777215,
     "default": 255, "sets": [{"node": "4", "input": "color"}]},
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    home = tmp_path_factory.mktemp("playground") / "home"
    with serving(home, two_free_ports()[0]) as server:
        server.deploy("demo", engine={"kind": "embedded"})
        interface = {"comfyserve_interface": 1, "source": "given", "inputs": INPUTS, "outputs": []}
        publish(server, "studio", WORKFLOW, interface)
        publish(server, "plain", {key: WORKFLOW[key] for key in ("4", "5")})
        publish(server, "media", MEDIA)
        yield server


def publish(server: ServerProcess, name: str, workflow: Any, interface: Any = None) -> None:
    body = {"workflow": workflow, **({"interface": interface} if interface else {})}
    made = server.request("PUT", f"/api/v1/endpoints/{name}?deployment=demo", body)
    assert made.status < 300, made.body


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}; install Debian's chromium")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Browser,
    server: ServerProcess,
    path: str = "/run/studio",
    *,
    expected: str = "responded with a status of 4",
    **options: Any,
) -> Iterator[Page]:
    """A page in a browser of its own; whatever its console complains of fails the test.

    A browser tells of each refusal that it gets, which is `expected`.
    """
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    page, complaints = context.new_page(), list[str]()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda told: complaints.append(told.text) if told.type == "error" else None)
    page.goto(server.url + path)
    yield page
    context.close()
    assert [text for text in complaints if expected not in text] == []


def photo() -> FilePayload:
    data = io.BytesIO()
    Image.linear_gradient("L").resize((32, 16)).save(data, "PNG")
    return {"name": "photo.png", "mimeType": "image/png", "buffer": data.getvalue()}


def give_photo(page: Page) -> None:
    page.set_input_files("input[type=file]", [photo()])


def ended(page: Page, state: str) -> None:
    expect(page.locator("#state")).to_have_text(state)


def loaded(page: Page, count: int) -> None:
    """So many pictures are there, and are pictures."""
    page.wait_for_function(
        "count => { const found = [...document.querySelectorAll('#outputs img')];"
        " return found.length === count && found.every(each => each.naturalWidth > 0) }",
        arg=count,
    )


def test_from_the_form_to_the_result_and_back_again(
    browser: Browser, server: ServerProcess
) -> None:
    assert server.replicas() == []
    with opened(browser, server) as page:
        expect(page.locator("h1")).to_have_text("studio")
        assert server.replicas() == [], "the page wakes nothing"
        give_photo(page)
        expect(page.locator(".drop img")).to_be_visible()
        page.fill("textarea", "first")
        page.fill("[name=seconds]", "4")
        page.click("#run")
        expect(page.locator("#stages [aria-current]")).to_have_text("running")
        expect(page.locator("#preview")).to_be_visible()
        expect(page.locator("#doing")).to_have_text(re.compile(r"Paint slowly: step \d+ of 10"))
        ended(page, "succeeded")
        loaded(page, 2)
        assert "ran" in page.locator("#receipt").inner_text()
        expect(page.locator("#progress")).to_be_hidden()
        page.reload()
        page.click("#runs button")
        loaded(page, 2)
        expect(page.locator("textarea")).to_have_value("first")
        page.click("#forget")
        expect(page.locator("#past")).to_be_hidden()


def test_what_is_wrong_is_marked_at_its_field(browser: Browser, server: ServerProcess) -> None:
    with opened(browser, server) as page:
        page.click("#run")
        wrong = page.locator(".wrong:visible")
        expect(wrong).to_have_text("This is needed.")
        give_photo(page)
        page.fill("[name=steps]", "77")
        page.click("#run")
        expect(wrong).to_contain_text("from 1 to 50")
        assert page.locator("[name=steps]").get_attribute("aria-invalid") == "true"
        expect(page.locator("#failure")).to_contain_text("marked")
        page.click("#reset")
        expect(wrong).to_have_count(0)
        expect(page.locator("[name=steps]")).to_have_value("10")


def test_inputs_of_one_node_are_told_apart(browser: Browser, server: ServerProcess) -> None:
    canvas = {"1": {**picture(7)["1"], "_meta": {"title": "The card"}}, "2": picture(7)["2"]}
    publish(server, "card", canvas)
    with opened(browser, server, "/run/card") as page:
        expect(page.locator("h1")).to_have_text("card")
        labels = page.locator(".field label:not(.switch)").all_inner_texts()
        assert len(labels) > 1
        assert len(set(labels)) == len(labels)
        assert all(label.startswith("The card (") for label in labels)


def test_a_run_can_be_canceled(browser: Browser, server: ServerProcess) -> None:
    with opened(browser, server) as page:
        give_photo(page)
        page.fill("textarea", "too long")
        page.fill("[name=seconds]", "60")
        page.click("#run")
        expect(page.locator("#stages [aria-current]")).to_have_text("running")
        page.click("#cancel")
        ended(page, "canceled")
        expect(page.locator("#run")).to_be_enabled()


def test_a_dropped_file_is_taken(browser: Browser, server: ServerProcess) -> None:
    with opened(browser, server) as page:
        data = list(photo()["buffer"])
        transfer = page.evaluate_handle(
            "data => { const found = new DataTransfer(); found.items.add(new File("
            "[new Uint8Array(data)], 'dropped.png', {type: 'image/png'})); return found }",
            data,
        )
        page.dispatch_event(".drop", "drop", {"dataTransfer": transfer})
        expect(page.locator(".drop")).to_contain_text("dropped.png")
        page.fill("[name=seconds]", "0")
        page.press("textarea", "Control+Enter")
        ended(page, "succeeded")
        loaded(page, 2)


def test_sound_plays_what_cannot_be_shown_is_said_and_failures_name_their_node(
    browser: Browser, server: ServerProcess
) -> None:
    with opened(browser, server, "/run/media") as page:
        expect(page.locator("#fields")).to_have_text("It takes none: just run it.")
        page.click("#run")
        ended(page, "failed")
        expect(page.locator("#failure")).to_have_text("Mix: wet")
        expect(page.locator("figure.video p")).to_have_text("This browser cannot show it.")
        page.wait_for_function("document.querySelector('figure audio').duration > 0")


def test_texts_of_a_workflow_stay_texts(browser: Browser, server: ServerProcess) -> None:
    with opened(browser, server, expected="inline script violates") as page:
        assert page.locator("label", has_text=HOSTILE).count() == 1
        assert page.locator(".about", has_text=HOSTILE).count() == 1
        assert page.evaluate("window.hacked") is None
        injected = page.evaluate(
            "() => { const script = document.createElement('script');"
            " script.textContent = 'window.hacked = 2'; document.body.append(script);"
            " return window.hacked ?? null }"
        )
        assert injected is None, "the policy of the page runs nothing inline"


def test_where_a_token_is_needed_it_is_asked_for(browser: Browser, server: ServerProcess) -> None:
    secret = server.post("/api/v1/tokens", {"name": "page", "scopes": ["run"]}).json["secret"]
    with opened(browser, server, extra_http_headers={"X-Forwarded-For": "203.0.113.9"}) as page:
        expect(page.locator("#work")).to_be_hidden()
        page.fill("#token", "cs_wrong")
        page.press("#token", "Enter")
        expect(page.locator("#trouble")).to_contain_text("not known")
        page.fill("#token", secret)
        page.press("#token", "Enter")
        give_photo(page)
        page.fill("[name=seconds]", "0")
        page.click("#run")
        ended(page, "succeeded")
        loaded(page, 2)
        assert page.evaluate("sessionStorage.getItem('comfyserve:token')") == secret
        assert secret not in page.evaluate("JSON.stringify(localStorage)")
        page.goto(f"{server.url}/run/studio?token={secret}")
        expect(page.locator("#work")).to_be_visible()
        assert "token" not in page.url


@pytest.mark.parametrize("endpoint", ["studio", "plain"])
def test_the_copied_code_runs(
    browser: Browser, server: ServerProcess, tmp_path: Path, endpoint: str
) -> None:
    snippets = {}
    with opened(browser, server, f"/run/{endpoint}") as page:
        if endpoint == "studio":
            give_photo(page)
            page.fill("[name=seconds]", "0")
        page.click("#show-code")
        for language in ("curl", "Python", "JavaScript"):
            page.click(f"#tab-{language}")
            snippets[language] = page.locator("#snippet").inner_text()
        page.press("#tab-JavaScript", "ArrowRight")
        expect(page.locator("#tab-curl")).to_be_focused()
    (tmp_path / "photo.png").write_bytes(photo()["buffer"])
    told = run(["bash", "-c", snippets["curl"]], tmp_path)
    assert json.loads(told)["state"] == "succeeded"
    if endpoint == "studio":
        assert json.loads(told)["inputs"]["prompt"] == "a \"cat\" & 'dog' $HOME"
    assert run([sys.executable, "-c", snippets["Python"]], tmp_path).startswith(server.url)
    if shutil.which("node"):
        (tmp_path / "call.mjs").write_text(snippets["JavaScript"])
        assert run(["node", "call.mjs"], tmp_path).startswith(server.url)


def run(argv: list[str], directory: Path) -> str:
    ran = subprocess.run(argv, cwd=directory, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it_and_everything_has_a_name(
    browser: Browser, server: ServerProcess, scheme: Any
) -> None:
    phone = {"width": 360, "height": 640}
    with opened(browser, server, viewport=phone, color_scheme=scheme, has_touch=True) as page:
        give_photo(page)
        page.fill("[name=seconds]", "0")
        page.click("#run")
        ended(page, "succeeded")
        loaded(page, 2)
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, "nothing is cut off at the side"
        nameless = page.evaluate(
            "() => [...document.querySelectorAll('input, select, textarea, button, img')]"
            ".filter(each => each.checkVisibility()).filter(each => !(each.labels?.length ||"
            " each.ariaLabel || each.alt || each.textContent.trim())).map(each => each.outerHTML)"
        )
        assert nameless == []
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(19, 19, 23)") is (scheme == "dark")


def test_an_endpoint_that_is_not_there_is_said_to_be(
    browser: Browser, server: ServerProcess
) -> None:
    with opened(browser, server, "/run/nothing") as page:
        expect(page.locator("#trouble")).to_contain_text("nothing")
        expect(page.locator("#work")).to_be_hidden()
