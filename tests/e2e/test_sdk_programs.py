"""The programs of the README and the guides as users write them, from an empty home.

No server is started by hand: the first program starts one in the background.
"""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow
from tests.conftest import ComfyUI
from tests.e2e.guide import ROOT
from tests.e2e.server_process import picture, wait_until

POD = """
import json, sys
from comfyserve import Pod

pod = Pod(
    ports=[8000],
    cpu=1,
    memory="1Gi",
    keep_warm_seconds=30,
    entrypoint=[sys.executable, "-m", "comfyserve.engine", "--listen", "0.0.0.0", "--port", "8000"],
)
res = pod.create()
print(json.dumps({"url": res.url, "name": res.name, "status": res.status()}))
"""

API = """
from pathlib import Path

from comfyserve import ComfyUI, Image, Output, asgi, context, start_comfyui
from pydantic import BaseModel

HERE = Path(__file__).parent


class Wish(BaseModel):
    color: int


def on_start():
    return start_comfyui(engine="embedded")


@asgi(name="postcard", keep_warm_seconds=30, concurrent_requests=4, on_start=on_start, inputs=Wish)
def handler():
    from fastapi import FastAPI

    app = FastAPI()

    @app.post("/generate")
    async def generate(item: dict):
        async with ComfyUI(engine="embedded") as comfy:
            result = await comfy.run(HERE / "workflow_api.json", inputs={"1.color": item["color"]})
            path = Path(f"{item['color']}.png")
            path.write_bytes(await result.read())
        url = Output(path=path).public_url(expires=600)
        return {"image": url, "comfyui": context.on_start_value.url}

    @app.get("/")
    def hello():
        return {"version": 1}

    return app


def broken():
    raise ValueError("no weights here")


@asgi(name="broken", on_start=broken)
def fails():
    return None


@asgi(
    name="imaged",
    image=Image().add_commands(["echo built > hello.txt"]).with_envs({"GREETING": "hello"}),
)
def imaged():
    import os, sys

    async def app(scope, receive, send):
        said = f"{os.environ['GREETING']} {Path('hello.txt').read_text()} {sys.prefix}"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": said.encode()})

    return app


@asgi(name="nothing")
def makes_nothing():
    return {"not": "an app"}
"""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody with a directory, an empty home and nothing configured."""

    directory: Path
    env: Mapping[str, str]

    def python(self, code: str) -> Any:
        """Run a script; what it prints is JSON."""
        done = self._run([sys.executable, "-c", code])
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def comfyserve(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command."""
        return self._run([sys.executable, "-m", "comfyserve.cli.main", *arguments])

    def _run(self, argv: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, cwd=self.directory, env=self.env, capture_output=True, text=True, timeout=110
        )


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """One user for all tests here; the server that their programs started is stopped at the end."""
    base = tmp_path_factory.mktemp("user")
    (base / "config.toml").write_text("port = 0\n")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("COMFYSERVE_")}
    env = {
        **kept,
        "COMFYSERVE_CONFIG": str(base / "config.toml"),
        "COMFYSERVE_HOME": str(base / "home"),
    }
    code = base / "code"
    code.mkdir()
    (code / "api.py").write_text(API)
    (code / "workflow_api.json").write_text(json.dumps(picture(0)))
    user = User(code, env)
    yield user
    user.comfyserve("server", "stop")


def call(method: str, url: str, body: Any = None) -> tuple[int, bytes]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def pixel(data: bytes) -> Any:
    with Pillow.open(BytesIO(data)) as shown:
        return shown.convert("RGB").getpixel((0, 0))


@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_a_pod_with_comfyui_keeps_comfyuis_own_api(user: User) -> None:
    made = user.python(POD)
    url = made["url"].rstrip("/")
    assert made["status"] in {"asleep", "ready"}
    status, body = call("POST", f"{url}/prompt", {"prompt": picture(0x0000FF)})
    assert status == 200, body
    prompt_id = json.loads(body)["prompt_id"]

    def history() -> Any:
        return json.loads(call("GET", f"{url}/history/{prompt_id}")[1]).get(prompt_id)

    wait_until(history, 60, "the prompt has run")
    (shown,) = history()["outputs"]["2"]["images"]
    view = f"{url}/view?filename={shown['filename']}&type=output&subfolder={shown['subfolder']}"
    assert pixel(call("GET", view)[1]) == (0, 0, 255)
    script = (
        "from comfyserve.sdk.client import connect\n"
        "from comfyserve import PodInstance\n"
        f"pod = PodInstance({made['name']!r}, {made['url']!r}, 1, connect())\n"
        "pod.wait(60)\n"
        "print('To see the GUI' in '\\n'.join(pod.logs()) and 1)\n"
        "pod.terminate()\n"
    )
    assert user.python(script) == 1
    assert call("GET", f"{url}/queue")[0] == 410, "a terminated pod is gone for good"


