"""`ComfyUI`: workflows run from code on the embedded engine in the background."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow
from tests.conftest import ComfyUI as Installation

from comfyserve import ComfyUI, examples, start_comfyui
from comfyserve.domain.errors import InvalidInput, NotFound
from comfyserve.sdk import comfy_background
from comfyserve.sdk.comfy import Progress, RunFailed
from comfyserve.sdk.comfy_session import ComfySession
from comfyserve.sdk.errors import ClientError, ConnectionLost, PromptRefused, ServerFailed, TimedOut


@pytest.fixture(scope="module")
def background() -> Iterator[str]:
    """One engine for all tests here, started by two at once."""
    found: list[str] = []

    def start() -> None:
        found.append(start_comfyui(engine="embedded").url)

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1, "one was started, the other found"
    yield found[0]
    comfy_background.stop()


@pytest.fixture
async def comfy(background: str) -> AsyncIterator[ComfySession]:
    """A connection to it."""
    async with ComfyUI(engine="embedded") as session:
        assert session.url == background
        yield session


def solid(color: int, prefix: str = "out", title: str = "Colour") -> dict[str, Any]:
    size = {"width": 8, "height": 8, "batch_size": 1}
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {**size, "color": color},
            "_meta": {"title": title},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    }


def sleeping(seconds: float) -> dict[str, Any]:
    steps = 5 + int(seconds * 10)
    inputs = {"seconds": seconds, "steps": steps, "previews": False, "tag": ""}
    return {
        "1": {"class_type": "TestingSleep", "inputs": inputs},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }


def pixel(data: bytes) -> Any:
    with Pillow.open(BytesIO(data)) as picture:
        return picture.convert("RGB").getpixel((0, 0))


async def test_runs_at_once_give_each_its_own_picture(comfy: ComfySession) -> None:
    """All save under one prefix: only the run itself says which file is whose."""
    colors = [0xFF0000, 0x00FF00, 0x0000FF, 0xFF0000]
    results = await asyncio.gather(*(comfy.run(solid(color)) for color in colors))
    pixels = [pixel(await result.read()) for result in results]
    assert pixels == [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 0, 0)]
    assert len({result.prompt_id for result in results}) == 4


async def test_progress_names_nodes_by_their_titles(comfy: ComfySession) -> None:
    seen: list[Progress] = []
    await comfy.run(solid(123456), on_progress=seen.append)
    assert ("started", "Colour") in [(each.kind, each.node_title) for each in seen]
    assert seen[-1].finished_nodes == seen[-1].total_nodes == 2
    steps: list[float] = []

    async def take(progress: Progress) -> None:
        if progress.kind == "step":
            steps.append(progress.value / progress.maximum)

    await comfy.run(sleeping(0.05), on_progress=take)
    assert steps == sorted(steps)
    assert steps[-1] == 1.0


async def test_an_editors_export_runs_with_a_file_and_inputs_by_name(
    comfy: ComfySession, tmp_path: Path
) -> None:
    photo = tmp_path / "photo.png"
    Pillow.new("RGB", (16, 16), (9, 8, 7)).save(photo)
    directory = Path(examples.__file__).parent
    result = await comfy.run(directory / "postcard.json", inputs={"the_photograph": photo})
    output = await result.output()
    assert output.stat().content_type == "image/png"
    assert (await result.url()).startswith("file:///"), "outside of a replica"


async def test_any_input_can_be_set_by_its_node(comfy: ComfySession) -> None:
    result = await comfy.run(solid(0), inputs={"1.color": 0x102030})
    assert pixel(await result.read()) == (16, 32, 48)


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"class_type": "EmptyImag"}, PromptRefused, 'node 1 "Colour"'),
        ({"inputs": {"width": "wide"}}, PromptRefused, "would not run"),
    ],
)
async def test_what_would_not_run_is_refused_before_it_is_queued(
    comfy: ComfySession, change: dict[str, Any], kind: type[Exception], says: str
) -> None:
    workflow = solid(1)
    workflow["1"] |= change
    with pytest.raises(kind, match=says):
        await comfy.run(workflow)


async def test_what_is_no_workflow_or_no_input_says_so(comfy: ComfySession, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        await comfy.run({"a": 1})
    with pytest.raises(InvalidInput, match="has no input 'promt'"):
        await comfy.run(solid(1), inputs={"promt": "x"})
    with pytest.raises(NotFound, match="cannot be read"):
        await comfy.run(tmp_path / "nothing.json")
    with pytest.raises(NotFound, match="cannot be read"):
        await comfy.run(solid(1), inputs={"x": tmp_path / "nothing.png"})


async def test_a_node_that_fails_is_named_with_its_trace(comfy: ComfySession) -> None:
    workflow = {
        "1": {
            "class_type": "TestingFail",
            "inputs": {"anything": ["3", 0], "message": "out of ideas"},
            "_meta": {"title": "The culprit"},
        },
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        "3": solid(1)["1"],
    }
    with pytest.raises(RunFailed, match=r'node 1 "The culprit": .*out of ideas') as caught:
        await comfy.run(workflow)
    assert caught.value.node_id == "1"


async def test_a_canceled_call_cancels_the_run(comfy: ComfySession) -> None:
    started = asyncio.Event()

    def note(progress: Progress) -> None:
        started.set()

    running = asyncio.create_task(comfy.run(sleeping(30), on_progress=note))
    await asyncio.wait_for(started.wait(), 20)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    after = await asyncio.wait_for(comfy.run(solid(7)), 20)
    assert after.files, "the next one need not wait for it"


async def test_a_run_that_takes_too_long_is_ended(comfy: ComfySession) -> None:
    with pytest.raises(TimedOut, match=r"longer than 0\.3 s"):
        await comfy.run(sleeping(30), timeout=0.3)
    assert (await asyncio.wait_for(comfy.run(solid(8)), 20)).files


@pytest.mark.usefixtures("background")
def test_a_script_runs_one_without_a_loop() -> None:
    result = ComfyUI(engine="embedded").run(json.dumps(solid(3)).encode())
    assert result.file.name.endswith(".png")


@pytest.mark.comfyui
@pytest.mark.timeout(240)
async def test_a_real_comfyui_is_started_and_runs_several_at_once(
    comfyui: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_OWN_DIRECTORY", "_STARTED"):  # as another process has them
        monkeypatch.setattr(comfy_background, name, [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    try:
        async with ComfyUI(comfyui_dir=comfyui.directory) as comfy:
            results = await asyncio.gather(*(comfy.run(solid(color)) for color in (255, 65280)))
            assert [pixel(await each.read()) for each in results] == [(0, 0, 255), (0, 255, 0)]
            running = asyncio.create_task(comfy.run(solid(9)))
            await asyncio.sleep(0)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
    finally:
        await asyncio.to_thread(comfy_background.stop)


async def test_nothing_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFound, match=r"Image.comfyui\(...\)"):
        await ComfyUI().__aenter__()
    with pytest.raises(NotFound, match="no ComfyUI in"):
        await ComfyUI(comfyui_dir=tmp_path).__aenter__()
    monkeypatch.setattr(comfy_background, "_OWN_DIRECTORY", [])  # as another process has it
    with pytest.raises(ServerFailed, match="ended with code"):
        start_comfyui("embedded", args=["--port", "not-a-port"])
    async with ComfyUI(url="http://127.0.0.1:9") as comfy:
        with pytest.raises(ConnectionLost):
            await comfy.run(solid(1))
    assert issubclass(ConnectionLost, ClientError)