@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_an_application_runs_a_workflow_and_links_to_the_picture(user: User) -> None:
    deployed = user.comfyserve("deploy", "api.py:handler")
    assert deployed.returncode == 0, deployed.stderr
    url = deployed.stdout.strip().rstrip("/")
    assert url.endswith("/d/postcard")
    status, body = call("POST", f"{url}/generate", {"color": "blue"})
    assert status == 422, "refused before anything woke"
    assert b"color" in body
    answers = [call("POST", f"{url}/generate", {"color": color}) for color in (255, 65280)]
    assert [status for status, _ in answers] == [200, 200], answers
    shown = [json.loads(body) for _, body in answers]
    assert [pixel(call("GET", each["image"])[1]) for each in shown] == [(0, 0, 255), (0, 255, 0)]
    assert shown[0]["comfyui"] == shown[1]["comfyui"], "one ComfyUI in the background"
    assert call("GET", f"{shown[0]['image']}x")[0] == 403
    again = user.comfyserve("deploy", "api.py:handler")
    assert "revision 2" in again.stderr
    assert json.loads(call("GET", f"{url}/")[1]) == {"version": 1}
    assert pixel(call("GET", shown[0]["image"])[1]) == (0, 0, 255), "it outlives its replica"


@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_an_application_runs_in_its_image_though_that_has_no_server(user: User) -> None:
    deployed = user.comfyserve("deploy", "api.py:imaged")
    assert deployed.returncode == 0, deployed.stderr
    assert "step 1/1" in deployed.stderr, "the build is shown"
    status, said = call("GET", deployed.stdout.strip())
    assert (status, said[:11]) == (200, b"hello built")
    assert b"/home/builds/" in said, "it runs on the image's Python"


@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_while_one_edits_the_address_stays(user: User) -> None:
    file = user.directory / "edited.py"
    text = "async def app(scope, receive, send):\n" + "".join(
        f"    await send({message})\n"
        for message in (
            "{'type': 'http.response.start', 'status': 200, 'headers': []}",
            "{'type': 'http.response.body', 'body': b'one'}",
        )
    )
    file.write_text(text)
    argv = [sys.executable, "-m", "comfyserve.cli.main", "serve-dev", "edited.py:app"]
    with subprocess.Popen(
        argv, cwd=user.directory, env=user.env, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.endswith("/d/app-dev/")
            assert call("GET", url) == (200, b"one")
            file.write_text(text.replace("b'one'", "b'two'"))
            wait_until(lambda: call("GET", url) == (200, b"two"), 90, "the change is served")
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert call("GET", url)[0] == 410


@pytest.mark.e2e
@pytest.mark.comfyui
@pytest.mark.timeout(300)
def test_the_real_comfyui_as_a_pod(user: User, comfyui: ComfyUI) -> None:
    entrypoint = [str(comfyui.python), str(comfyui.directory / "main.py"), "--port", "8000"]
    made = user.python(
        "import json\nfrom comfyserve import Pod\n"
        f"res = Pod(ports=[8000], entrypoint={entrypoint!r}).create()\n"
        "print(json.dumps({'url': res.url}))"
    )
    url = made["url"].rstrip("/")
    status, body = call("POST", f"{url}/prompt", {"prompt": picture(0xFF0000)})
    assert status == 200, body
    prompt_id = json.loads(body)["prompt_id"]

    def history() -> Any:
        return json.loads(call("GET", f"{url}/history/{prompt_id}")[1]).get(prompt_id)

    wait_until(history, 120, "the prompt has run")
    (shown,) = history()["outputs"]["2"]["images"]
    view = f"{url}/view?filename={shown['filename']}&type=output&subfolder={shown['subfolder']}"
    assert pixel(call("GET", view)[1]) == (255, 0, 0)


@pytest.mark.e2e
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("handler", "code", "says"),
    [
        ("api.py:nothing_there", 3, "has no 'nothing_there'"),
        ("missing.py:handler", 3, "there is no file 'missing.py'"),
        ("api.py:HERE", 2, "neither an @asgi application nor a Pod"),
        ("api.py:fails", 4, "ValueError: no weights here"),
        ("api.py:makes_nothing", 4, "makes_nothing() is no ASGI application but dict"),
    ],
)
def test_what_cannot_be_deployed_says_why(user: User, handler: str, code: int, says: str) -> None:
    done = user.comfyserve("deploy", handler)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr


@pytest.mark.e2e
def test_options_of_code_belong_into_the_code(user: User) -> None:
    done = user.comfyserve("deploy", "api.py:handler", "--gpu", "L4")
    assert done.returncode == 2
    assert "--gpu goes with a NAME" in done.stderr
    assert user.comfyserve("deploy", "demo", "--name", "x").returncode == 2


@pytest.mark.e2e
def test_the_guide_does_what_it_says(tmp_path: Path) -> None:
    """Its applications are what they are said to be, and the test in it passes."""
    text = (ROOT / "docs" / "guides" / "wrap-one-workflow.md").read_text("utf-8")
    hello, postcard, check = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "check.py").write_text(f"{hello}\n{check}\n{postcard}\nprint(postcard.name)\n")
    done = subprocess.run(
        [sys.executable, "check.py"], cwd=tmp_path, capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stdout) == (0, "postcard\n"), done.stderr
